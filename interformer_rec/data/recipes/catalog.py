"""The data sets that `interformer data NAME` knows. In: a name, a folder to make, options; out: the folder, and rows
per file.

prepared.json in the folder has name, options, rows, sizes (data/files/made_folder.py)."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interformer_rec.data.files.made_folder import make_folder, read_marker, sizes
from interformer_rec.data.recipes import (
    amazon_electronics_x1,
    criteo,
    kuaivideo_x1,
    ml_100k,
    raw_files,
    synthetic,
    synthetic_days,
    taobao_ad_x1,
    taobao_userbehavior,
    x1,
)
from interformer_rec.data.recipes.completejourney import recipe as completejourney
from interformer_rec.data.recipes.kuairand import recipe as kuairand
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.yambda import recipe as yambda
from interformer_rec.errors import InputError


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
    "completejourney": Recipe(
        "The Complete Journey: promoted products that a household bought or not, by week, 1.2 million rows, simulated data",
        completejourney.OPTIONS,
        completejourney.write,
        completejourney.SOURCE,
    ),
    "synthetic": Recipe(
        "any number of made-up rows whose label depends on a candidate field and a history together",
        synthetic.DEFAULTS,
        lambda folder, out, raw, options: synthetic.write(folder, synthetic.Shape.of(options), out),
    ),
    "synthetic_days": Recipe(
        "made-up days whose items come and go, as windows to train on in time order",
        synthetic_days.DEFAULTS,
        synthetic_days.write,
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
    "yambda": Recipe(
        "Yambda: was half of the track played, three histories, by day, from 50 million to 5 billion events",
        yambda.OPTIONS,
        yambda.write,
        yambda.SOURCE,
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
    if raw is not None and not Path(raw).is_dir():
        raise InputError(f"--raw {raw!r} is not a folder")
    made: dict[str, int] = {}

    def fill(fresh: Path) -> dict[str, Any]:
        made.update(recipe.write(fresh, target, Path(raw) if raw else None, chosen))
        marker = {"name": name, "options": chosen, "rows": made}
        return marker | ({"source": recipe.source.url, "licence": recipe.source.licence} if recipe.source else {})

    make_folder(target, fill)
    return made


def prepared(name: str, out: str, options: dict[str, str] | None = None) -> dict[str, int] | None:
    """Rows per file if `out` already holds the data set `name` made with these options, else None."""
    marker = read_marker(Path(out))
    same = marker.get("name") == name and marker.get("options") == _options(name, RECIPES[name], options or {})
    return marker.get("rows") if same and marker.get("sizes") == sizes(Path(out)) else None


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
