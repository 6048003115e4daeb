"""Files written whole, names that stay in their folder, strict JSON. In: bytes, and names found in files; out: the same, checked.

A run folder or a checkpoint may come from someone else. What its files say is data: a name in them never leads out of the folder,
and what cannot be read is a DamagedError that says where, whatever is wrong with it.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from interformer_rec.errors import DamagedError
from interformer_rec.redaction import redact

LONGEST_NAME = 255  # bytes of one component; what ext4, XFS and S3 tools take
LARGEST_JSON = 64 << 20  # bytes; a manifest of 60 TB in pieces of 16 MiB has 40 MB
MOST_DIGITS = 40
M = TypeVar("M", bound=BaseModel)


def own_name(name: object, source: str, folders: tuple[str, ...] = ()) -> str:
    """A file's name as it stands in the file `source`, if it stays where that file is: one component, or one of `folders` and one.

    Every name that is read from a file goes through here before it becomes a path. Raises DamagedError that says both.
    """
    if not isinstance(name, str):
        raise _refused(name, source, "it is no text")
    folder, slash, last = name.rpartition("/")
    if slash and folder not in folders:
        inside = f" other than {', '.join(folder + '/' for folder in folders)}" if folders else ""
        raise _refused(name, source, f"it names a folder{inside}")
    if not last.strip(". "):
        raise _refused(name, source, "it names no file")
    if re.search(r"[\x00-\x1f\x7f\\]", last) or re.match(r"[A-Za-z]:", last):
        raise _refused(name, source, "it has a backslash, a drive or a control character")
    try:
        length = len(last.encode())
    except UnicodeEncodeError:
        raise _refused(name, source, "it is not Unicode text") from None
    if length > LONGEST_NAME:
        raise _refused(name, source, f"it has {length} bytes; {LONGEST_NAME} at most")
    return name


def _refused(name: object, source: str, why: str) -> DamagedError:
    shown = repr(name) if len(repr(name)) < 100 else f"{name!r:.80}..."
    return DamagedError(
        f"{source} has the file name {shown}, which is refused: {why}. A file of a run or checkpoint names files beside it only; "
        f"this one is damaged, or made to write elsewhere"
    )


def refuse_link_out(folder: Path, name: str, source: str) -> None:
    """Raise DamagedError if `name`, checked by `own_name`, is a link, or lies behind one, to somewhere outside `folder`."""
    try:
        target = (folder / name).resolve()
        inside = target.is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a link to itself
        raise _refused(name, source, str(error)) from None
    if not inside:
        raise _refused(name, source, f"it is a link to {str(target)!r}, outside the folder")


@contextmanager
def whole(path: Path, writer: str = "") -> Iterator[IO[bytes]]:
    """A file of this machine, whole or not at all, over what was there: it has its name once the block has ended without an error.

    A link there is replaced, not followed. Where several processes may write a file at once, each says which `writer` it is.
    """
    part = path.with_name(f".{path.name}.{writer}part")
    part.unlink(missing_ok=True)
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def write_whole(path: str | os.PathLike[str], content: bytes | str, writer: str = "") -> None:
    """Write a small file as `whole` does. Raises OSError."""
    with whole(Path(path), writer) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def json_object(content: bytes, source: str) -> dict[str, Any]:
    """A JSON object as this project writes them: keys once, numbers finite. `source` is for the message.

    Raises DamagedError for everything else: other text, other types, cut, too deep, too long.
    """
    if len(content) > LARGEST_JSON:
        raise DamagedError(
            f"{source} cannot be read: it has {len(content):,} bytes, more than {LARGEST_JSON:,}: it is none of ours"
        )
    try:
        found = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_pairs,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except RecursionError:
        raise DamagedError(f"{source} cannot be read: its JSON is nested too deeply") from None
    except ValueError as error:  # of json, of UTF-8 and of the functions below
        raise DamagedError(f"{source} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise DamagedError(f"{source} cannot be read: it holds a {type(found).__name__}, not a JSON object")
    return found


class StrictFile(BaseModel):
    """JSON that this project writes: an unknown key, or a value of another type, is damage (`conform`)."""

    model_config = ConfigDict(strict=True, extra="forbid")


def conform(content: dict[str, Any], model: type[M], source: str) -> M:
    """The JSON object as `model`, a class that is strict. Raises DamagedError that names the first key that does not fit."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DamagedError(f"{source} cannot be read: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """The first key that does not fit, and why. For files that this project writes; config/errors.py is for what a user writes."""
    first = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, first["loc"])) or "(top level)"
    return f"{key:.200}: {first['msg']}"


def finite(value: Any) -> Any:
    """JSON has no NaN: an undefined metric (an AUC without a positive, say) becomes null. NumPy scalars become Python's.

    Text loses its credentials (redaction.py): everything that is saved or printed as JSON goes through here.
    """
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    if isinstance(value, str):
        return redact(value)
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_by_lines(content: Mapping[str, Any]) -> str:
    """JSON of a benchmark's result: a line for each fact, and for each case in a list, so that a difference shows what changed."""
    facts = (f" {json.dumps(name)}: {_lines(value)}" for name, value in finite(content).items())
    return "{\n" + ",\n".join(facts) + "\n}\n"


def _lines(value: Any) -> str:
    """A collection that holds collections has a line for each of them; everything else is one line."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, list) or not any(isinstance(part, dict | list) for part in parts):
        return json.dumps(value)
    if isinstance(value, dict):
        lines, ends = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in value.items()], "{}"
    else:
        lines, ends = [json.dumps(part) for part in value], "[]"
    return ends[0] + "\n  " + ",\n  ".join(lines) + "\n " + ends[1]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.80} is there twice")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40} is not finite")
    return value
