"""`interformer data group SRC` and `data ungroup SRC`: impressions become request rows, and back. In: options; out: a folder, its facts.

A request stands in the file in which its first row stood, requests in the order of their first rows, candidates in the order of their
rows. So partitions, splits and time order stay as they are. What was written is read again and compared with what was there.
"""

import itertools
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from interformer_rec.data.decode.bad_rows import shown
from interformer_rec.data.files.locate import Located, locate
from interformer_rec.data.files.made_folder import make_folder, sizes
from interformer_rec.data.files.overlap import refuse_written
from interformer_rec.data.files.source import Source, open_files
from interformer_rec.data.files.struct_lists import unpacked
from interformer_rec.data.grouping.arguments import MEMORY, AskedColumns
from interformer_rec.data.grouping.engine import Engine, engine
from interformer_rec.data.grouping.lists import Differs, grouped
from interformer_rec.data.grouping.order import request_order
from interformer_rec.data.grouping.plain import plain
from interformer_rec.data.grouping.reading import all_tables, first_rows, only_in_folders, value, where, whole_schema
from interformer_rec.data.grouping.request_files import Files, candidates_said, impressions
from interformer_rec.data.grouping.same_rows import Rows, rows_of
from interformer_rec.data.grouping.sides import Key, Sides, candidates, keys, sides, structs
from interformer_rec.data.grouping.sorted_rows import plain_schema, sorted_rows
from interformer_rec.errors import InputError
from interformer_rec.storage import Storage
from interformer_rec.text import size


def group(path: str, out: str, by: str, asked: AskedColumns, memory: float = MEMORY) -> dict[str, Any]:
    """Write the impressions of `path` as request rows into the folder `out`; what is printed.

    Raises InputError for options that cannot be, files that cannot be read, and a request's column that differs in a request.
    """
    located, source = opened(path, out)
    schema = whole_schema(source)
    key_columns = keys(by, schema.names)
    chosen = sides(kept_columns(schema.names, source, located), key_columns, asked)
    made: dict[str, Any] = {}

    def fill(fresh: Path) -> dict[str, Any]:
        with engine(Path(out), memory) as sorter:
            made.update(_group(located, source, schema, key_columns, chosen, sorter, fresh))
        return {"name": "data group", "by": by, "candidates": list(chosen.candidates), "rows": made["rows"]}

    make_folder(Path(out), fill)
    return made


def ungroup(path: str, out: str, asked: AskedColumns, memory: float = MEMORY) -> dict[str, Any]:
    """Write the candidates of request rows as impressions into the folder `out`; what is printed. Raises InputError, as `group`."""
    located, source = opened(path, out)
    packed, column = set(whole_schema(source).names), structs(asked)
    source = unpacked(source, column) if column is not None else source
    schema = whole_schema(source)
    said = candidates_said(source) if not (asked.candidates or asked.config) else candidates(schema.names, asked)
    said = tuple(name for name in schema.names if name in said or name not in packed)
    if not said:
        raise InputError(
            f"{path!r} was not written by `interformer data group`, so say which columns are lists of candidates: --candidates or --config"
        )
    columns = kept_columns(schema.names, source, located)
    made: dict[str, Any] = {}

    def fill(fresh: Path) -> dict[str, Any]:
        with engine(Path(out), memory) as sorter:
            made.update(_ungroup(located, source, columns, said, sorter, fresh))
        return {"name": "data ungroup", "rows": made["rows"]}

    make_folder(Path(out), fill)
    return made


def opened(path: str, out: str) -> tuple[Located, Source]:
    """The files of `path`. Raises InputError where `out` is no folder of this machine, lies among them, or they have no row."""
    if "://" in out:
        raise InputError(f"--out {out!r}: this command writes a folder on this machine; copy it from there")
    located = locate(path)
    source = open_files(path, located)
    if not source.rows:
        raise InputError(f"{path!r} has no rows")
    refuse_written("--out", Storage.open(out), names_of(located), {"SRC": path})
    return located, source


def _group(
    located: Located, source: Source, schema: pa.Schema, by: tuple[Key, ...], chosen: Sides, sorter: Engine, fresh: Path
) -> dict[str, Any]:
    order = request_order(source, by, sorter)
    files, begins = Files(fresh, names_of(located), chosen.candidates), first_rows(source)
    kept = pa.schema([field for field in schema if field.name in chosen.written])
    most = 0
    try:
        for requests in grouped(sorted_rows(source, order, chosen, sorter), chosen, kept):
            most = max(most, int(requests.candidates.max()))
            file_of = np.searchsorted(begins, requests.first, side="right") - 1
            for file in np.unique(file_of).tolist():
                start, stop = np.searchsorted(file_of, [file, file + 1]).tolist()
                files.add(file, requests.table.slice(start, stop - start))
    except Differs as error:
        raise InputError(_differs(source, by, error)) from None
    finally:
        files.close()
    compared = (*chosen.once, *chosen.candidates)
    before = rows_of(all_tables(source, compared), plain_schema(source, compared), sorter)
    _compare(before, fresh, compared, chosen.candidates, sorter)
    return {
        "rows": source.rows,
        "requests": order.requests,
        "candidates a request": f"{source.rows / order.requests:.2f} on average, {most} at most",
        "rows with a null key": f"{order.alone} (a request each)",
        "files": f"{files.written} of {len(source.files)}" if files.written < len(source.files) else files.written,
        **bytes_of(source, fresh),
        "checked": "read again: the same rows" + (", apart from " + ", ".join(chosen.first) if chosen.first else ""),
    }


def _ungroup(
    located: Located, source: Source, columns: list[str], said: tuple[str, ...], sorter: Engine, fresh: Path
) -> dict[str, Any]:
    files, rows = Files(fresh, names_of(located), None), 0
    try:
        for file, table in impressions(source, columns, said):
            files.add(file, table)
            rows += table.num_rows
    finally:
        files.close()
    if not rows:
        raise InputError(f"no request of {source.path!r} has a candidate")
    written = open_files(str(fresh), locate(str(fresh)))
    kept = plain_schema(written, columns)
    before = rows_of((table for _, table in impressions(source, columns, said)), kept, sorter)
    if rows_of(all_tables(written, columns), kept, sorter) != before:
        raise RuntimeError("the rows written differ from those that were there; nothing was kept")
    return {
        "requests": source.rows,
        "rows": rows,
        "files": files.written,
        **bytes_of(source, fresh),
        "checked": "read again: the same rows",
    }


def _compare(before: Rows, fresh: Path, columns: tuple[str, ...], listed: tuple[str, ...], sorter: Engine) -> None:
    written = open_files(str(fresh), locate(str(fresh)))
    (types,) = {table.schema for _, table in itertools.islice(impressions(written, columns, listed), 1)}
    kept = pa.schema([(field.name, plain(field.name, field.type)) for field in types])
    after = rows_of((table for _, table in impressions(written, columns, listed)), kept, sorter)
    if after != before:
        raise RuntimeError(
            f"the rows written differ from those that were there ({after} against {before}); nothing was kept"
        )


def _differs(source: Source, by: tuple[Key, ...], error: Differs) -> str:
    first, other = error.rows
    said = ", ".join(f"{key.text} = {shown(_of(source, first, key))}" for key in by)
    values = " and ".join(shown(value(source, row, error.column)) for row in error.rows)
    return (
        f"column {error.column!r} is taken for the request's, but differs within the request {said}: {values}, in {where(source, first)} "
        f"and in {where(source, other)}. Is it the candidates' (--candidates), does its first value stand for all (--first), or "
        "shall it be left out (--drop)? Or a column is missing in --by"
    )


def _of(source: Source, row: int, key: Key) -> object:
    found = value(source, row, key.column)
    if key.unit is None or not found.is_valid:
        return found
    return (found if pa.types.is_integer(found.type) else found.cast(pa.int64())).as_py() // key.unit


def names_of(located: Located) -> list[str]:
    """Of the files, below the folder that they have in common."""
    base = located.base.rstrip("/") + "/"
    return [file.removeprefix(base) for file in located.files]


def kept_columns(names: list[str], source: Source, located: Located) -> list[str]:
    """Columns without those that only the names of folders below `base` hold: the files written lie in such folders too."""
    below = {
        unquote(part.partition("=")[0])
        for name in names_of(located)
        for part in PurePosixPath(name).parts[:-1]
        if "=" in part
    }
    again = only_in_folders(source) & below
    return [name for name in names if name not in again]


def bytes_of(source: Source, fresh: Path) -> dict[str, str]:
    """Of the files that were there, and of those written; for the screen."""
    before = sum(info.size for info in source.filesystem.get_file_info(list(source.files)))
    after = sum(sizes(fresh).values())
    return {"bytes before": size(before), "bytes after": f"{size(after)} ({after / before:.0%})"}
