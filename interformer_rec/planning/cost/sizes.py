"""How large the tables and how long the lists are. In: a run config and whatever is known about its data; out: Sizes, with sources.

For every table and list the first of these that knows it: what the user says (`rows`, `lengths`), a statistics file (`tables` and
`sequences` as in a run's data.json, or a saved plan), the run folder's data.json, NAME.json in a folder statistics/ beside the
config, the files of data.train (fitted and sampled), the schema with a stated assumption.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.arrays import lists
from interformer_rec.data.decode.kinds import check_kinds
from interformer_rec.data.event_store.joined import open_rows
from interformer_rec.data.files.source import Source
from interformer_rec.data.fit import fit
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import json_object
from interformer_rec.planning.cost.lengths import Lengths, lengths_of
from interformer_rec.planning.cost.repeats import Repeats, first_rows, measure, of_entry
from interformer_rec.redaction import redact
from interformer_rec.storage import read_file

ASSUMED_BAG = 10.0  # ids of a bag nobody has counted
MOST_ROWS = 1 << 40  # of a table: 128 TiB at the default width
SAMPLE_ROWS = 200_000  # rows whose list lengths are counted
REPEAT_ROWS = 32_768  # rows whose ids are counted
REPEATS = "distinct ids in a batch"
FEW_ROWS = 10_000  # at the start of a training job, which waits for it


@dataclass(frozen=True)
class Sizes:
    """Rows of every table (special rows included) and lengths by sequence group or bag; `sources` says where each is from."""

    rows: dict[str, int]
    lengths: dict[str, Lengths]
    sources: dict[str, str] = field(default_factory=dict)
    repeats: dict[str, Repeats] = field(default_factory=dict)  # of tables whose ids were counted

    def of_lookup(self, key: str) -> Lengths:
        """Of a key of a batch: `group.column`, a bag's name, or an id (one a row)."""
        return self.lengths.get(key) or self.lengths.get(key.split(".")[0]) or Lengths.constant(1.0)

    def to_dict(self) -> dict[str, Any]:
        """As a run's data.json has them, so that a saved plan is a statistics file too."""
        return {
            "tables": {
                name: {"rows": rows, **(self.repeats[name].to_dict() if name in self.repeats else {})}
                for name, rows in self.rows.items()
            },
            "sequences": {name: vars(lengths) for name, lengths in self.lengths.items()},
        }


def by_source(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Source -> what is from there."""
    found: dict[str, list[str]] = {}
    for what, source in sources.items():
        found.setdefault(source, []).append(what)
    return found


def find_sizes(
    config: RunConfig,
    config_path: str | None = None,
    statistics: str | None = None,
    rows: Mapping[str, int] | None = None,
    lengths: Mapping[str, float] | None = None,
) -> Sizes:
    """Everything the schema mentions gets a size. Raises InputError that names the tables nobody knows, and how to tell."""
    found = _Found(config.features)
    found.take_user(dict(rows or {}), dict(lengths or {}))
    beside = Path(config_path).parent / "statistics" / f"{Path(config_path).stem}.json" if config_path else None
    if statistics is not None:
        found.take_file(statistics)
    for path in (config.run_dir / "data.json", beside):
        if path is not None and not found.complete and path.is_file():
            found.take_file(str(path))
    found.take_schema()
    if config.data.to_train[1] is not None and not (found.complete and found.repeats):
        found.take_data(config)
    found.take_assumptions()
    missing = [name for name in config.features.tables if name not in found.rows]
    if missing:
        raise InputError(
            f"rows of {len(missing)} table(s) are not known: {', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}. "
            f"{found.why} Give them with --rows {missing[0]}=1000000, a statistics file (--statistics, for example the data.json "
            f"of a run), num_embeddings in the schema, or set data.train to files that can be read"
        )
    for name in config.features.tables:
        if found.rows[name] > MOST_ROWS:
            source = found.sources[f"rows of {name}"]
            raise InputError(f"table {name!r} has {found.rows[name]} rows ({source}); a plan takes up to {MOST_ROWS}")
    rows = {name: found.rows[name] for name in config.features.tables}
    return Sizes(rows, found.lengths, found.sources, found.repeats_of(rows))


def sizes_of_job(features: FeatureSchema, rows: Mapping[str, int], source: Source | None) -> Sizes:
    """Of a job that is about to train: rows as fitted, lengths from the first rows of its data, or assumed."""
    found = _Found(features)
    found._rows(rows, "fitted")
    if source is not None:
        with suppress(InputError):  # whoever reads these rows to train on them says what is wrong with them
            found.take_sample(source, "sample of the training data", FEW_ROWS)
            found.take_repeats(source, FEW_ROWS)
    found.take_assumptions()
    return Sizes(dict(rows), found.lengths, found.sources, found.repeats_of(rows))


def with_distinct(sizes: Sizes, features: FeatureSchema, shares: Mapping[str, float], batch_size: int) -> Sizes:
    """With `shares` (above 0, to 1) of the ids that a batch of so many rows reads from a table that differ. Raises InputError.

    Of other batches the power law that runs through one id and this number tells.
    """
    if not shares:
        return sizes
    given = dict(sizes.repeats)
    for name, share in shares.items():
        if name not in features.tables:
            raise InputError(f"--distinct names {name!r}; the schema has {', '.join(features.tables)}")
        if not 0 < share <= 1:
            raise InputError(f"--distinct {name}={share:g}: a share of the ids of a batch, above 0 and up to 1")
        lookups = (*features.pooled_lookups, *features.jagged_lookups)
        ids = batch_size * sum(sizes.of_lookup(lookup.key).mean for lookup in lookups if lookup.table == name)
        if ids > 1:
            head = given[name].head if name in given else ()
            given[name] = Repeats(((ids, max(1.0, share * ids)),), head)
    sources = sizes.sources | {f"distinct ids of {name}": "given with --distinct" for name in shares}
    if given.keys() >= sizes.rows.keys():
        sources.pop(REPEATS, None)
    return replace(sizes, sources=sources, repeats=given)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"rows {value!r}: a whole number from 1")
    return value


class _Found:
    """What is known so far; earlier sources win."""

    def __init__(self, features: FeatureSchema) -> None:
        self.features = features
        self.lists = {group.name: float(group.max_length) for group in features.sequences}
        self.lists |= {bag.name: float("inf") for bag in features.bags}
        self.rows: dict[str, int] = {}
        self.lengths: dict[str, Lengths] = {}
        self.repeats: dict[str, Repeats] = {}
        self.sources: dict[str, str] = {}
        self.why = "data.train is not set."

    @property
    def complete(self) -> bool:
        return self.rows.keys() == self.features.tables.keys() and self.lengths.keys() == self.lists.keys()

    def take_user(self, rows: dict[str, int], lengths: dict[str, float]) -> None:
        for what, given, names in (("rows", rows, self.features.tables), ("lengths", lengths, self.lists)):
            for name, value in given.items():
                if name not in names:
                    raise InputError(f"--{what} names {name!r}; the schema has {', '.join(names) or 'none'}")
                if not value >= (1 if what == "rows" else 0):
                    raise InputError(f"--{what} {name}={value}: must be at least {1 if what == 'rows' else 0}")
        for name, mean in lengths.items():
            if mean > self.lists[name]:
                raise InputError(f"--lengths {name}={mean}: longer than its max_length, {self.lists[name]:.0f}")
        self._rows(rows, "given with --rows")
        # of a mean alone: half the rows up to it, the longest twice as long or cut off
        spread = {
            name: Lengths(mean, mean, min(1.8 * mean, self.lists[name]), *([min(2 * mean, self.lists[name])] * 2))
            for name, mean in lengths.items()
        }
        self._lengths(spread, "given with --lengths")

    def take_file(self, path: str) -> None:
        content = read_file(path, "statistics file")
        try:
            tree = json_object(content, repr(path))
            tree = tree.get("statistics", tree)
            rows = {name: _whole(entry["rows"]) for name, entry in tree.get("tables", {}).items()}
            repeats = {name: of_entry(entry) for name, entry in tree.get("tables", {}).items()}
            lengths = {name: lengths_of(entry) for name, entry in tree.get("sequences", {}).items()}
        except DamagedError as error:
            raise InputError(f"statistics file {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"statistics file {path!r} cannot be used: {error!r}; it needs tables.NAME.rows and sequences.GROUP with "
                f"mean, p50, p95, p99, max, empty, as the data.json of a run has them"
            ) from None
        self._rows(rows, redact(path))
        self._lengths(lengths, redact(path))
        self.repeats = {**{n: found for n, found in repeats.items() if found is not None}, **self.repeats}

    def take_schema(self) -> None:
        sized = {n: t.special_rows + t.num_embeddings for n, t in self.features.tables.items() if t.num_embeddings}
        self._rows(
            {n: rows for n, rows in sized.items() if self.features.tables[n].ids != "vocab"}, "schema: num_embeddings"
        )
        growing = {n: t.special_rows + t.grow.rows for n, t in self.features.tables.items() if t.grow}
        self._rows(growing, "schema: grow.rows")

    def take_data(self, config: RunConfig) -> None:
        key, files = config.data.to_train
        path = redact(str(config.written(tuple(key.split(".")))))
        try:
            source = open_rows(files or "", config.data, self.features)
            check_kinds(source, self.features, labels=False)
            if not self.repeats:
                self.take_repeats(source)
            self.take_sample(source, f"sample of {path}")
            if self.rows.keys() != self.features.tables.keys():
                self._rows(fit(self.features, source, config.data.workers).table_rows, f"fitted on {path}")
        except InputError as error:
            self.why = f"{key} cannot be used: {error}."

    def take_sample(self, source: Source, name: str, most: int = SAMPLE_ROWS) -> None:
        """Lengths in the first `most` rows' row groups, after truncation, of lists that are not known yet; a null list is empty."""
        wanted = [name for name in self.lists if name not in self.lengths]
        if not wanted:
            return
        columns = {group.name: group.columns[0].column for group in self.features.sequences}
        columns |= {bag.name: bag.column for bag in self.features.bags}
        table = first_rows(self.features, source, [columns[name] for name in wanted], most)
        lengths = {name: lists(table[columns[name]]).lengths.astype(np.float64) for name in wanted}
        self._lengths({n: Lengths.of(np.minimum(counts, self.lists[n])) for n, counts in lengths.items()}, name)

    def take_repeats(self, source: Source, most: int = REPEAT_ROWS) -> None:
        self.repeats = measure(self.features, source, most)
        self.sources[REPEATS] = "counted in the first rows of the training data"

    def repeats_of(self, rows: Mapping[str, int]) -> dict[str, Repeats]:
        """Of known tables; and a sentence on those whose ids nobody counted."""
        found = {name: self.repeats[name] for name in rows if name in self.repeats}
        if len(found) < len(rows):
            self.sources[REPEATS] = "assumed: every row of a table is as frequent as any other"
        return found

    def take_assumptions(self) -> None:
        capped = {n: t.special_rows + t.num_embeddings for n, t in self.features.tables.items() if t.num_embeddings}
        self._rows(capped, "schema: the vocabulary's cap num_embeddings")
        full = {group.name: Lengths.constant(group.max_length) for group in self.features.sequences}
        self._lengths(full, "assumed: every history has max_length events")
        bags = {bag.name: Lengths.constant(ASSUMED_BAG) for bag in self.features.bags}
        self._lengths(bags, f"assumed: {ASSUMED_BAG:.0f} ids a bag")

    def _rows(self, rows: Mapping[str, int], source: str) -> None:
        for name, count in rows.items():
            if name in self.features.tables and name not in self.rows:
                self.rows[name], self.sources[f"rows of {name}"] = count, source

    def _lengths(self, lengths: Mapping[str, Lengths], source: str) -> None:
        for name, value in lengths.items():
            if name in self.lists and name not in self.lengths:
                self.lengths[name], self.sources[f"lengths of {name}"] = value, source
