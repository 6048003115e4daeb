"""The candidate as an event: the fields of a batch come in, for each history a vector laid out like its events goes out.

A history's column and the candidate's field of the same meaning read one table (the video shown and the videos watched): that
is how they are matched. Legend: B samples, k columns of width w.
"""

import torch
from torch import Tensor

from interformer_rec.config.features import FeatureSchema
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import Embedded, field_groups, table_dims


class CandidateEvent:
    """For each history, where its columns' fields stand in Embedded.fields.

    Of several fields with a column's table the first counts, ids before bags. A column that no field shares (a rating the
    candidate does not have yet) is zeros. Raises InputError for a history that shares no table with any field.
    """

    def __init__(self, features: FeatureSchema, embedding_dim: int, kind: str) -> None:
        self.dim = table_dims(features, embedding_dim)
        places: dict[str, tuple[int, int]] = {}  # table -> (dim, place among the fields of that dim)
        for dim, lookups in field_groups(features, embedding_dim).items():
            for place, lookup in enumerate(lookups):
                places.setdefault(lookup.table, (dim, place))
        self.columns = {
            group.name: [places.get(column.table) for column in group.columns] for group in features.sequences
        }
        for group in features.sequences:
            if not any(self.columns[group.name]):
                tables = ", ".join(sorted({column.table for column in group.columns}))
                raise InputError(
                    f"model.kind {kind} looks at a history from the candidate's side, but history {group.name!r} shares no "
                    f"table with a field: none under features.ids or features.bags reads {tables}. Give the candidate's "
                    f"field that table (`table: {group.columns[0].table}`), or use a kind that needs no candidate"
                )
        self.event_dim = self.dim[features.sequences[0].columns[0].table] if features.sequences else 0
        self.widths = {group.name: len(group.columns) * self.event_dim for group in features.sequences}

    def __call__(self, embedded: Embedded, group: str) -> Tensor:
        """(B, k * w) candidate, side by side as the columns of the group's events."""
        some = next(iter(embedded.fields.values()))
        missing = some.new_zeros(some.shape[0], self.event_dim)
        return torch.cat(
            [embedded.fields[at[0]][:, at[1]] if at is not None else missing for at in self.columns[group]], dim=1
        )
