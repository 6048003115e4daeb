"""The rows of the window that a run is in. In: the order of the windows; out: the loader that training reads, and state to save."""

from typing import Any

from interformer_rec.config.run import RunConfig
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import Fitted
from interformer_rec.distributed.environment import Environment
from interformer_rec.training.build import eval_loader, loader_of
from interformer_rec.training.skipped import SkippedRows
from interformer_rec.training.timeline import Position
from interformer_rec.training.windows.order import Order, Present
from interformer_rec.training.windows.totals import Totals


class WindowRows:
    """Methods are collective unless they say otherwise."""

    def __init__(
        self, config: RunConfig, env: Environment, order: Order, fitted: Fitted, train: SkippedRows, position: Position
    ) -> None:
        """`train` and `position` read the window that is entered."""
        self.order, self.totals = order, Totals([label.name for label in config.features.labels])
        self.fitted = fitted  # vocabularies of the present window, once it has begun; of the one before until then
        self._config, self._env, self._train, self._position = config, env, train, position

    @property
    def present(self) -> Present:
        """The window that the run is in."""
        assert self.order.present is not None, "no window has begun"
        return self.order.present

    def enter(self) -> bool:
        """Go to the next window. False: none is there that is whole."""
        epochs = self._config.training.epochs
        if not self.order.next(self._position.epoch, epochs):
            return False
        self._read(self.present)
        return True

    def read_again(self) -> None:
        """Read the present window from its beginning, with the vocabularies that `fitted` has now."""
        self._read(self.present)

    def to_judge(self) -> SkippedRows:
        """The rows of the present window, to evaluate on."""
        loader = eval_loader(self._config, self._source(self.present), self._env, self.fitted)
        name = f"data.windows, window {self.present.name!r}"
        return SkippedRows(loader, self._config.data.max_bad_rows, name, self._env)

    def evaluated(self, metrics: dict[str, float], sums: dict[str, list[float]]) -> None:
        """Note what the evaluation of the present window says. Those that vocabularies were fitted on stay out of the totals."""
        self.order.evaluated()
        if self.order.trained >= self.order.options.fit_on:
            self.totals.add(metrics, sums)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; JSON-able. Not collective."""
        return {**self.order.state(), "totals": self.totals.state()}

    def load_state(self, state: dict[str, Any], epoch: int) -> None:
        """Continue from `state()` in `epoch`. Raises InputError where the window that training is in is not as it was."""
        self.order.load_state(state, epoch)
        self.totals.load_state(state["totals"])
        if self.order.present is not None and self.order.present.source is not None:
            self._read(self.order.present)

    def _read(self, window: Present) -> None:
        loader = loader_of(self._config, self._source(window), self._env, self.fitted)
        self._train.read(loader)
        self._position.begin_window(loader, window.end_epoch)

    @staticmethod
    def _source(window: Present) -> Source:
        assert window.source is not None, "a window that was left behind"
        return window.source
