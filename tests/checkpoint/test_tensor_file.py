"""Files that any safetensors reader understands; pieces, ranges, damage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from interformer_rec.checkpoint import checked, tensor_file
from interformer_rec.checkpoint.checked import Verified
from interformer_rec.checkpoint.tensor_file import DTYPES, Part, TensorFile, write
from interformer_rec.errors import DamagedError
from interformer_rec.storage import Storage


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Files of several pieces without gigabytes."""
    for module in (checked, tensor_file):
        monkeypatch.setattr(module, "PIECE", 64)


def tensors(seed: int, shapes: list[tuple[int, ...]]) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    return {
        f"{n}|{name}": torch.from_numpy(random.integers(0, 2, shape)).to(dtype)
        if dtype == torch.bool
        else torch.from_numpy(random.integers(-100, 100, shape)).to(dtype)
        for n, shape in enumerate(shapes)
        for name, dtype in DTYPES.items()
    }


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    shapes=st.lists(
        st.one_of(
            st.just(()),
            st.tuples(st.integers(0, 40)),
            st.tuples(st.integers(0, 40), st.integers(0, 30)),
        ),
        max_size=3,
    ),
)
def test_safetensors_reads_what_is_written_and_back(tmp_path_factory, seed, shapes):
    folder = tmp_path_factory.mktemp("files")
    given_ = tensors(seed, shapes)
    storage = Storage.open(folder)
    entry = write(storage, "ours", {key: Part(tensor) for key, tensor in given_.items()})
    theirs = load_file(folder / "ours")
    assert theirs.keys() == given_.keys()
    assert all(torch.equal(theirs[key], tensor) for key, tensor in given_.items())
    file = TensorFile(storage, "ours", entry)
    for key, tensor in given_.items():
        assert torch.equal(file.tensor(key), tensor), key
        if tensor.ndim and tensor.numel():
            low, high = sorted(np.random.default_rng(seed).integers(0, len(tensor) + 1, 2).tolist())
            pieces = [torch.empty(0, *tensor.shape[1:], dtype=tensor.dtype), *(p for _, p in file.rows(key, low, high))]
            assert torch.equal(torch.cat(pieces), tensor[low:high])


def test_rows_and_columns_of_live_memory(tmp_path):
    live = torch.arange(120.0).view(10, 12)
    rows = torch.tensor([1, 4, 9])
    parts = {"columns": Part(live[:, 3:7]), "rows": Part(live, rows), "none": Part(live, rows[:0])}
    write(Storage.open(tmp_path), "file", parts)
    stored = load_file(tmp_path / "file")
    assert torch.equal(stored["columns"], live[:, 3:7]) and torch.equal(stored["rows"], live[rows])
    assert stored["none"].shape == (0, 12)


def test_a_copy_on_the_host_does_not_change_and_uses_memory_again():
    live = torch.ones(4, 3)
    copy = Part(live[:, :2]).on_host()
    live += 1
    assert torch.equal(copy.tensor, torch.ones(4, 2)) and copy.tensor.is_contiguous()
    again = Part(live[:, :2]).on_host(copy.tensor)
    assert again.tensor is copy.tensor and torch.equal(copy.tensor, torch.full((4, 2), 2.0))
    assert Part(live, torch.tensor([2])).on_host().tensor.shape == (1, 3)


def test_every_flipped_byte_is_found_where_it_is(tmp_path):
    storage = Storage.open(tmp_path)
    entry = write(storage, "file", {"a": Part(torch.arange(50))})
    good = (tmp_path / "file").read_bytes()
    for place in range(0, len(good), 7):
        (tmp_path / "file").write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(DamagedError, match=f"file is not what was written: .* bytes {place // 64 * 64} to"):
            Verified(storage, "file", entry).check()
    (tmp_path / "file").write_bytes(good[:-1])
    with pytest.raises(DamagedError, match="not what was written"):
        TensorFile(storage, "file", entry).tensor("a")


def test_it_reads_files_of_the_library(tmp_path):
    save_file({"a": torch.arange(6).view(2, 3)}, tmp_path / "theirs", metadata={"format": "pt"})
    storage = Storage.open(tmp_path)
    content = (tmp_path / "theirs").read_bytes()
    checked = tensor_file.Checked(type("Nowhere", (), {"write": lambda self, part: None})(), lambda: None)
    checked.write(content)
    assert torch.equal(TensorFile(storage, "theirs", checked.entry()).tensor("a"), torch.arange(6).view(2, 3))


def test_writing_beats_once_a_piece(tmp_path):
    beats = []
    write(Storage.open(tmp_path), "file", {"a": Part(torch.zeros(1000))}, beat=lambda: beats.append(1))
    assert len(beats) >= 4000 // 64


@pytest.mark.parametrize("place", ["memory://take", None])
def test_single_rows_of_a_file_here_and_in_a_store(tmp_path, place):
    storage = Storage.open(place or tmp_path)
    tensor = torch.arange(100.0).view(25, 4)
    entry = write(
        storage, "t", {"first": Part(torch.arange(7)), "table": Part(tensor), "none": Part(torch.empty(3, 0))}
    )
    file = TensorFile(storage, "t", entry)
    for rows in ([], [0], [3, 4, 17, 24], list(range(25))):
        assert torch.equal(file.take("table", np.array(rows, np.int64)), tensor[rows])
    assert torch.equal(file.take("first", np.array([2, 6])), torch.tensor([2, 6]))
    assert file.take("none", np.array([1])).shape == (1, 0)
