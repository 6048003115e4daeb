"""Files as a data set's owners publish them -> Arrow batches. In: a folder, a file's name, its columns; out: record
batches in the file's order with exactly those columns, a block at a time; or an InputError that says what is wrong and
where the right file is."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from interformer_rec.errors import InputError

BLOCK_BYTES = 16 << 20  # of CSV text parsed at a time: what bounds the memory
# the option of recipes whose files have known checksums; `none` takes a sample of them
CHECK: dict[str, int | str] = {"check": "md5"}


@dataclass(frozen=True)
class Source:
    """Where a data set comes from; named in errors and kept in prepared.json."""

    name: str
    url: str
    licence: str
    files: str  # what --raw must hold
    by_hand: bool = True  # whether people have to fetch the files; else the command does, unless --raw is given


def find(raw: Path | None, pattern: str, source: Source) -> list[Path]:
    """The files of that name or glob in `raw` or below, by name. Raises InputError if there is none."""
    if raw is None:
        raise InputError(
            f"{source.name} is not downloaded by this command: get {source.files} from {source.url} and pass "
            f"--raw FOLDER. Licence: {source.licence}"
        )
    found = sorted(raw.glob(pattern)) or sorted(raw.rglob(pattern))
    if not found:
        raise InputError(f"{raw} has no {pattern}; it must hold {source.files}, from {source.url}")
    return found


def check_md5(path: Path, expected: str, check: str) -> None:
    """Compare the file with the published checksum unless `check` is none. Raises InputError if they differ."""
    if check == "none":
        return
    if check != "md5":
        raise InputError(f"option check is {check!r}; it is md5 or none")
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise InputError(
            f"{path} has MD5 {digest.hexdigest()}, the published file {expected}: it is damaged, incomplete or another "
            f"version. Download it again; for a sample of the file: --set check=none"
        )


def batches(
    path: Path, columns: dict[str, pa.DataType], *, header: bool = True, delimiter: str = ",", nulls: bool = True
) -> Iterator[pa.RecordBatch]:
    """The named columns of a delimited text file, block by block; empty fields are null.

    `columns`: name -> type; without a header line they are all the file's columns, in order. An int64 may be written
    as 12 or 12.0, but not as 12.5. Raises InputError that names missing columns, the column, line and value that do not
    have their type, or a column with an empty field unless `nulls`.
    """
    names = _header(path, delimiter)
    if header and (missing := [name for name in columns if name not in names]):
        raise InputError(
            f"{path} has no column {', '.join(missing)}; its first line is {delimiter.join(names)[:300]!r}"
        )
    if not header and len(names) != len(columns):
        raise InputError(
            f"{path} has {len(names)} columns in its first line, expected {len(columns)}: {', '.join(columns)}"
        )
    # Whole numbers come as float64, exact up to 2^53, for what once had nulls in pandas is written 12.0.
    types = {name: pa.float64() if pa.types.is_integer(type_) else type_ for name, type_ in columns.items()}
    try:
        reader = csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES, column_names=None if header else list(columns)),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=list(columns), strings_can_be_null=True
            ),
        )
        for batch in reader:
            parts = [_typed(path, batch, name, type_) for name, type_ in columns.items()]
            if not nulls and (empty := [name for name, part in zip(columns, parts, strict=True) if part.null_count]):
                raise InputError(f"{path} has empty fields in column {', '.join(empty)}, where every row needs a value")
            yield pa.RecordBatch.from_arrays(parts, names=list(columns))
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{path} is not as expected: {_named(str(error), names if header else list(columns))}"
        ) from None


def whole(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """All batches of a file with a header line as one table in one chunk."""
    schema = pa.schema(list(columns.items()))
    return pa.Table.from_batches(batches(path, columns), schema).unify_dictionaries().combine_chunks()


def id_lists(column: pa.Array, separator: str, name: str, path: Path) -> pa.ListArray:
    """Texts such as 12^7^30 -> lists of int64; null or empty texts are empty lists. Raises InputError for a non-number."""
    split = pc.split_pattern(pc.fill_null(column, ""), separator)
    values, offsets = split.flatten(), split.offsets
    present = pc.not_equal(values, "")
    before = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(present.cast(pa.int64()))])
    try:
        ids = values.filter(present).cast(pa.float64()).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(f"column {name} of {path} must hold whole numbers divided by {separator!r}: {error}") from None
    start = pc.subtract(offsets, offsets[0])
    return pa.ListArray.from_arrays(before.take(start).cast(pa.int32()), ids)


def _header(path: Path, delimiter: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline().rstrip("\r\n")
    if not line:
        raise InputError(f"{path} is empty")
    return [name.strip('"') for name in line.split(delimiter)]


def _typed(path: Path, batch: pa.RecordBatch, name: str, type_: pa.DataType) -> pa.Array:
    column = batch.column(name)
    if not pa.types.is_integer(type_):
        return column
    try:
        return column.cast(type_)
    except pa.ArrowInvalid as error:
        raise InputError(f"column {name} of {path} must hold whole numbers: {error}") from None


def _named(message: str, names: list[str]) -> str:
    """Arrow counts columns from 0; people have names for them."""
    return re.sub(r"CSV column #(\d+)", lambda found: f"column {names[int(found[1])]}", message)
