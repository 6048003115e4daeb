"""The start of a window: its ids are counted, growing tables admit new ones. In: the window's files; out: what was fitted, grown, and what
changed.

Each rank counts its share of the row groups (`count_window`). Their sum decides (`admit`), in one place: what changed is small, and is all
that the other ranks need (`follow`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.counts import Counts
from interformer_rec.data.files.source import Source
from interformer_rec.data.files.struct_lists import with_candidate_lists
from interformer_rec.data.fit import Fitted
from interformer_rec.data.growth.vocabulary import GrowingVocabulary, VocabularyChange
from interformer_rec.data.streaming_pass import id_columns, pieces


def growing_tables(features: FeatureSchema) -> list[str]:
    """Names of the tables with `grow`."""
    return [name for name, table in features.tables.items() if table.grow is not None]


def count_window(
    features: FeatureSchema,
    source: Source,
    workers: int = 1,
    part: tuple[int, int] = (0, 1),
    beat: Callable[[], None] = lambda: None,
) -> dict[str, Counts]:
    """How often each id of a growing table occurs in the window; of the row groups that are this rank's (`part`: rank, and of how many).

    All columns that feed a table count, a history's too: an id that is looked up is in use. `beat` is called once a row group. Raises
    InputError for unreadable files.
    """
    source = with_candidate_lists(source, features)
    growing = growing_tables(features)
    columns = [(column, table) for column, table in id_columns(features) if table in growing]
    counts = {name: Counts() for name in growing}
    rank, world_size = part
    for piece in pieces(source, features, columns, [], workers, range(rank, len(source.group_rows), world_size)):
        for name, counted in piece.counts:
            counts[name].add(counted)
        beat()
    return counts


def admit(
    features: FeatureSchema, fitted: Fitted, counted: Mapping[str, Counts]
) -> tuple[Fitted, dict[str, VocabularyChange]]:
    """Every growing table after a window with these counts. Raises InputError for ids of another kind than before."""
    changes, growing = {}, dict(fitted.growing)
    for name, counts in counted.items():
        rule = features.tables[name].grow
        assert rule is not None
        growing[name], changes[name] = growing[name].grown(*counts.vocabulary(1, None), rule, name)
    return with_growing(fitted, growing), changes


def with_growing(fitted: Fitted, growing: Mapping[str, GrowingVocabulary]) -> Fitted:
    """With these vocabularies in place of the ones of the same tables."""
    vocabularies = {name: vocabulary.ids for name, vocabulary in growing.items()}
    counts = {name: vocabulary.counts for name, vocabulary in growing.items()}
    return replace(
        fitted,
        vocabularies={**fitted.vocabularies, **vocabularies},
        counts={**fitted.counts, **counts},
        growing=dict(growing),
    )


def follow(
    fitted: Fitted, changes: Mapping[str, VocabularyChange], counts: Mapping[str, np.ndarray] | None = None
) -> Fitted:
    """What `admit` gave elsewhere, for reading: ids and their rows, without what the next admission needs (`growing` is empty).

    `counts`: of each row of these tables; training needs them (data/id_dropout.py).
    """
    vocabularies = {name: change.applied(fitted.vocabularies[name]) for name, change in changes.items()}
    return replace(
        fitted,
        vocabularies={**fitted.vocabularies, **vocabularies},
        counts={**fitted.counts, **(counts or {})},
        growing={},
    )
