"""What a GPU run is held against: all its cases come in; each target with what was wanted, measured, and whether it was met, goes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
MFU, KERNEL_SHARE, OVER_PADDED, TABLE_SHARE = 0.40, 0.60, 1.5, 0.70
FROM_WIDTH = 128  # channels from which the kernels' targets hold
PADDED = {
    "attention": "SDPA padded, compiled",
    "attention_rotary": "SDPA padded, compiled",
    "ffn": "padded bmm, compiled",
}


def targets(cases: list[Row]) -> list[Row]:
    """{target, where, wanted, measured, passed}; of several cases the worst counts. Nothing measured: None and None."""
    return [_mfu(cases), *_kernels(cases), *_tables(cases)]


def _mfu(cases: list[Row]) -> Row:
    fitting = [row for row in _right(cases, "target") if row["variant"] == "jagged"]
    return _goal("MFU of training", fitting, "mfu", MFU, ("workload", "d", "layers", "longest"))


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
