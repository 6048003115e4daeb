"""`interformer inspect PATH`: somebody else's Parquet files -> a first run config (YAML) with the facts beside every
feature.

The draft is meant to be read and corrected: names and values suggest roles, they do not prove them. What was not
taken as a feature stands at the end, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from interformer_rec import strict_yaml
from interformer_rec.config.run import parse
from interformer_rec.config.text import fill
from interformer_rec.data.draft_splits import Split, held_out
from interformer_rec.data.draft_text import features
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.inspect.draft import Draft, draft, repeats_candidate
from interformer_rec.data.inspect.profile import Profile, profile, unseen_share
from interformer_rec.data.written_names import scalar, shown
from interformer_rec.errors import InputError
from interformer_rec.redaction import without_credentials

SPLITS = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "validation", "val", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
DECISION = "NEEDS A DECISION"
SMALL_DATA = 300_000  # rows


def inspect_folder(path: str) -> str:
    """The text of a run config for the Parquet files under `path` (folder, file, glob or URI).

    It passes `interformer config` and trains, or has lines that begin with DECISION and name what its reader must choose. Raises
    InputError if there are no files, if they cannot be read, or if no column can be a feature.
    """
    paths = split_paths(path, open_source(path))
    source = open_source(paths["train"])
    facts = profile(source)
    guess = draft(facts)
    if not (guess.ids or guess.bags or guess.dense or guess.groups):
        reasons = "; ".join(f"{shown(name)}: {reason}" for name, reason in guess.left_out.items())
        label = f"{shown(guess.label.name)} is the label" if guess.label else "no column is a label either"
        raise InputError(f"no column of {path!r} can be a feature ({label}{'; ' if reasons else ''}{reasons[:1500]})")
    splits = held_out(paths, source, guess)
    text = "\n".join(
        [
            *_head(path, facts, guess, paths, splits),
            *_data(facts, guess, paths, splits),
            *features(guess),
            *_left_out(guess),
            *_rest(facts, guess, splits),
            "",
        ]
    )
    text = without_credentials(text)  # loading the config says what to write where one was
    if not decisions(text):  # ours to keep: a draft that does not load is no draft
        parse(fill(strict_yaml.parse(text, "the draft"), "the draft", {})[0], f"draft for {path}")
    return text


def decisions(text: str) -> list[str]:
    """What the reader of a draft must choose before it can train."""
    return [line.removeprefix("# ") for line in text.splitlines() if line.startswith(f"# {DECISION}")]


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


def _head(path: str, facts: Profile, guess: Draft, paths: dict[str, str], splits: dict[str, Split]) -> Iterator[str]:
    yield f"# Drafted by `interformer inspect {shown(path)}` from {facts.sampled:,} of {facts.rows:,} training rows"
    yield f"# (from {facts.sampled_groups} of {facts.groups} row groups); counts and shares are of those rows."
    if guess.label is None:
        yield f"# {DECISION}: no 0/1 column is named like feedback (LABEL MISSING): name yours under features.labels."
    for name, split in splits.items():
        if split.problem:
            yield f"# {DECISION}: data.{name} is commented out: {split.problem}."
    yield "#"
    yield "# Read this before training; every line below is a guess:"
    for number, line in enumerate(_checks(guess, paths, splits), start=1):
        yield f"#  {number}. {line}"
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(path.split("?")[0]).stem).strip("_") or "run"
    yield f"name: {scalar(name)}"
    yield ""


def _checks(guess: Draft, paths: dict[str, str], splits: dict[str, Split]) -> Iterator[str]:
    """What the reader has to look at, most important first."""
    if guess.label is not None:
        others = ", ".join(shown(column.name) for column in guess.other_labels)
        yield f"The label is {shown(guess.label.name)}" + (
            f"; also 0/1 feedback, not read: {others}." if others else "."
        )
        if guess.label.distinct == 1:
            yield f"Its value is {guess.label.low:.6g} in every row of the sample: there is nothing to learn, and no AUC."
        if guess.label.nulls or guess.label.not_finite:
            yield "It has nulls or NaN: such rows are left out (data.on_bad_row: skip)."
    if not guess.groups:
        yield "HISTORY MISSING: no list column of ids is read as one, so model.kind is dcnv2; InterFormer needs features.sequences."
    yield from guess.warnings
    for note in dict.fromkeys(note for group in guess.groups for note in group.notes):
        yield f"History {', '.join(shown(group.name) for group in guess.groups if note in group.notes)}: {note}."
    for group in guess.groups:
        repeats = repeats_candidate(group, guess)
        if repeats is not None and repeats[1] > 0.5:
            name, share = shown(repeats[0]), repeats[1]
            yield f"LEAK? In {share:.0%} of the rows the newest event of {name} is the row's own id: is the row in it?"
    yield from _strangers(guess, paths, splits)
    if guess.left_out:
        yield "Columns left out stand below the features, each with the reason."
    if "valid" not in paths:
        yield "No file is named valid, val, dev or eval: without data.valid a run cannot stop early. Split by time."
    yield "Is every feature known before the moment of prediction? Counters and averages often are not."


def _strangers(guess: Draft, paths: dict[str, str], splits: dict[str, Split]) -> Iterator[str]:
    """Whether the users of the held-out rows are new: then their id is of no use there, and training on it does harm."""
    name = next((split for split in ("test", "valid") if split in splits and not splits[split].problem), None)
    if guess.group_key is None or name is None:
        return
    share = unseen_share(open_source(paths["train"]), open_source(paths[name]), guess.group_key.name)
    if share > 0.2:
        key = shown(guess.group_key.name)
        yield f"{share:.0%} of the rows of {shown(paths[name])} have a {key} that no training row has: better drop it from ids."


def _data(facts: Profile, guess: Draft, paths: dict[str, str], splits: dict[str, Split]) -> Iterator[str]:
    yield "data:"
    yield f"  train: {scalar(paths['train'])}  # {facts.rows:,} rows"
    for name in ("valid", "test"):
        split = splits.get(name)
        if split is None:
            yield f"  # {name}:"
        else:
            reason = f"; {split.problem}" if split.problem else ""
            yield f"  {'# ' if reason else ''}{name}: {scalar(paths[name])}  # {split.rows:,} rows{reason}"
    yield f"  batch_size: {512 if facts.rows < SMALL_DATA else 2048}"
    if guess.label is not None and (guess.label.nulls or guess.label.not_finite):
        yield "  on_bad_row: skip  # rows whose label is null or NaN"
        yield "  max_bad_rows: 1.0"
    yield ""


def _left_out(guess: Draft) -> Iterator[str]:
    if guess.left_out:
        yield ""
        yield "# Columns that are not read:"
        for name, reason in guess.left_out.items():
            yield f"#   {shown(name)}: {shown(reason)}"


def _rest(facts: Profile, guess: Draft, splits: dict[str, Split]) -> Iterator[str]:
    size = 16 if facts.rows < SMALL_DATA else 32
    yield ""
    if guess.groups:
        yield f"model: {{embedding_dim: {size}, d: {size}, layers: 2, dropout: 0.1}}"
    else:
        yield f"model: {{kind: dcnv2, embedding_dim: {size}, hidden: [128, 64]}}  # needs no history"
    yield "optimizer: {dense: {lr: 0.001, clip_norm: 10.0}, embedding: {lr: 0.02, l2: 0.00001}}"
    valid = splits.get("valid", Split(0))
    patience = "patience: 1, " if valid.rows and not valid.problem else ""
    yield f"training: {{epochs: 3, {patience}monitor: {'logloss' if valid.one_class else 'auc'}}}"
