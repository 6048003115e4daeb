"""Metrics over all ranks. In: logits, labels, weights and group keys of batches; out: numbers, equal on every rank.

`EvalMetrics` is exact over a whole evaluation set; `IntervalMetrics` holds sums only and is for the training steps
between two log lines. A metric that its rows do not define (no rows, one class only, weights all zero, a logit that is
not finite) is NaN, on all ranks alike; it never stops some ranks only.
"""

import math

import numpy as np
import torch
from torch.nn.functional import softplus

from interformer_rec.config.features import NULL_GROUP
from interformer_rec.metrics import exact as metrics_exact
from interformer_rec.metrics.platt import derivatives, fit_line
from interformer_rec.metrics.ranks import Ranks
from interformer_rec.metrics.recalibration import AS_IT_IS, Line, Lines

GROUPED = ("gauc", "gauc_request")  # means over groups, and over requests
KEPT_ON_DEVICE = 16  # batches of a GPU whose copies to the host wait for each other: one sync instead of 16


class EvalMetrics:
    """AUC, GAUC, logloss, normalised entropy and calibration of an evaluation set, exact, sample weights included.

    Memory: a rank keeps 8 bytes a task + 4 bytes (+ 8 with `group`, + 8 with `request`) a row in host memory: 20 bytes for one
    task with groups. `compute` works on one task after the other and takes about 150 bytes more for each of the rank's rows while
    it runs (90 without other ranks; docs/decisions/0005-metrics.md); no rank gathers the others' rows.

    AUC ranks by the float32 logits: more of them are distinct than of their sigmoids, so it can differ from an AUC of
    float32 probabilities where those tie.

    GAUC is the mean of the AUCs of the groups (users), weighted by each group's sum of sample weights (its impressions
    where there are none); groups of one class are left out, and so are rows without a group (NULL_GROUP), which
    `rows_without_group` counts: nobody knows which of them are one user's. It is taken over the whole set on all ranks; TorchRec's
    GAUC metric takes each contiguous run of rows in a batch for a group. GAUC by request is the same with requests as groups, wherever
    batches and ranks divide them.
    """

    def __init__(
        self, tasks: list[str], group: bool, device: torch.device | str = "cpu", request: bool = False
    ) -> None:
        """`tasks`: label names, the order of the columns of logits; `device`: of the collectives, see Ranks; `request`: rows are the
        candidates of requests."""
        self.tasks = list(tasks)
        self.group, self.request = group, request
        self._ranks = Ranks(device)
        self._waiting: list[tuple[torch.Tensor, ...]] = []
        self._scores: list[list[np.ndarray]] = [[] for _ in self.tasks]
        self._labels: list[list[np.ndarray]] = [[] for _ in self.tasks]
        self._weights: list[np.ndarray] = []
        self._groups: dict[str, list[np.ndarray]] = {
            name: [] for name, on in zip(GROUPED, (group, request), strict=True) if on
        }
        self._sums = np.zeros((len(self.tasks), len(_SUMS)))
        self._rows = self._without_group = 0

    @torch.no_grad()
    def update(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        groups: torch.Tensor,
        requests: torch.Tensor | None = None,
    ) -> None:
        """Add rows of this rank: logits and labels (B, tasks), weights (B,) >= 0, groups (B,) int64; with `request` requests (B,)
        int64, a number that only the rows of one request have. No collective."""
        requests = torch.zeros_like(groups) if requests is None else requests
        matrix, vector = (len(weights), len(self.tasks)), (len(weights),)
        shapes = [tuple(part.shape) for part in (logits, labels, weights, groups, requests)]
        if shapes != [matrix, matrix, vector, vector, vector]:
            raise ValueError(
                f"logits, labels, weights, groups, requests are {shapes}, not {[matrix, matrix, vector, vector, vector]}"
            )
        parts = (logits.float(), labels.float(), weights.float(), groups.long(), requests.long())
        self._waiting.append(tuple(part.detach() for part in parts))
        if logits.device.type == "cpu" or len(self._waiting) >= KEPT_ON_DEVICE:
            self._take_waiting()

    def compute(self) -> dict[str, float]:
        """`rows`, `rows_without_group` (with groups), and for every task t: t/auc, t/gauc (with groups), t/gauc_request (with
        requests), t/logloss, t/ne, t/calibration, t/base_rate.

        A collective; the same on every rank. More rows may be added afterwards.
        """
        self._take_waiting()
        sums = self._ranks.sum(self._sums)
        rows, without_group = self._ranks.sum(np.array([self._rows, self._without_group], np.float64)).tolist()
        result = {"rows": rows, "rows_without_group": without_group} if self.group else {"rows": rows}
        for index, task in enumerate(self.tasks):
            values = ratios(sums[index])
            # Every rank has the same sums, so all of them enter the exchange or none does.
            exact = {name: self._grouped_auc(index, sums[index], name) for name in ("auc", *self._groups)}
            result.update({f"{task}/{name}": value for name, value in {**exact, **values}.items()})
        return result

    def sums(self) -> dict[str, list[float]]:
        """Of every task, over all rows: weight of positives and of negatives, weighted probability and logloss, rows that are not finite.

        A collective; the same on every rank. Sums of several sets may be added up, and `ratios` makes metrics of them.
        """
        self._take_waiting()
        return dict(zip(self.tasks, self._ranks.sum(self._sums).tolist(), strict=True))

    def recalibrate(self) -> Lines:
        """Fit a line to every label's logits (platt.py) and score by them from here on; AS_IT_IS where none fits (collective)."""
        self._take_waiting()
        return {task: self._recalibrate(index) for index, task in enumerate(self.tasks)}

    def _recalibrate(self, index: int) -> Line:
        positive, negative, _, _, not_finite = self._ranks.sum(self._sums)[index].tolist()
        if not (positive and negative) or not_finite:
            return AS_IT_IS
        scores, labels = _joined(self._scores[index], np.float32), _joined(self._labels[index], np.float32)
        weights = _joined(self._weights, np.float32)

        def mean(line: Line) -> np.ndarray:
            return self._ranks.sum(derivatives(scores, labels, weights, line)) / (positive + negative)

        line = fit_line(mean)
        if line is None:
            return AS_IT_IS
        self._scores[index][:] = [scores * np.float32(line[0]) + np.float32(line[1])]
        self._sums[index] = _sums(self._scores[index][0], labels, weights)
        return line

    def undefined(self) -> str | None:
        """Why no metric of any label is defined, with the cure; None where some is (collective)."""
        self._take_waiting()
        sums = self._ranks.sum(self._sums)
        rows = int(self._ranks.sum(np.array([self._rows]))[0])
        if any(_usable(of_task) for of_task in sums):
            return None
        if not rows:
            return "there was no row to score"
        if not sums[:, 4].all():
            return f"all {rows:,} rows have weight 0. Correct features.weight's column, or name other files"
        return (
            f"{int(sums[:, 4].min()):,} of {rows:,} scores are not finite: the weights of the model are not. Train again with a lower "
            "optimizer.dense.lr or optimizer.embedding.lr, or with optimizer.dense.clip_norm"
        )

    def calibration_bins(self, task: str, bins: int = 20) -> list[dict[str, float]]:
        """Means of probability and label in `bins` bins of equal weight, lowest scores first, over all ranks.

        A collective; the same on every rank. Equal scores share a bin, so heavy ties give fewer bins, no rows none.
        """
        self._take_waiting()
        index = self.tasks.index(task)
        if not _usable(self._ranks.sum(self._sums)[index]):
            return []
        sums = metrics_exact.quantile_bins(self._spread(index, None), bins, self._ranks)
        return [{"mean_score": p / w, "mean_label": y / w, "weight": w} for p, y, w in sums.tolist()]

    def _grouped_auc(self, index: int, sums: np.ndarray, name: str) -> float:
        if not _usable(sums):
            return math.nan
        keys = _joined(self._groups[name], np.int64) if name in self._groups else None
        return metrics_exact.grouped_auc(self._spread(index, keys), self._ranks)

    def _spread(self, index: int, keys: np.ndarray | None) -> metrics_exact.ScoredRows:
        scores, labels, weights = (
            _joined(part, np.float32) for part in (self._scores[index], self._labels[index], self._weights)
        )
        if keys is not None and self._without_group:
            weights = np.where(keys == NULL_GROUP, np.float32(0), weights)  # rows of weight 0 are left out
        return metrics_exact.spread(metrics_exact.scored_rows(keys, scores, labels, weights), self._ranks)

    def _take_waiting(self) -> None:
        """Copy what waits to the host (the device sync) and add to the sums."""
        for parts in self._waiting:
            logits, labels, weights, *keys = (part.cpu().numpy() for part in parts)
            self._rows += len(weights)
            self._weights.append(weights.copy())  # a view would keep the whole batch alive
            for name, of_name in zip(GROUPED, keys, strict=True):
                if name in self._groups:
                    self._groups[name].append(of_name.copy())
            if self.group:
                self._without_group += int(np.count_nonzero(keys[0] == NULL_GROUP))
            for index in range(len(self.tasks)):
                score, label = logits[:, index].copy(), labels[:, index].copy()
                self._scores[index].append(score)
                self._labels[index].append(label)
                self._sums[index] += _sums(score, label, weights)
        self._waiting.clear()


class IntervalMetrics:
    """Loss, normalised entropy and calibration of the training steps since the last `compute`: sums, no rows.

    `update` only launches device work; the one sync and the one collective are in `compute`.
    """

    def __init__(self, tasks: list[str], device: torch.device) -> None:
        """`device`: where the loss and the logits are; labels and weights may be on the host."""
        self.tasks = list(tasks)
        self._device = device
        self._ranks = Ranks(device)
        self.weight = 0.0  # of the rows of all ranks that the last `compute` was about
        self.weighing = 0.0  # how many of them have a weight above 0
        self._reset()

    @torch.no_grad()
    def update(
        self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, rows: int
    ) -> None:
        """Add a step: its loss (a scalar), logits and labels (B, tasks), weights (B,); `rows` is 0 for a filler."""
        self._steps += 1
        self._rows += rows
        self._loss += torch.stack([loss.detach().double(), (weights > 0).sum().to(self._device, torch.float64)])
        parts = (part.detach().to(self._device, torch.float64, non_blocking=True) for part in (logits, labels, weights))
        x, y, w = parts
        w = w[:, None]
        terms = (w * y, w * (1 - y), w * x.sigmoid(), w * (y * softplus(-x) + (1 - y) * softplus(x)))
        self._sums += torch.stack([term.sum(dim=0) for term in terms], dim=1)

    def compute(self) -> dict[str, float]:
        """`loss` (mean of steps and ranks), `rows`, `ne` and `calibration` (means of tasks), t/ne and t/calibration.

        A collective; the same on every rank. Starts the next interval.
        """
        mine = torch.cat([self._loss, self._sums.flatten()]).cpu().numpy()
        counts = np.array([self._steps, self._rows], np.float64)
        loss, self.weighing, *flat = self._ranks.sum(mine).tolist()
        steps, rows = self._ranks.sum(counts).tolist()
        self._reset()
        result = {"loss": loss / steps if steps else math.nan, "rows": rows}
        self.weight = flat[0] + flat[1] if flat else 0.0
        tasks = [ratios(np.array([*sums, 0.0])) for sums in np.reshape(flat, (len(self.tasks), 4))]
        for name in ("ne", "calibration"):
            result[name] = sum(task[name] for task in tasks) / len(tasks) if tasks else math.nan
            result.update({f"{task}/{name}": values[name] for task, values in zip(self.tasks, tasks, strict=True)})
        return result

    def state(self) -> list[float]:
        """This rank's sums, for a checkpoint; those of several ranks may be added up."""
        return [float(self._steps), float(self._rows), *self._loss.tolist(), *self._sums.flatten().tolist()]

    def load_state(self, state: list[float]) -> None:
        """Continue from `state()`."""
        self._steps, self._rows = int(state[0]), int(state[1])
        self._loss = torch.tensor(state[2:4], dtype=torch.float64, device=self._device)
        self._sums = torch.tensor(state[4:], dtype=torch.float64, device=self._device).view(len(self.tasks), 4)

    def _reset(self) -> None:
        self._steps = self._rows = 0
        self._loss = torch.zeros(2, dtype=torch.float64, device=self._device)  # and the rows whose weight is not 0
        self._sums = torch.zeros((len(self.tasks), 4), dtype=torch.float64, device=self._device)


_SUMS = ("positive", "negative", "probability", "logloss", "not_finite")


def _sums(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(5,) float64, as _SUMS names them: weighted sums over rows (n,), and how many rows are not finite."""
    x, y, w = (part.astype(np.float64) for part in (scores, labels, weights))
    finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(w)
    if not finite.all():
        x, y, w = x[finite], y[finite], w[finite]
    surprise = np.logaddexp(0.0, -x)  # -log(probability); -log(1 - probability) is x more
    loss = surprise + (1.0 - y) * x
    return np.array([w @ y, w @ (1.0 - y), w @ np.exp(-surprise), w @ loss, len(finite) - len(x)])


def _usable(sums: np.ndarray) -> bool:
    positive, negative, _, _, not_finite = sums.tolist()
    return positive + negative > 0 and not_finite == 0


def ratios(sums: np.ndarray) -> dict[str, float]:
    """The metrics that sums (5,) of rows define (EvalMetrics.sums). NE: the logloss over the entropy of the base rate (He et al., 2014)."""
    positive, negative, probability, loss, _ = sums.tolist()
    if not _usable(sums):
        return dict.fromkeys(("logloss", "ne", "calibration", "base_rate"), math.nan)
    weight = positive + negative
    shares = (positive / weight, negative / weight)  # one class only: exactly 0 and 1, since each has its own sum
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    return {
        "logloss": loss / weight,
        "ne": loss / weight / entropy if entropy > 0 else math.nan,
        "calibration": probability / positive if positive > 0 else math.nan,
        "base_rate": shares[0],
    }


def _joined(chunks: list[np.ndarray], dtype: type) -> np.ndarray:
    """The chunks as one array, which then takes their place, so that the rows are not kept twice."""
    if len(chunks) != 1:
        chunks[:] = [np.concatenate(chunks) if chunks else np.empty(0, dtype)]
    return chunks[0]
