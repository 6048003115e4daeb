"""Options of history pre-training: epochs that train on past events of the histories. In: that part of a run's YAML. No torch."""

from pydantic import Field

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.strict import Count, Name, Strict


class HistoryPretrainingConfig(Strict):
    """History pre-training: the first epochs replace each row by an earlier event of the same user (data/history_pretraining.py)."""

    epochs: Count = Field(1, description="the first ones of training.epochs; each draws other events")
    history: Name = Field(
        description="group of features.sequences whose events are drawn: everything that was shown, best"
    )
    labels: dict[Name, Name] = Field(
        description="for every label, the group in which an event stands that has it: {is_click: clicked}, say"
    )

    def check(self, features: FeatureSchema, epochs: int, members: int) -> None:
        """Raises ValueError where the schema, training.epochs or model.ensemble_members do not allow it."""
        if self.epochs >= epochs:
            raise ValueError(
                f"data.history_pretraining.epochs: {self.epochs} of training.epochs: {epochs} train on events, which "
                f"leaves no epoch for the rows: raise training.epochs to {self.epochs + members} or more"
            )
        if self.epochs % members:
            raise ValueError(
                f"model.ensemble_members: {members} trains one member an epoch, so data.history_pretraining.epochs must be a "
                f"multiple of it, not {self.epochs}"
            )
        groups, labels = [group.name for group in features.sequences], [label.name for label in features.labels]
        for name in (self.history, *self.labels.values()):
            if name not in groups:
                raise ValueError(
                    f"data.history_pretraining names {name!r}, which is no group of features.sequences: {groups}"
                )
        if set(self.labels) != set(labels):
            raise ValueError(
                f"data.history_pretraining.labels names {list(self.labels)}: an event needs each of the labels {labels} and no other"
            )
        firsts = {group.name: group.columns[0].table for group in features.sequences}
        for name in self.labels.values():
            if firsts[name] != firsts[self.history]:
                raise ValueError(
                    f"data.history_pretraining looks for events of {self.history!r} in {name!r} by their first columns, which read tables "
                    f"{firsts[self.history]!r} and {firsts[name]!r}: put the item's id first in both, with one table"
                )
        if self.history in self.labels.values():
            raise ValueError(
                f"data.history_pretraining.labels: every event of {self.history!r} stands in it, so all would have the label; "
                "name a history of those that had it"
            )
        columns = event_columns(features, self.history)
        if not any(columns.get(feature.name) == 0 for feature in features.ids if feature.null == "row"):
            raise ValueError(
                f"data.history_pretraining: an event of {self.history!r} takes the candidate's place, but no id of features.candidate "
                f"reads {firsts[self.history]!r}, the table of its first column: name the candidate's features there, and give them "
                "the events' tables"
            )


def event_columns(features: FeatureSchema, history: str) -> dict[str, int]:
    """Id or bag of the candidate -> the column of the history's events that reads its table; the first feature of a table only."""
    tables = [column.table for group in features.sequences if group.name == history for column in group.columns]
    found: dict[str, int] = {}
    for feature in (*features.ids, *features.bags):
        if feature.name in features.candidate and feature.table in tables:
            column = tables.index(feature.table)
            if column not in found.values():
                found[feature.name] = column
    return found
