"""The `features` part of a drafted config. In: a Draft; out: lines of YAML, with the facts beside every feature."""

from collections.abc import Iterator

from interformer_rec.data.column_roles import heavy_tail
from interformer_rec.data.inspect.draft import Draft, Group
from interformer_rec.data.inspect.profile import Column
from interformer_rec.data.written_names import feature_names, free, scalar, shown

TIMES = "no model reads times: for data.history_pretraining, and to have the order of all rows checked"
HASH_ABOVE = 200_000  # distinct ids in the sample from which a vocabulary is no longer the better choice


def features(guess: Draft) -> Iterator[str]:
    """From `features:` to the group column."""
    yield from _Names(guess).features()


class _Names:
    """The draft with the names that features and tables get; a table has the name of the feature that owns it."""

    def __init__(self, guess: Draft) -> None:
        self._guess = guess
        events = [column for group in guess.groups for column in group.columns.values()]
        self._lookups = (*guess.ids, *guess.bags, *events)
        columns = (*self._lookups, *guess.dense, *((guess.label,) if guess.label else ()))
        self._names = feature_names(dict.fromkeys(column.name for column in columns))
        self._groups: set[str] = set()

    def features(self) -> Iterator[str]:
        """All lines."""
        guess = self._guess
        yield "features:"
        readers: dict[str, list[Column]] = {}
        for column in self._lookups:
            readers.setdefault(guess.tables[column.name], []).append(column)
        about = "  # one embedding table each; features that hold the same ids share one" if readers else " {}"
        yield f"  tables:{about}"
        yield from (f"    {self._name(table)}: {_table(columns)}" for table, columns in readers.items())
        if guess.ids:
            yield "  ids:"
            yield from (f"    - {self._feature(column)}  # {_facts(column)}" for column in guess.ids)
        if guess.bags:
            yield "  bags:"
            yield from (f"    - {self._feature(bag)}  # {_facts(bag)}; {_lengths(bag)}" for bag in guess.bags)
        if guess.dense:
            yield "  dense:"
            yield from (f"    - {self._dense(column)}" for column in guess.dense)
        if guess.groups:
            yield "  sequences:"
            for group in guess.groups:
                yield from self._group(group)
        if listed := self._candidates():
            structs = f", column: {scalar(guess.structs)}" if guess.structs else ""
            where = "fields of its structs, a struct a candidate" if guess.structs else "lists, an element a candidate"
            yield f"  request: {{candidates: [{', '.join(listed)}]{structs}}}  # these and the labels are {where}"
        yield from self._labels()
        if guess.group_key is not None:
            yield f"  group: {scalar(guess.group_key.name)}  # rows of one value are one user's in GAUC"

    def _labels(self) -> Iterator[str]:
        label = self._guess.label
        yield "  labels:"
        if label is not None:
            yield f"    - {self._named(label)}  # mean {_mean(label):.4f}"
            return
        yield "    # YOUR label's column, values in [0, 1]; take the name out of the features above. Columns it could be, or be made of:"
        for column, held in self._guess.candidates.items():
            yield f"    # - {scalar(column)}  # {held}"

    def _candidates(self) -> list[str]:
        """Names of the features that are lists of candidates."""
        columns = (*self._guess.ids, *self._guess.bags, *self._guess.dense)
        return [self._name(column.name) for column in columns if column.name in self._guess.request]

    def _name(self, column: str) -> str:
        return scalar(self._names[column])

    def _feature(self, column: Column) -> str:
        table = self._guess.tables[column.name]
        if table == column.name:
            return self._named(column)
        return f"{{name: {self._name(column.name)}, column: {scalar(column.name)}, table: {self._name(table)}}}"

    def _named(self, column: Column) -> str:
        name = self._name(column.name)
        return name if name == scalar(column.name) else f"{{name: {name}, column: {scalar(column.name)}}}"

    def _group(self, group: Group) -> Iterator[str]:
        first = next(iter(group.columns.values()))
        (safe,) = feature_names([group.name]).values()
        features = (*self._guess.ids, *self._guess.bags, *self._guess.dense)
        name = free(safe, {*self._groups, *(self._names[column.name] for column in features)})
        self._groups.add(name)
        yield f"    - name: {scalar(name)}"
        yield f"      max_length: {group.max_length}  # {_lengths(first)}"
        if group.timestamp is not None:
            yield f"      # timestamp: {scalar(group.timestamp.name)}  # {TIMES}"
        yield "      columns:"
        shorts = feature_names(group.columns)
        for short, column in group.columns.items():
            table = self._name(self._guess.tables[column.name])
            read = f"{{name: {scalar(shorts[short])}, column: {scalar(column.name)}, table: {table}}}"
            yield f"        - {read}  # {_facts(column)}"

    def _dense(self, column: Column) -> str:
        """Fill where nulls were seen; log1p, which keeps the sign, where a few values are far larger than the rest."""
        options = {"name": self._name(column.name)}
        if self._name(column.name) != scalar(column.name):
            options["column"] = scalar(column.name)
        if column.nulls:
            options["fill"] = f"{column.median():.6g}"
        if heavy_tail(column):
            options["log1p"] = "true"
        if column.kind != "bool":
            options["standardise"] = "true"
        written = ", ".join(f"{key}: {value}" for key, value in options.items())
        nulls = f"; {_percent(column.null_share)} null: filled with the median" if column.nulls else ""
        note = f"; {self._guess.notes[column.name]}" if column.name in self._guess.notes else ""
        return f"{{{written}}}  # {column.low:.6g} to {column.high:.6g}{nulls}{note}"


def _table(columns: list[Column]) -> str:
    """Options of a table, and who reads it."""
    most = max(columns, key=lambda column: column.distinct)
    if most.distinct > HASH_ABOVE:
        options = f"{{ids: hash, num_embeddings: {10 ** len(str(4 * most.distinct))}}}"
        note = f"  # over {HASH_ABOVE:,} ids in the sample alone: set num_embeddings to what you expect"
    else:
        rare = most.distinct > 1000 and most.distinct * 10 > most.rows and not any(column.is_list for column in columns)
        options, note = ("{min_count: 2}", "  # many ids are rare: those seen once share a row") if rare else ("{}", "")
    names = [shown(column.name) for column in columns]
    return options + (f"  # read by {', '.join(names)}" if len(names) > 1 else note)


def _facts(column: Column) -> str:
    nulls = column.null_share if not column.is_list else column.element_nulls / max(sum(map(sum, column.lengths)), 1)
    return f"{'over ' if column.capped else ''}{column.distinct:,} ids" + (f", {_percent(nulls)} null" if nulls else "")


def _lengths(column: Column) -> str:
    null = f", {_percent(column.null_share)} null" if column.nulls else ""
    return f"lengths: median {column.length(50)}, 95% up to {column.length(95)}, longest {column.length(100)}{null}"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def _mean(column: Column) -> float:
    return float(column.sample().cast("float64").drop_null().to_numpy(zero_copy_only=False).mean())
