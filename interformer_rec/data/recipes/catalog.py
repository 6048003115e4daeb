"""The data sets that `interformer data NAME` knows. In: a name, a folder to make, options; out: the folder, and rows
per file.

A folder appears whole or not at all: it is written beside its place and renamed. It carries prepared.json (name,
options, rows, sizes), so that files made here can be distinguished from other people's and from changed ones, which are never
overwritten."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interformer_rec.data.recipes import (
    amazon_electronics_x1,
    criteo,
    kuaivideo_x1,
    ml_100k,
    raw_files,
    synthetic,
    taobao_ad_x1,
    taobao_userbehavior,
    x1,
)
from interformer_rec.data.recipes.kuairand import recipe as kuairand
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.errors import DamagedError, InputError
from interformer_rec.files import json_object

MARKER = "prepared.json"


@dataclass(frozen=True)
class Recipe:
    """How one data set is made; `write(folder, out, raw, options)` fills an empty folder that will become `out`."""

    summary: str
    options: dict[str, int | str]  # name -> default; the default's type is the option's
    write: Callable[[Path, Path, Path | None, dict[str, Any]], dict[str, int]]
    source: Source | None = None  # of data that people publish


def _x1(summary: str, one: x1.X1Set) -> Recipe:
    return Recipe(
        summary,
        raw_files.CHECK,
        lambda folder, out, raw, options: x1.write(one, folder, out, raw, options["check"]),
        one.source,
    )


def _kuairand(summary: str, tag: str) -> Recipe:
    return Recipe(
        summary,
        kuairand.OPTIONS[tag],
        lambda folder, out, raw, options: kuairand.write(tag, folder, out, raw, options),
        kuairand.source(tag),
    )


RECIPES = {
    "ml-100k": Recipe(
        "MovieLens-100k: 100,000 ratings, label rating >= 4, last 50 rated movies as history",
        {},
        lambda folder, out, raw, options: ml_100k.write(folder, raw),
        ml_100k.SOURCE,
    ),
    "synthetic": Recipe(
        "any number of made-up rows whose label depends on a candidate field and a history together",
        synthetic.DEFAULTS,
        lambda folder, out, raw, options: synthetic.write(folder, synthetic.Shape.of(options), out),
    ),
    "amazon_electronics_x1": _x1(
        "Amazon Electronics: the next reviewed product, 3.0 million rows", amazon_electronics_x1.SET
    ),
    "taobao_ad_x1": _x1(
        "Taobao: clicks on advertisements after 50 events in the shop, 25 million rows", taobao_ad_x1.SET
    ),
    "kuaivideo_x1": _x1("Kuaishou: clicks on micro-videos, two histories, 13.7 million rows", kuaivideo_x1.SET),
    "kuairand_pure": _kuairand("KuaiRand-Pure: clicks on short videos, three histories, 1.4 million log rows", "pure"),
    "kuairand_27k": _kuairand("KuaiRand-27K: as Pure with all videos, 322 million log rows, 46 GB raw", "27k"),
    "criteo": Recipe(
        "Criteo (Kaggle): clicks on advertisements, no histories, 46 million rows",
        {},
        lambda folder, out, raw, options: criteo.write(folder, out, raw),
        criteo.SOURCE,
    ),
    "taobao_userbehavior": Recipe(
        "Taobao: the last click of a day against drawn products, four histories, from 100 million events",
        taobao_userbehavior.OPTIONS,
        taobao_userbehavior.write,
        taobao_userbehavior.SOURCE,
    ),
}


def prepare(name: str, out: str, raw: str | None = None, options: dict[str, str] | None = None) -> dict[str, int]:
    """Make the data set `name` in the folder `out`; rows of each written file.

    `raw` is a folder with the raw files where the recipe reads any and they should not be downloaded; `options` are the
    recipe's, as text. A folder made here before is replaced. Raises InputError for an unknown name or option, a bad
    value, or an `out` that holds other files.
    """
    if name not in RECIPES:
        raise InputError(f"there is no data set {name!r}{_nearest(name, RECIPES)}")
    recipe, target = RECIPES[name], Path(out)
    chosen = _options(name, recipe, options or {})
    _refuse_foreign(target)
    if raw is not None and not Path(raw).is_dir():
        raise InputError(f"--raw {raw!r} is not a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        rows = recipe.write(fresh, target, Path(raw) if raw else None, chosen)
        marker = {"name": name, "options": chosen, "rows": rows, "sizes": _sizes(fresh)}
        if recipe.source:
            marker |= {"source": recipe.source.url, "licence": recipe.source.licence}
        (fresh / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        fresh.chmod(0o755)  # mkdtemp made it private
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return rows


def prepared(name: str, out: str, options: dict[str, str] | None = None) -> dict[str, int] | None:
    """Rows per file if `out` already holds the data set `name` made with these options, else None."""
    marker = _marker(Path(out))
    same = marker.get("name") == name and marker.get("options") == _options(name, RECIPES[name], options or {})
    return marker.get("rows") if same and marker.get("sizes") == _sizes(Path(out)) else None


def _options(name: str, recipe: Recipe, given: dict[str, str]) -> dict[str, int | str]:
    """Defaults overridden by what was given, checked and converted."""
    chosen = dict(recipe.options)
    for key, text in given.items():
        if key not in chosen:
            known = _nearest(key, chosen) if chosen else "; it has none"
            raise InputError(f"data set {name!r} has no option {key!r}{known}")
        if isinstance(chosen[key], int):
            try:
                chosen[key] = int(str(text).replace("_", ""))
            except ValueError:
                raise InputError(f"option {key} of data set {name!r} must be a whole number, not {text!r}") from None
        else:
            chosen[key] = str(text)
    return chosen


def _nearest(wrong: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.4)
    return (f"; did you mean {near[0]!r}?" if near else ".") + f" There: {', '.join(names)}"


def _marker(folder: Path) -> dict[str, Any]:
    try:
        return json_object((folder / MARKER).read_bytes(), MARKER)
    except (OSError, DamagedError):
        return {}


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below the folder but the marker."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _refuse_foreign(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise InputError(f"--out {str(target)!r} is a file; name a folder")
    if not target.is_dir():
        return
    ours = _marker(target).get("sizes", {})
    for name, size in _sizes(target).items():
        if ours.get(name) != size:
            what = "has changed since this command made it" if name in ours else "was not made by this command"
            raise InputError(f"--out {str(target)!r} holds {name}, which {what}; move it away or name another folder")


def _swap(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; what was there goes away only after it has been moved aside."""
    if not target.exists():
        os.rename(fresh, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.rename(target, aside / "old")
    os.rename(fresh, target)
    shutil.rmtree(aside)
