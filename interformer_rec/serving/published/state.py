"""A version with its deltas. In: what current.json names; out: vocabularies, tables and graphs as if all had been exported anew.

Needs no torch where the graphs do not.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from interformer_rec.data.fit import Fitted
from interformer_rec.data.growth.admission import follow
from interformer_rec.errors import DamagedError
from interformer_rec.serving import artefact
from interformer_rec.serving.contents import Runtime, Weights
from interformer_rec.serving.published.delta import Before, OpenDelta, chain
from interformer_rec.serving.published.overlay import Overlay
from interformer_rec.serving.published.pointer import Current, current
from interformer_rec.serving.scorer import Scorer
from interformer_rec.serving.tables import MappedTable, TableFile
from interformer_rec.storage import Storage

RENEWED = "interformer_rec.serving.runtimes:renewed_graph"  # loads torch


@dataclass(frozen=True)
class State:
    """What current.json names, on this machine."""

    path: str  # of the folder or URI
    now: Current
    version: artefact.Version
    deltas: tuple[OpenDelta, ...]  # all since the version, oldest first
    fitted: Fitted  # vocabularies after them
    _scorers: dict[Runtime, Scorer] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: str, present: State | None = None) -> State:
        """`present`: an earlier state of `path`, of which nothing is read again; it may be of no use.

        Raises InputError, DamagedError where a file is not what was written or a delta is missing.
        """
        now = current(path)
        if present is None or (present.now.version, present.now.sha256) != (now.version, now.sha256):
            version = artefact.open(path, now.version)
            present = cls(path, now.base, version, (), version.fitted)
        version = present.version
        deltas = tuple(chain(Storage.open(path), now, version.contents, present.now.delta))
        if present.deltas and now.delta != present.now.delta and (not deltas or deltas[0].said.sequence == 1):
            present = cls(path, now.base, version, (), version.fitted)  # it was no state before this one
        return cls(
            path,
            now,
            version,
            (*present.deltas, *deltas),
            fitted_after(present.fitted, version, deltas),
            {one: scorer_after(scorer, version, deltas, one) for one, scorer in present._scorers.items()},
        )

    def scorer(self, runtime: Runtime, threads: int) -> Scorer:
        """Ready to answer; made once."""
        if runtime not in self._scorers:
            found = scorer_after(self.version.scorer(runtime, threads), self.version, self.deltas, runtime)
            self._scorers[runtime] = found
        return self._scorers[runtime]

    @property
    def before(self) -> Before:
        """For a delta to this state."""
        newest = self.now.delta
        return Before(
            version=self.now.version,
            version_sha256=self.version.sha256,
            delta=None if newest is None else newest.id,
            delta_sha256=None if newest is None else newest.sha256,
        )

    @property
    def weights(self) -> Weights:
        """Which it has."""
        return self.deltas[-1].said.weights if self.deltas else self.version.contents.weights

    def golden(self) -> list[dict[str, Any]]:
        """Requests with their scores: {"row": {column: value}, "scores": {task: probability}} each."""
        return self.deltas[-1].golden() if self.deltas else self.version.golden()


def fitted_after(fitted: Fitted, version: artefact.Version, deltas: Sequence[OpenDelta]) -> Fitted:
    """Vocabularies of `version`, which are `fitted` before these deltas. Raises DamagedError."""
    tables = version.config.features.tables
    for delta in deltas:
        fixed = [name for name in delta.said.vocabularies if name not in tables or tables[name].grow is None]
        if fixed:
            raise DamagedError(f"delta {delta.said.id!r} changes the ids of table {fixed[0]!r}, which does not grow")
        if delta.said.vocabularies:
            fitted = follow(fitted, delta.changes(fitted))
    return fitted


def scorer_after(scorer: Scorer, version: artefact.Version, deltas: Sequence[OpenDelta], runtime: Runtime) -> Scorer:
    """What `scorer` of `version` is after these deltas; it stays as it is, and both share what has not changed. Raises DamagedError."""
    tables, dense = scorer.tables, None
    for delta in deltas:
        tables = _with_rows(tables, delta)
        dense = delta if delta.said.dense else dense
    if dense is None:
        return scorer.renewed(tables, scorer.graphs)
    if runtime == "aoti":
        renewed = pkgutil.resolve_name(RENEWED)
        return scorer.renewed(tables, [renewed(graph, dense.folder, version.folder) for graph in scorer.graphs])
    return scorer.renewed(
        tables, artefact.graphs_of(version.folder, version.contents, version.config, runtime, renewed=dense.folder)
    )


def _with_rows(tables: Mapping[str, MappedTable], delta: OpenDelta) -> dict[str, MappedTable]:
    """Tables of one file share the overlay of it."""
    changed: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name in delta.said.tables:
        rows, values = delta.rows(name)
        changed.setdefault(id(tables[name].file), []).append((rows + tables[name].first, values))
    files: dict[int, TableFile] = {}
    for table in tables.values():
        if (key := id(table.file)) in changed and key not in files:
            overlay = table.file if isinstance(table.file, Overlay) else Overlay(table.file)
            rows, values = (np.concatenate(parts) for parts in zip(*changed[key], strict=True))
            files[key] = overlay.with_rows(rows, values)
    return {name: replace(one, file=files.get(id(one.file), one.file)) for name, one in tables.items()}
