"""`interformer inspect PATH`: somebody else's Parquet files -> a first run config (YAML) with the facts beside every
feature.

The draft is meant to be read and corrected: names and values suggest roles, they do not prove them. What was not
taken as a feature stands at the end, with the reason."""

import functools
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from interformer_rec import strict_yaml
from interformer_rec.config.run import parse
from interformer_rec.config.text import fill
from interformer_rec.data.draft_splits import Split, held_out
from interformer_rec.data.draft_text import features
from interformer_rec.data.files.source import Source, open_source
from interformer_rec.data.files.split_names import split_of
from interformer_rec.data.inspect.checks import checks, leave_unseen_out
from interformer_rec.data.inspect.draft import Draft, draft
from interformer_rec.data.inspect.partition_splits import by_time
from interformer_rec.data.inspect.profile import Profile, profile
from interformer_rec.data.inspect.requests import candidates_of, opened
from interformer_rec.data.inspect.settings import Sizes, settings
from interformer_rec.data.inspect.time_order import older_rows
from interformer_rec.data.inspect.unseen import unseen_ids
from interformer_rec.data.written_names import scalar, shown
from interformer_rec.errors import InputError
from interformer_rec.redaction import without_credentials

DECISION = "NEEDS A DECISION"


def inspect_folder(path: str, kind: str | None = None) -> str:
    """The text of a run config for the Parquet files under `path` (folder, file, glob or URI).

    `kind`: the model's kind, with its defaults; None: interformer, or dcnv2 where there is no history.

    It passes `interformer config` and trains, or has lines that begin with DECISION and name what its reader must choose. Raises
    InputError if there are no files, if they cannot be read, or if no column can be a feature.
    """
    paths = split_paths(path, open_source(path))
    candidates = candidates_of(open_source(paths["train"]))
    source = opened(paths["train"], candidates)
    facts = profile(source)
    guess = draft(facts)
    guess.request, guess.structs = candidates
    if not (guess.ids or guess.bags or guess.dense or guess.groups):
        reasons = "; ".join(f"{shown(name)}: {reason}" for name, reason in guess.left_out.items())
        label = f"{shown(guess.label.name)} is the label" if guess.label else "no column is a label either"
        raise InputError(f"no column of {path!r} can be a feature ({label}{'; ' if reasons else ''}{reasons[:1500]})")
    splits = held_out(paths, source, guess, functools.partial(opened, candidates=candidates))
    usable = {paths[name]: opened(paths[name], candidates) for name, split in splits.items() if not split.problem}
    unseen = unseen_ids(guess, source, usable)
    leave_unseen_out(guess, unseen)
    notes = list(checks(guess, paths.get("valid"), unseen, older_rows(facts, source, usable)))
    text = "\n".join(
        [
            *_head(path, facts, guess, splits, notes),
            *_data(facts, guess, paths, splits),
            *features(guess),
            *_left_out(guess),
            *settings(facts, guess, splits.get("valid"), kind),
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
    """train, valid and test as paths, by the names of files and folders under `path`, else by time; else all is train."""
    base, question, query = path.partition("?") if "://" in path else (path, "", "")
    root = base.rstrip("/")
    within = PurePosixPath(source.files[0]) if len(source.files) == 1 else None
    found: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    tails = [] if within and within.name == PurePosixPath(root).name else [_tail(file, root) for file in source.files]
    for tail in tails:
        split = split_of(tail.split("/")[0])
        if split:
            found[split].append(tail)
    if not found["train"]:
        found_by_time = {} if any(character in root for character in "*?[") else by_time(tails)
        return {name: f"{root}/{glob}{question}{query}" for name, glob in found_by_time.items()} or {"train": path}
    return {name: f"{root}/{_cover(files)}{question}{query}" for name, files in found.items() if files}


def _tail(file: str, root: str) -> str:
    """The file's path below the folder: what follows the folder's last name."""
    parts = PurePosixPath(file).parts
    last = PurePosixPath(root).name
    places = [index for index, part in enumerate(parts) if part == last]
    return "/".join(parts[places[-1] + 1 :]) if places else parts[-1]


def _cover(tails: list[str]) -> str:
    """One path for several files: the folder they are in, the file, or a glob."""
    folder = {tail.split("/")[0] for tail in tails}
    if len(folder) == 1:
        return folder.pop()
    start = re.match(r"[A-Za-z]+", tails[0])
    assert start is not None
    return f"{start.group()}*{PurePosixPath(tails[0]).suffix}"


def _head(path: str, facts: Profile, guess: Draft, splits: dict[str, Split], notes: list[str]) -> Iterator[str]:
    yield f"# Drafted by `interformer inspect {shown(path)}` from {facts.sampled:,} of {facts.rows:,} training rows"
    yield f"# (from {facts.sampled_groups} of {facts.groups} row groups); counts and shares are of those rows."
    if guess.request:
        yield "# Rows of the files are requests; above and below a row is a candidate of one."
    if guess.label is None:
        yield f"# {DECISION}: no 0/1 column is named like feedback (LABEL MISSING): name yours under features.labels."
    for name, split in splits.items():
        if split.problem:
            yield f"# {DECISION}: data.{name} is commented out: {split.problem}."
    yield "#"
    yield "# Read this before training; every line below is a guess:"
    for number, line in enumerate(notes, start=1):
        yield f"#  {number}. {line}"
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(path.split("?")[0]).stem).strip("_") or "run"
    yield f"name: {scalar(name)}"
    yield ""


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
    yield f"  batch_size: {Sizes(facts.rows).batch_size}"
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
