"""`interformer inspect PATH`: somebody else's Parquet files -> a first run config (YAML) with the facts beside every
feature.

The draft is meant to be read and corrected: names and values suggest roles, they do not prove them. What was not
taken as a feature stands at the end, with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from interformer_rec import strict_yaml
from interformer_rec.config import parse
from interformer_rec.config_text import escape
from interformer_rec.data.draft import Draft, Group, draft, repeats_candidate
from interformer_rec.data.profile import Column, Profile, profile, unseen_share
from interformer_rec.data.source import Source, open_source
from interformer_rec.redaction import without_credentials

SPLITS = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "validation", "val", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
HASH_ABOVE = 200_000  # distinct ids in the sample from which a vocabulary is no longer the better choice
SMALL_DATA = 300_000  # rows


def inspect_folder(path: str) -> str:
    """The text of a run config for the Parquet files under `path` (folder, file, glob or URI).

    Raises InputError if there are none or they cannot be read.
    """
    paths = split_paths(path, open_source(path))
    source = open_source(paths["train"])
    facts = profile(source)
    guess = draft(facts)
    text = "\n".join(
        [
            *_head(path, facts, guess, paths),
            *_data(path, facts, paths),
            *_features(guess),
            *_left_out(guess),
            *_rest(facts, paths),
            "",
        ]
    )
    text = without_credentials(text)  # loading the config says what to write where one was
    if guess.groups:
        parse(
            strict_yaml.parse(text, "the draft"), f"draft for {path}"
        )  # ours to keep: a draft that does not load is no draft
    return text


def split_paths(path: str, source: Source) -> dict[str, str]:
    """train, valid and test as paths, by the names of files and folders under `path`; all is train if no name tells."""
    base, question, query = path.partition("?") if "://" in path else (path, "", "")
    root = base.rstrip("/")
    within = PurePosixPath(source.files[0]) if len(source.files) == 1 else None
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    tails = [] if within and within.name == PurePosixPath(root).name else [_tail(file, root) for file in source.files]
    for tail in tails:
        split = next((name for name, known in SPLITS.items() if _first_word(tail) in known), None)
        if split:
            found[split].append(tail)
    if not found["train"]:
        return {"train": path}
    return {name: f"{root}/{_cover(files)}{question}{query}" for name, files in found.items() if files}


def _tail(file: str, root: str) -> str:
    """The file's path below the folder: what follows the folder's last name."""
    parts = PurePosixPath(file).parts
    last = PurePosixPath(root).name
    places = [index for index, part in enumerate(parts) if part == last]
    return "/".join(parts[places[-1] + 1 :]) if places else parts[-1]


def _first_word(tail: str) -> str:
    return re.split(r"[^a-z]+", tail.split("/")[0].removesuffix(".parquet").lower())[0]


def _cover(tails: list[str]) -> str:
    """One path for several files: the folder they are in, the file, or a glob."""
    folder = {tail.split("/")[0] for tail in tails}
    if len(folder) == 1:
        return folder.pop()
    start = re.match(r"[A-Za-z]+", tails[0])
    assert start is not None
    return f"{start.group()}*{PurePosixPath(tails[0]).suffix}"


def _head(path: str, facts: Profile, guess: Draft, paths: dict[str, str]) -> Iterator[str]:
    yield f"# Drafted by `interformer inspect {path}` from {facts.sampled:,} of {facts.rows:,} training rows"
    yield f"# (from {facts.sampled_groups} of {facts.groups} row groups); counts and shares are of those rows."
    yield "#"
    yield "# Read this before training; every line below is a guess:"
    for number, line in enumerate(_checks(guess, paths), start=1):
        yield f"#  {number}. {line}"
    yield f"name: {re.sub(r'[^A-Za-z0-9_-]+', '_', PurePosixPath(path.split('?')[0]).stem).strip('_') or 'run'}"
    yield ""


def _checks(guess: Draft, paths: dict[str, str]) -> Iterator[str]:
    """What the reader has to decide, most important first."""
    if guess.label is None:
        yield "LABEL MISSING: no 0/1 column is named like feedback; put yours (values in [0, 1]) under features.labels."
    else:
        others = ", ".join(column.name for column in guess.other_labels)
        yield f"The label is {guess.label.name}" + (f"; also 0/1 feedback, not read: {others}." if others else ".")
    if not guess.groups:
        yield "HISTORY MISSING: no list column of ids. InterFormer needs at least one group under features.sequences."
    yield from guess.warnings
    for note in dict.fromkeys(note for group in guess.groups for note in group.notes):
        yield f"History {', '.join(group.name for group in guess.groups if note in group.notes)}: {note}."
    for group in guess.groups:
        repeats = repeats_candidate(group, guess)
        if repeats is not None and repeats[1] > 0.5:
            name, share = repeats
            yield f"LEAK? In {share:.0%} of the rows the newest event of {name} is the row's own id: is the row in it?"
    yield from _strangers(guess, paths)
    if guess.left_out:
        yield "Columns left out stand below the features, each with the reason."
    if "valid" not in paths:
        yield "No file is named valid, val, dev or eval: without data.valid nothing tells when to stop. Split by time."
    yield "Is every feature known before the moment of prediction? Counters and averages often are not."


def _strangers(guess: Draft, paths: dict[str, str]) -> Iterator[str]:
    """Whether the users of the held-out rows are new: then their id tells nothing, and learning it does harm."""
    held_out = next((paths[split] for split in ("test", "valid") if split in paths), None)
    if guess.group_key is None or held_out is None:
        return
    share = unseen_share(open_source(paths["train"]), open_source(held_out), guess.group_key.name)
    if share > 0.2:
        key = guess.group_key.name
        yield f"{share:.0%} of the rows of {held_out} have a {key} that no training row has: better drop it from ids."


def _data(path: str, facts: Profile, paths: dict[str, str]) -> Iterator[str]:
    yield "data:"
    yield f"  train: {_text(paths['train'])}  # {facts.rows:,} rows"
    for split in ("valid", "test"):
        if split in paths:
            rows, missing = _compare(open_source(paths[split]), facts)
            yield f"  {split}: {_text(paths[split])}  # {rows:,} rows" + (
                f"; LACKS {', '.join(missing)}" if missing else ""
            )
        else:
            yield f"  # {split}:"
    yield f"  batch_size: {512 if facts.rows < SMALL_DATA else 2048}"
    yield ""


def _compare(source: Source, facts: Profile) -> tuple[int, list[str]]:
    return source.rows, [name for name in facts.columns if name not in source.schemas[0].names]


def _features(guess: Draft) -> Iterator[str]:
    yield "features:"
    yield "  tables:  # one embedding table each; features that hold the same ids share one"
    readers: dict[str, list[Column]] = {}
    events = [column for group in guess.groups for column in group.columns.values()]
    for column in (*guess.ids, *guess.bags, *events):
        readers.setdefault(guess.tables[column.name], []).append(column)
    for table, columns in readers.items():
        yield f"    {_name(table)}: {_table(columns)}"
    if guess.ids:
        yield "  ids:"
        yield from (f"    - {_feature(column, guess)}  # {_facts(column)}" for column in guess.ids)
    if guess.bags:
        yield "  bags:"
        yield from (f"    - {_feature(column, guess)}  # {_facts(column)}; {_lengths(column)}" for column in guess.bags)
    if guess.dense:
        yield "  dense:"
        yield from (f"    - {_dense(column)}" for column in guess.dense)
    if guess.groups:
        yield "  sequences:"
        for group in guess.groups:
            yield from _group(group, guess)
    yield "  labels:"
    if guess.label is None:
        yield "    - label  # the name of YOUR label column"
    else:
        yield f"    - {_named(guess.label)}  # mean {_mean(guess.label):.4f}"
    if guess.group_key is not None:
        yield f"  group: {_text(guess.group_key.name)}  # rows of one value are one user's in GAUC"


def _table(columns: list[Column]) -> str:
    """Options of a table, and who reads it."""
    most = max(columns, key=lambda column: column.distinct)
    if most.distinct > HASH_ABOVE:
        options = f"{{ids: hash, num_embeddings: {10 ** len(str(4 * most.distinct))}}}"
        note = f"  # over {HASH_ABOVE:,} ids in the sample alone: set num_embeddings to what you expect"
    else:
        rare = most.distinct > 1000 and most.distinct * 10 > most.rows and not any(column.is_list for column in columns)
        options, note = ("{min_count: 2}", "  # many ids are rare: those seen once share a row") if rare else ("{}", "")
    names = [column.name for column in columns]
    return options + (f"  # read by {', '.join(names)}" if len(names) > 1 else note)


def _group(group: Group, guess: Draft) -> Iterator[str]:
    first = next(iter(group.columns.values()))
    yield f"    - name: {_name(group.name)}"
    yield f"      max_length: {group.max_length}  # {_lengths(first)}"
    if group.timestamp is not None:
        yield f"      timestamp: {_text(group.timestamp.name)}"
    yield "      columns:"
    for short, column in group.columns.items():
        table = _name(guess.tables[column.name])
        yield f"        - {{name: {_name(short)}, column: {_text(column.name)}, table: {table}}}  # {_facts(column)}"


def _left_out(guess: Draft) -> Iterator[str]:
    if guess.left_out:
        yield ""
        yield "# Columns that are not read:"
        yield from (f"#   {name}: {reason}" for name, reason in guess.left_out.items())


def _rest(facts: Profile, paths: dict[str, str]) -> Iterator[str]:
    small = facts.rows < SMALL_DATA
    yield ""
    yield f"model: {{embedding_dim: {16 if small else 32}, d: {16 if small else 32}, layers: 2, dropout: 0.1}}"
    yield "optimizer: {dense: {lr: 0.001, clip_norm: 10.0}, embedding: {lr: 0.02, l2: 0.00001}}"
    patience = "patience: 1, " if "valid" in paths else ""
    yield f"training: {{epochs: 3, {patience}monitor: auc}}"


def _dense(column: Column) -> str:
    """Fill where nulls were seen; log1p where a few values are far larger than the rest."""
    options = {"name": _name(column.name)}
    if _name(column.name) != _text(column.name):
        options["column"] = _text(column.name)
    if column.nulls:
        options["fill"] = f"{column.median():.6g}"
    if column.low >= 0 and column.high > max(20 * column.median(), 10):
        options["log1p"] = "true"
    if column.kind != "bool":
        options["standardise"] = "true"
    written = ", ".join(f"{key}: {value}" for key, value in options.items())
    nulls = f"; {_percent(column.null_share)} null: filled with the median" if column.nulls else ""
    return f"{{{written}}}  # {column.low:.6g} to {column.high:.6g}{nulls}"


def _feature(column: Column, guess: Draft) -> str:
    table = guess.tables[column.name]
    return (
        _named(column)
        if table == column.name
        else f"{{name: {_name(column.name)}, column: {_text(column.name)}, table: {_name(table)}}}"
    )


def _named(column: Column) -> str:
    name = _name(column.name)
    return name if name == _text(column.name) else f"{{name: {name}, column: {_text(column.name)}}}"


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


def _name(name: str) -> str:
    """A feature's or table's name: a dot would be read as a path."""
    return _text(name.replace(".", "_"))


def _text(value: str) -> str:
    """A YAML scalar that is read back as this string."""
    plain = re.fullmatch(r"[A-Za-z_/.][A-Za-z0-9_/.\-]*", value) and value.lower() not in (
        "y",
        "n",
        "yes",
        "no",
        "on",
        "off",
        "true",
        "false",
        "null",
    )
    return value if plain else json.dumps(escape(value), ensure_ascii=False)
