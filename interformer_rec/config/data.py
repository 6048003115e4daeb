"""Which files a run reads and how their rows become batches. In: the `data:` part of a run's YAML. No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.config.strict import Count, CountOrNone, Location, Strict
from interformer_rec.config.windows import WindowsConfig


def _bad_row_limit(value: Any) -> float | int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not value >= 0
        or (isinstance(value, float) and value > 1)
    ):
        raise ValueError("it is a share of the rows, 0.0 to 1.0, or a number of rows (an integer of at least 0)")
    return value


class DataConfig(Strict):
    """Parquet files and how they become batches. Paths: file, glob, directory or URI (s3://, gs://, hdfs://, file://)."""

    train: Location | None = Field(None, description="fitted and trained on")
    valid: Location | None = Field(None, description="watched during training: early stopping, best checkpoint")
    test: Location | None = Field(None, description="scored once, at the end, with the best checkpoint")
    batch_size: Count = Field(1024, description="rows a rank and step")
    eval_batch_size: Count = Field(4096, description="rows a rank and step of an evaluation")
    shuffle_rows: CountOrNone = Field(65536, description="rows mixed in the shuffle buffer; 0 reads in file order")
    balance: Literal["none", "events", "groups"] = Field(
        "events",
        description="what the shuffle sees to. events: every training batch of every rank has about as many; groups: the rows of one "
        "features.group in the shuffle buffer come together, for training.pairwise_loss_weight",
    )
    workers: int = Field(1, ge=1, le=64, description="threads that decode Parquet on each rank")
    prefetch: int = Field(2, ge=1, le=1_000, description="decoded shuffle buffers kept ahead")
    on_bad_row: Literal["error", "skip"] = Field("error", description="skip: bad rows are left out and counted")
    max_decoded_bytes: int | None = Field(
        None,
        ge=1,
        le=2**63 - 1,
        description="row groups that decode to more at a time are refused; null: 16 GiB, or 2 GiB for a column of more than 1,000 times "
        "its stored size",
    )
    max_bad_rows: Annotated[float | int, PlainValidator(_bad_row_limit)] = Field(
        0.5,
        description="rows of each data set that `on_bad_row: skip` may leave out before that is an error: a share, 0.0 to 1.0, or a number "
        "(an integer); that no row is left is always one",
    )
    id_dropout: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="an id that the training data has n times reads its vocab table's unknown row instead with probability id_dropout / "
        "(id_dropout + n), in training only; with data.windows in growing tables alone; 0: never",
    )
    history_pretraining: HistoryPretrainingConfig | None = Field(
        None,
        description="history pre-training: the first epochs train on past events of the histories; null: rows only",
    )

    windows: WindowsConfig | None = Field(
        None,
        description="rows in time order instead of data.train: evaluate on each window, then train on it; null: data.train",
    )

    @property
    def to_train(self) -> tuple[str, str | None]:
        """Where the rows to train on are: the key, and its path."""
        return ("data.train", self.train) if self.windows is None else ("data.windows.path", self.windows.path)

    @property
    def pretraining_epochs(self) -> int:
        """How many of the first epochs are of events."""
        return self.history_pretraining.epochs if self.history_pretraining else 0
