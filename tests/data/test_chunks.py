"""Footers read by hand say what pyarrow says of whole files, and end in Arrow's error for anything else."""

from __future__ import annotations

from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.data import chunks as module
from interformer_rec.data.chunks import chunks, metadata_of, read_footer
from tests.data.samples import every_kind_rows

NAMES = {0: "PLAIN", 2: "PLAIN_DICTIONARY", 3: "RLE", 4: "BIT_PACKED", 5: "DELTA_BINARY_PACKED", 8: "RLE_DICTIONARY"}


@pytest.mark.parametrize("tail", [8, 1 << 16], ids=["two requests", "one request"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": "1.0", "compression": "none"},
        {"write_page_index": True, "sorting_columns": [pq.SortingColumn(0)]},
    ],
    ids=str,
)
def test_the_chunks_of_a_footer(tmp_path, options, tail, monkeypatch):
    monkeypatch.setattr(module, "TAIL", tail)
    path = tmp_path / "a.parquet"
    wide = every_kind_rows().rename_columns([f"{name} {'x' * 300}" for name in every_kind_rows().column_names])
    pq.write_table(wide, path, row_group_size=1, **options)
    with pa.OSFile(str(path)) as handle:
        footer = read_footer(handle)
    metadata = pq.read_metadata(path)
    assert metadata_of(footer).equals(metadata)
    found = chunks(footer)
    assert [len(group) for group in found] == [metadata.num_columns] * 4
    for group, of_group in enumerate(found):
        for place, chunk in enumerate(of_group):
            expected = metadata.row_group(group).column(place)
            sizes = (expected.num_values, expected.total_uncompressed_size, expected.total_compressed_size)
            assert chunk[:3] == sizes
            assert {NAMES[one] for one in chunk.encodings} == set(expected.encodings)


def test_bytes_that_are_no_footer(tmp_path):
    for content, message in (
        (b"PAR1" + b"\0" * 20, "PAR1 is not at its end"),
        (b"PAR1" + b"\0" * 20 + b"PARE", "its footer is encrypted"),
        (b"PAR1" + b"\xff\xff\xff\x7fPAR1", "says? that the footer is 2,147,483,647 bytes"),
        (b"x", "PAR1 is not at its end"),
    ):
        with pytest.raises(pa.ArrowInvalid, match=message):
            read_footer(pa.PythonFile(pa.BufferReader(content)))
    random = Random(0)
    pq.write_table(every_kind_rows(), tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.parquet")) as handle:
        footer = read_footer(handle)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(footer)
        damaged[random.randrange(len(damaged))] = random.randrange(256)
        try:
            chunks(bytes(damaged[: random.randrange(1, len(damaged))]))
        except pa.ArrowInvalid:
            refused += 1
    assert refused > 1000
