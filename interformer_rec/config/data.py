"""Which files a run reads and how their rows become batches. In: the `data:` part of a run's YAML. No torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from interformer_rec.config.features import FeatureSchema, SequenceGroup
from interformer_rec.config.history_pretraining import HistoryPretrainingConfig
from interformer_rec.config.strict import Count, CountOrNone, Location, Name, Strict
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


class EventsConfig(Strict):
    """Histories that are stored once: a row has its user and time, and gets the newest events before it (data/event_store/)."""

    user: Name = Field(description="column of the user, in the rows and in the stores")
    time: Name = Field(
        description="column of the time, in the rows and in the stores; events before a row's are its history"
    )
    stores: dict[Name, Location] = Field(
        min_length=1,
        description="history of features.sequences -> its events, as `interformer data events` writes them: {clicks: PATH}; its columns, "
        "and its timestamp, are then not in the rows",
    )
    delay: float = Field(
        0.0,
        ge=0,
        le=1e15,
        description="how long after an event a server has it: a row's history ends so much before the row, in seconds; of an integer time "
        "in its unit",
    )
    cache: Location | None = Field(
        None,
        description="folder on this machine for the stores as they are read, which its ranks share; null: one in the system's folder for "
        "temporary files",
    )

    def columns(self, features: FeatureSchema) -> dict[str, tuple[str, ...]]:
        """History -> the columns of rows that its store stands for."""
        return {group.name: _columns(group) for group in features.sequences if group.name in self.stores}

    def check(self, features: FeatureSchema) -> None:
        """Raises ValueError where the schema has no such history, or something else reads its columns."""
        groups = [group.name for group in features.sequences]
        for name in self.stores:
            if name not in groups:
                raise ValueError(
                    f"data.events.stores names {name!r}, which is no group of features.sequences: {groups}"
                )
        for key, named in (("user", self.user), ("time", self.time)):
            if named in features.candidate_columns:
                raise ValueError(
                    f"data.events.{key}: column {named!r} is a candidate's (features.request); a request has one user and one time"
                )
        found = self.columns(features)
        others = [feature.column for feature in (*features.dense, *features.ids, *features.bags, *features.labels)]
        others += [name for name in (features.weight, features.group, self.user, self.time) if name is not None]
        others += [one for group in features.sequences if group.name not in found for one in _columns(group)]
        for history, columns in found.items():
            mine = [one for name, held in found.items() if name != history for one in held]
            for column in columns:
                if column in others or column in mine:
                    raise ValueError(
                        f"column {column!r} of history {history!r} comes from data.events.stores, and something else reads a column of "
                        "that name: give the store's column a name of its own (interformer data events --columns NEW=OLD)"
                    )


def _columns(group: SequenceGroup) -> tuple[str, ...]:
    named = [column.column for column in group.columns] + ([group.timestamp] if group.timestamp else [])
    return tuple(dict.fromkeys(named))


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

    events: EventsConfig | None = Field(None, description="histories that are stored once; null: they lie in the rows")

    @property
    def to_train(self) -> tuple[str, str | None]:
        """Where the rows to train on are: the key, and its path."""
        return ("data.train", self.train) if self.windows is None else ("data.windows.path", self.windows.path)

    @property
    def pretraining_epochs(self) -> int:
        """How many of the first epochs are of events."""
        return self.history_pretraining.epochs if self.history_pretraining else 0

    def check(self, features: FeatureSchema, epochs: int, members: int) -> None:
        """Raises ValueError where the schema, training.epochs or model.ensemble_members do not allow it."""
        if self.history_pretraining is not None:
            self.history_pretraining.check(features, epochs, members)
        if self.events is not None:
            self.events.check(features)
