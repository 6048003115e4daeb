"""The Complete Journey's Parquet files -> arrays by week. In: transactions, promotions, products, households, campaigns and
coupons as published; out: what a week's rows need, found by store, household and product."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from interformer_rec.data.recipes import raw_parquet
from interformer_rec.errors import InputError

FILES = (
    *("transactions.parquet", "promotions.parquet", "products.parquet", "demographics.parquet"),
    *("campaigns.parquet", "campaign_descriptions.parquet", "coupons.parquet"),
)
DISPLAYS = pa.array([*"012345679A"])  # where in the store; 0: nowhere
MAILERS = pa.array([*"0ACDFHJLPXZ"])  # where in the printed mailer; 0: nowhere
PRODUCT = ("manufacturer_id", "department", "brand", "product_category", "product_type", "package_size")
HOUSEHOLD = (*("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count"),)
LAST_WEEK = 53
SECOND_MONDAY = date(2017, 1, 2)  # week 1 is what comes before it
MIDNIGHT = 5 * 3600  # seconds after midnight UTC at which a week of the file begins in winter
_ID = {name: pa.int64() for name in ("household_id", "store_id", "product_id", "week")}
_TEXT = pa.dictionary(pa.int32(), pa.string())


def first_day(week: int) -> date:
    """The Monday that a week begins with."""
    return SECOND_MONDAY + timedelta(days=7 * (week - 2))


def begins(week: int) -> int:
    """The Unix second of a week's first moment."""
    return (first_day(week) - date(1970, 1, 1)).days * 24 * 3600 + MIDNIGHT


class Purchases:
    """All lines of all receipts in the order of their time: household, store, product, week, seconds, each (lines,)."""

    def __init__(self, path: Path) -> None:
        columns = {**_ID, "transaction_timestamp": pa.timestamp("s")}
        table = raw_parquet.whole(path, columns)
        second = table["transaction_timestamp"].cast(pa.int64()).to_numpy()
        ids = {name: table[name].to_numpy() for name in _ID}
        _check_ids(path, ids)
        order = np.lexsort((ids["product_id"], ids["household_id"], second))
        self.household, self.store, self.product, self.week = (ids[name][order] for name in _ID)
        self.second = second[order]
        if not len(order):
            raise InputError(f"{path} has no rows")


class Promotions:
    """What each store promoted in each week, and where; a product that is listed twice counts once, as first listed."""

    def __init__(self, path: Path) -> None:
        columns = {
            **{name: pa.int64() for name in ("product_id", "store_id", "week")},
            "display_location": pa.string(),
            "mailer_location": pa.string(),
        }
        parts: list[tuple[np.ndarray, ...]] = []
        for batch in raw_parquet.batches(path, columns):
            ids = {name: batch.column(name).to_numpy() for name in ("product_id", "store_id", "week")}
            _check_ids(path, ids)
            codes = [
                _codes(path, batch.column(name), name, known)
                for name, known in (("display_location", DISPLAYS), ("mailer_location", MAILERS))
            ]
            parts.append(
                (
                    ids["product_id"].astype(np.int32),
                    ids["store_id"].astype(np.int32),
                    ids["week"].astype(np.int8),
                    *codes,
                )
            )
        product, store, week, display, mailer = (np.concatenate(column) for column in zip(*parts, strict=True))
        del parts
        order = np.argsort(week, kind="stable")
        self._product, self._store = product[order], store[order]
        self._display, self._mailer = display[order], mailer[order]
        self._starts = np.searchsorted(week[order], np.arange(LAST_WEEK + 2))

    def of(self, week: int) -> Promoted:
        """The promotions of one week."""
        part = slice(self._starts[week], self._starts[week + 1])
        key = self._store[part].astype(np.int64) << 32 | self._product[part]
        key, first = np.unique(key, return_index=True)
        return Promoted(key, self._display[part][first], self._mailer[part][first])


@dataclass(frozen=True)
class Promoted:
    """A week's promotions, sorted by store and product: key = store << 32 | product, and places as codes, each (n,)."""

    key: np.ndarray
    display: np.ndarray
    mailer: np.ndarray

    def span(self, stores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last place (after it) of each store's promotions."""
        return np.searchsorted(self.key, stores << 32), np.searchsorted(self.key, (stores + 1) << 32)

    def find(self, stores: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place of each (store, product), and whether it is promoted; the place of one that is not means nothing."""
        wanted = stores << 32 | products
        place = np.minimum(np.searchsorted(self.key, wanted), max(len(self.key) - 1, 0))
        return place, self.key[place] == wanted if len(self.key) else np.zeros(len(wanted), bool)


class Coupons:
    """Which coupons a household had been sent: by campaign, its type, days, households and products."""

    def __init__(self, raw: dict[str, Path]) -> None:
        id_ = pa.int64()
        kinds = raw_parquet.whole(
            raw["campaign_descriptions.parquet"],
            {"campaign_id": id_, "campaign_type": pa.string(), "start_date": pa.date32(), "end_date": pa.date32()},
        ).to_pylist()
        sent = raw_parquet.whole(raw["campaigns.parquet"], {"campaign_id": id_, "household_id": id_})
        covers = raw_parquet.whole(raw["coupons.parquet"], {"campaign_id": id_, "product_id": id_})
        self.types = sorted({kind["campaign_type"] for kind in kinds})
        self._campaigns = [
            (
                self.types.index(kind["campaign_type"]),
                kind["start_date"],
                kind["end_date"],
                _where(sent, kind["campaign_id"], "household_id"),
                _where(covers, kind["campaign_id"], "product_id"),
            )
            for kind in kinds
        ]

    def held(self, week: int, households: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Whether each household (n,) had a coupon of each type for each product (n,) in the week; (n, types) bool."""
        out = np.zeros((len(households), len(self.types)), bool)
        first, last = first_day(week), first_day(week) + timedelta(days=6)
        for type_, start, end, sent_to, covered in self._campaigns:
            if start <= last and end >= first:
                out[:, type_] |= np.isin(households, sent_to) & np.isin(products, covered)
        return out


def products(path: Path) -> pa.Table:
    """product_id and PRODUCT, one row a product."""
    columns = {"product_id": pa.int64(), "manufacturer_id": pa.int64(), **dict.fromkeys(PRODUCT[1:], _TEXT)}
    return raw_parquet.whole(path, columns, nullable=PRODUCT)


def households(path: Path) -> pa.Table:
    """household_id and HOUSEHOLD, of the households that are known."""
    return raw_parquet.whole(path, {"household_id": pa.int64(), **dict.fromkeys(HOUSEHOLD, _TEXT)}, nullable=HOUSEHOLD)


def _where(table: pa.Table, campaign: int, column: str) -> np.ndarray:
    return table[column].filter(pc.equal(table["campaign_id"], campaign)).to_numpy()


def _codes(path: Path, column: pa.Array, name: str, known: pa.Array) -> np.ndarray:
    codes = pc.index_in(column, value_set=known)
    if codes.null_count:
        wrong = column.filter(codes.is_null())[0].as_py()
        raise InputError(f"{path} has the {name} {wrong!r}; it must be one of {', '.join(known.to_pylist())}")
    return codes.to_numpy().astype(np.int8)


def _check_ids(path: Path, ids: dict[str, np.ndarray]) -> None:
    """Ids fit 31 bits, weeks the year."""
    for name, values in ids.items():
        low, high = (1, LAST_WEEK) if name == "week" else (0, 2**31 - 1)
        if len(values) and not (low <= values.min() and values.max() <= high):
            wrong = values[(values < low) | (values > high)][0]
            raise InputError(f"{path} has the {name} {wrong}; it must be {low} to {high}")
