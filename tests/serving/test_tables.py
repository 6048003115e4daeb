"""Tables of an artefact are maps: resident memory holds the pages of the rows that were asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
# In a process of its own: opens a table, takes rows, and says how its resident memory grew, anonymous and of files, in MiB.
MEASURE = """
import json, sys
from pathlib import Path
import numpy as np
from interformer_rec.serving.tables import TableFile

def resident():
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0]: int(line[1]) / 1024 for line in lines if line[0] in ("RssAnon:", "RssFile:")}

path, form, rows, width, asked = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
np.zeros(8).take(np.arange(8), axis=0)
before = resident()
table = TableFile(path, form, rows, width)
opened = resident()
found = table.take(np.linspace(0, rows - 1, asked).astype(np.int64))
after = resident()
print(json.dumps({
    "opened": sum(opened.values()) - sum(before.values()),
    "anonymous": after["RssAnon:"] - before["RssAnon:"],
    "files": after["RssFile:"] - before["RssFile:"],
    "last": found[-1].tolist(),
}))
"""


def sparse_table(path: Path, form: str, rows: int, width: int) -> np.ndarray:
    """A safetensors file that is a hole but for its last row; returns that row as it is read."""
    size, name = {"fp32": (4, "F32"), "fp16": (2, "F16"), "int8": (1, "U8")}[form]
    end = rows * width * size
    header = {"weight": {"dtype": name, "shape": [rows, width], "data_offsets": [0, end]}}
    last = np.arange(width)
    content = [last.astype({"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}[form]).tobytes()]
    places = [end - width * size]
    if form == "int8":
        for part, value in (("scale", 0.5), ("bias", -1.0)):
            header[part] = {"dtype": "F32", "shape": [rows], "data_offsets": [end, end + rows * 4]}
            end += rows * 4
            content.append(np.float32(value).tobytes())
            places.append(end - 4)
        last = last * 0.5 - 1
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        for place, part in zip(places, content, strict=True):
            file.seek(8 + len(text) + place)
            file.write(part)
    return last.astype(np.float32)


@pytest.mark.parametrize("form", ["fp32", "fp16", "int8"])
def test_a_large_table_is_not_read(form, tmp_path):
    rows, width, asked = 1_200_000, 64, 100
    last = sparse_table(tmp_path / "table", form, rows, width)
    size = (tmp_path / "table").stat().st_size / MIB
    assert size > {"fp32": 290, "fp16": 145, "int8": 80}[form]
    command = [sys.executable, "-c", MEASURE, tmp_path / "table", form, rows, width, asked]
    said = json.loads(subprocess.check_output([str(one) for one in command], cwd=ROOT, timeout=120))
    assert said["last"] == last.tolist()
    assert said["opened"] < 4
    assert said["anonymous"] < 4
    # the kernel maps a few pages around each that is touched; a hundred rows are far from the whole
    assert said["files"] < min(16, size / 4)
