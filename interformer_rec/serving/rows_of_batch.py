"""A training Batch as a scorer's Inputs: each row is a user with one candidate. For the comparison that export makes, and for tests."""

import numpy as np

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema
from interformer_rec.serving.request import NO_ROW, Bags, Histories, Inputs, Rows, Side


def inputs_of(batch: Batch, features: FeatureSchema) -> Inputs:
    """All rows of a batch on the host."""
    keyed = {**batch.sparse.to_dict(), **batch.sequences.to_dict()}
    values = {key: part.values().numpy().astype(np.int64) for key, part in keyed.items()}
    lengths = {key: part.lengths().numpy().astype(np.int64) for key, part in keyed.items()}
    groups = {group.name: [f"{group.name}.{column.name}" for column in group.columns] for group in features.sequences}
    dense = {feature.name: batch.dense[:, at].numpy() for at, feature in enumerate(features.dense)}
    count = batch.batch_size

    def ids(name: str) -> np.ndarray:
        found = np.full(count, NO_ROW, np.int64)
        found[lengths[name] > 0] = values[name]
        return found

    def side(names: Side) -> Rows:
        histories = [
            Histories(np.stack([values[key] for key in groups[name]], axis=1), lengths[groups[name][0]])
            for name in names.histories
        ]
        return Rows(
            np.concatenate([np.zeros((count, 0), np.float32), *(dense[n][:, None] for n in names.dense)], axis=1),
            np.concatenate([np.zeros((count, 0), np.int64), *(ids(name)[:, None] for name in names.ids)], axis=1),
            tuple(Bags(values[name], lengths[name]) for name in names.bags),
            tuple(histories),
        )

    users, candidates = Side.both(features)
    rows = side(users)
    if batch.request_of is not None:  # the requests' columns fill the first rows
        rows = _taken(rows, batch.request_of.numpy())
    return Inputs(rows, side(candidates), np.arange(count))


def _taken(rows: Rows, of: np.ndarray) -> Rows:
    """Row of[i] of `rows` at i."""
    return Rows(
        rows.dense[of],
        rows.ids[of],
        tuple(Bags(*_picked(bag.rows, bag.lengths, of)) for bag in rows.bags),
        tuple(Histories(*_picked(one.rows, one.lengths, of)) for one in rows.histories),
    )


def _picked(values: np.ndarray, lengths: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts, counts = (np.cumsum(lengths) - lengths)[of], lengths[of]
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return values[np.repeat(starts, counts) + inside], counts


def part_of(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Rows start .. stop-1 of independent rows."""

    def cut(rows: Rows) -> Rows:
        return Rows(
            rows.dense[start:stop],
            rows.ids[start:stop],
            tuple(Bags(*_cut(bag.rows, bag.lengths, start, stop)) for bag in rows.bags),
            tuple(Histories(*_cut(one.rows, one.lengths, start, stop)) for one in rows.histories),
        )

    users = cut(inputs.users)
    return Inputs(users, cut(inputs.candidates), np.arange(users.count))


def _cut(values: np.ndarray, lengths: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return values[ends[start] : ends[min(stop, len(lengths))]], lengths[start:stop]
