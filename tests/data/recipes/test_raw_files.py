"""Raw files in several blocks: texts, whole numbers written with .0, lists, where a wrong value is."""

from pathlib import Path

import pyarrow as pa
import pytest

from interformer_rec.data.recipes import raw_files
from interformer_rec.errors import InputError

COLUMNS = {"id": pa.int64(), "kind": pa.dictionary(pa.int32(), pa.string()), "tags": pa.string()}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(raw_files, "BLOCK_BYTES", 256)
    lines = [f"{n}{'.0' if n % 2 else ''},k{n // 40},{n}^{n + 1},unused\n" for n in range(200)]
    (tmp_path / "raw.csv").write_text("id,kind,tags,more\n" + "".join(lines))
    return tmp_path / "raw.csv"


def test_blocks_come_in_order_and_join_to_one_table(path: Path) -> None:
    parts = list(raw_files.batches(path, COLUMNS))
    assert len(parts) > 5
    assert [value for part in parts for value in part.column("id").to_pylist()] == list(range(200))
    whole = raw_files.whole(path, COLUMNS)
    assert whole["kind"].num_chunks == 1 and whole["kind"].to_pylist() == [f"k{n // 40}" for n in range(200)]
    assert whole.schema.field("id").type == pa.int64()


def test_a_wrong_value_in_a_late_block_is_named(path: Path) -> None:
    path.write_text(path.read_text() + "x17,k,1,\n")
    with pytest.raises(InputError, match=r"raw\.csv is not as expected: .*column id.*'x17'"):
        list(raw_files.batches(path, COLUMNS))


def test_id_lists_of_a_slice_with_nulls() -> None:
    column = pa.array(["9", "1^2", None, "", "3.0^^4"]).slice(1)
    assert raw_files.id_lists(column, "^", "tags", Path("raw.csv")).to_pylist() == [[1, 2], [], [], [3, 4]]
    with pytest.raises(InputError, match=r"column tags of raw\.csv must hold whole numbers divided by '\^'"):
        raw_files.id_lists(pa.array(["1^1.5"]), "^", "tags", Path("raw.csv"))
