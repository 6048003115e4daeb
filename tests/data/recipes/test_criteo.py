"""Criteo's recipe on hand-made lines: ids, nulls, the cut by order, a baseline that trains on it, errors."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config import run as config
from interformer_rec.data.recipes.catalog import prepare
from interformer_rec.data.recipes.criteo import hex_ids
from interformer_rec.errors import InputError
from interformer_rec.training import run

IDS = "68fd1e64"


def _line(n: int) -> str:
    counts = [str(n), "-2", ""] + ["5"] * 10
    ids = [f"{n:08x}", "", "ffffffff"] + [IDS] * 23
    return "\t".join([str(n % 2), *counts, *ids]) + "\n"


def _raw(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "train.txt").write_text(text)
    return str(folder)


pytestmark = pytest.mark.filterwarnings("ignore:.*rows, the owners' file")


def test_rows_are_cut_by_order_and_ids_are_numbers(tmp_path: Path) -> None:
    raw = _raw(tmp_path / "raw", "".join(map(_line, range(28))))
    assert prepare("criteo", str(tmp_path / "out"), raw) == {
        **{"train.parquet": 24, "valid.parquet": 2, "test.parquet": 2}
    }
    rows = {s: pq.read_table(tmp_path / "out" / f"{s}.parquet").to_pylist() for s in ("train", "valid", "test")}
    assert [row["C1"] for row in rows["valid"] + rows["test"]] == [24, 25, 26, 27]
    row = rows["train"][3]
    assert (row["label"], row["I1"], row["I2"], row["I3"], row["I13"]) == (1, 3, -2, None, 5)
    assert (row["C1"], row["C2"], row["C3"], row["C26"]) == (3, None, 0xFFFFFFFF, 0x68FD1E64)


def test_a_baseline_trains_and_interformer_says_what_it_misses(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare("criteo", str(out), _raw(tmp_path / "raw", "".join(map(_line, range(56)))))
    small = ["model.hidden=[8]", "training.epochs=1", "training.device=cpu", f"training.out={tmp_path}/run"]
    assert run.train(config.load(out / "config.yaml", small)) == 0
    with pytest.raises(InputError, match=r"interformer needs at least one group under features.sequences"):
        config.load(out / "config.yaml", ["model={kind: interformer}"])


def test_hex_ids_of_a_slice_with_nulls() -> None:
    column = pa.array(["00000001", None, "0000000a", "80000000", None])
    assert hex_ids(column, "C1", Path("f")).to_pylist() == [1, None, 10, 0x80000000, None]
    assert hex_ids(column.slice(2), "C1", Path("f")).to_pylist() == [10, 0x80000000, None]
    assert hex_ids(pa.array([None, None], pa.string()), "C1", Path("f")).to_pylist() == [None, None]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(InputError, match=r"column C4 of .* must hold 8 hexadecimal digits or nothing, not '68fd1e6g'"):
        prepare("criteo", out, _raw(tmp_path / "raw", _line(1) + _line(2).replace(IDS, "68fd1e6g", 1)))
    with pytest.raises(InputError, match=r"column C4 of .* must hold 8 hexadecimal"):
        prepare("criteo", out, _raw(tmp_path / "raw", _line(1).replace(IDS, "68fd", 1)))
    with pytest.raises(InputError, match=r"has 39 columns in its first line, expected 40"):
        prepare("criteo", out, _raw(tmp_path / "raw", _line(1).rpartition("\t")[0] + "\n"))
    with pytest.raises(InputError, match=r"column I1.*twelve"):
        prepare("criteo", out, _raw(tmp_path / "raw", _line(1) + _line(12).replace("\t12\t", "\ttwelve\t", 1)))
    with pytest.raises(InputError, match=r"has no train\.txt; it must hold train\.txt \(45,840,617 rows"):
        (tmp_path / "empty").mkdir()
        prepare("criteo", out, str(tmp_path / "empty"))
    with pytest.warns(UserWarning, match=r"has 28 rows, the owners' file 45,840,617"):
        prepare("criteo", out, _raw(tmp_path / "raw", "".join(map(_line, range(28)))))
