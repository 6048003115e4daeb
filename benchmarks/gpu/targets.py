"""What a GPU run is held against: all its cases come in; each target with what was wanted, measured, and whether it was met, goes out."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# Of a model of width 256 over histories of T events. Beside it: NVIDIA's HSTU trains at 31.4 to 34.5% end to end, and its attention
# kernel alone reaches 27% at T = 1,024 (recsys-examples, H100).
MFU_WIDTH, MFU = 256, {1024: 0.30, 4096: 0.40}
KERNEL_SHARE, OVER_PADDED, TABLE_SHARE = 0.60, 1.5, 0.70
# candidates a request: times as fast as the same candidates as impressions, T about 1,000
REQUESTS = {
    8: 5.0,
    64: 15.0,
}
FROM_WIDTH = 128  # channels from which the kernels' targets hold
PADDED = {
    "attention": "SDPA padded, compiled",
    "attention_rotary": "SDPA padded, compiled",
    "ffn": "padded bmm, compiled",
}
SHEETS = ("a100", "h100", "h200", "b200")  # GPUs whose datasheet a cluster file quotes
CLUSTERS = Path(__file__).parents[2] / "configs" / "clusters"


def datasheet(device: str) -> float | None:
    """bf16 FLOP/s by the maker, of a device as the driver calls it; None for one without a cluster file."""
    for sheet in SHEETS:
        if sheet in device.lower():
            found = sorted(CLUSTERS.glob(f"dgx-{sheet}*.yaml"))
            text = found[0].read_text(encoding="utf-8")  # without a YAML reader, which a bare host lacks
            return float(re.findall(r"^bf16_tflops: ([\d.]+)$", text, re.MULTILINE)[0]) * 1e12
    return None


def targets(cases: list[Row], device: str) -> list[Row]:
    """{target, where, wanted, measured, passed}; of several cases the worst counts. Nothing measured: None and None."""
    return [*_mfu(cases, datasheet(device)), *_requests(cases), *_kernels(cases), *_tables(cases)]


def _mfu(cases: list[Row], sheet: float | None) -> Iterable[Row]:
    where = ("workload", "d", "layers", "longest")
    for longest, wanted in MFU.items():
        fitting = [row for row in _right(cases, "mfu") if row["d"] == MFU_WIDTH and row["longest"] == longest]
        yield _goal(f"MFU of training, T = {longest}, of the measured ceiling", fitting, "mfu", wanted, where)
        quoted = [{**row, "of_sheet": row["flops_per_second"] / sheet} for row in fitting] if sheet else []
        yield _goal(f"MFU of training, T = {longest}, of the datasheet", quoted, "of_sheet", wanted, where)


def _requests(cases: list[Row]) -> Iterable[Row]:
    for candidates, wanted in REQUESTS.items():
        found = [row for row in _right(cases, "requests") if row["candidates"] == candidates]
        fitting = [{**row, "times": row["times_faster"]["median"]} for row in found]
        yield _goal(f"request rows, {candidates} candidates: times impressions", fitting, "times", wanted, ("longest",))


def _kernels(cases: list[Row]) -> Iterable[Row]:
    for operator, padded in PADDED.items():
        for direction in ("forward", "step"):
            fitting = [
                row
                for row in cases
                if row.get("operator") == operator and row.get("direction") == direction and row["d"] >= FROM_WIDTH
            ]
            ours = [row for row in fitting if row["alternative"] == "ours"]
            name, where = f"{operator}, {direction}", ("d", "heads", "longest")
            yield _goal(f"{name}: of the matmul ceiling", ours, "of_ceiling", KERNEL_SHARE, where)
            theirs = [row for row in fitting if row["alternative"] == padded and row["times_ours"] is not None]
            yield _goal(f"{name}: times padded, compiled", theirs, "times_ours", OVER_PADDED, where)


def _tables(cases: list[Row]) -> Iterable[Row]:
    for phase in ("lookup", "step"):
        fitting = [
            row
            for row in _right(cases, "embeddings")
            if row["phase"] == phase and row["alternative"] == "rowwise_adagrad"
        ]
        yield _goal(
            f"tables, {phase}: of a copy", fitting, "of_ceiling", TABLE_SHARE, ("kind", "dim", "pooling", "ids")
        )


def _right(cases: list[Row], part: str) -> list[Row]:
    return [row for row in cases if row["part"] == part and "error" not in row]


def _goal(target: str, fitting: list[Row], measure: str, wanted: float, where: tuple[str, ...]) -> Row:
    if not fitting:
        return {"target": target, "where": "", "wanted": wanted, "measured": None, "passed": None}
    worst = min(fitting, key=lambda row: row[measure])
    place = " ".join(f"{name} {worst[name]}" for name in where)
    return {
        "target": target,
        "where": place,
        "wanted": wanted,
        "measured": worst[measure],
        "passed": worst[measure] >= wanted,
    }
