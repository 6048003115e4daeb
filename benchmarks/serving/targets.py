"""What serving has to reach, beside what it did. In: rows of a result; out: a line a target."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def targets(rows: Rows) -> list[dict[str, Any]]:
    """{what, found, bound, met}; `found` and `met` None where this run has no such shape."""

    def ratio(level: str, events: int, candidates: int, slow: str, fast: str) -> float | None:
        times = [_cpu(rows, level, events, candidates, name) for name in (slow, fast)]
        return None if None in times else times[0] / times[1]  # type: ignore[operator]

    found = [
        _least(
            "C rows over split, 100 events, 500 candidates", ratio("scorer", 100, 500, "C rows, jagged", "aoti"), 20
        ),
        _least(
            "C rows over split, 1,000 events, 50 candidates", ratio("scorer", 1_000, 50, "C rows, jagged", "aoti"), 40
        ),
        _least("no split over split, 100 / 500", ratio("scorer", 100, 500, "split off, aoti", "aoti"), 10),
        _least("no split over split, 1,000 / 50", ratio("scorer", 1_000, 50, "split off, aoti", "aoti"), 10),
        *(_most(f"portable package over native, 100 / {count}", _native(rows, 100, count), 1.15) for count in (1, 500)),
        _most(
            "request over its graphs, in process, 100 / 500",
            ratio("scorer", 100, 500, "request, aoti", "graphs, aoti"),
            2,
        ),
        _most("request over its graphs, server's CPU, 100 / 500", _request(rows), 2),
        *(
            _least(
                f"batches save CPU, 100 / {candidates}",
                ratio("server", 100, candidates, "serve, one by one", "serve"),
                bound,
            )
            for candidates, bound in ((1, 3), (50, 1.5))
        ),
        _most("batches' p50 over one by one, 100 / 500", _p50(rows), 1),
        _most("HTTP alone, ms CPU a request", _http(rows), 0.15),
        _most("AUC lost by int8 tables", _auc_lost(rows), 1e-5),
    ]
    return found


def _cpu(rows: Rows, level: str, events: int, candidates: int, alternative: str) -> float | None:
    wanted = {"level": level, "events": events, "candidates": candidates, "alternative": alternative}
    return next((row["cpu_ms"] for row in rows if wanted.items() <= row.items()), None)


def _native(rows: Rows, events: int, candidates: int) -> float | None:
    shape = {"level": "scorer", "events": events, "candidates": candidates, "alternative": "aoti, native"}
    return next((row["portable_over_native"]["median"] for row in rows if shape.items() <= row.items()), None)


def _request(rows: Rows) -> float | None:
    whole, graphs = _cpu(rows, "server", 100, 500, "serve"), _cpu(rows, "scorer", 100, 500, "graphs, aoti")
    return None if whole is None or graphs is None else whole / graphs


def _p50(rows: Rows) -> float | None:
    shape = {"level": "server", "events": 100, "candidates": 500, "alternative": "serve"}
    return next((row.get("p50_over_one_by_one") for row in rows if shape.items() <= row.items()), None)


def _http(rows: Rows) -> float | None:
    return max((row["cpu_ms"] for row in rows if row["level"] == "http"), default=None)


def _auc_lost(rows: Rows) -> float | None:
    return next(
        (-row["auc_change"] for row in rows if (row["level"], row["alternative"]) == ("accuracy", "int8")), None
    )


def _least(what: str, found: float | None, bound: float) -> dict[str, Any]:
    met = None if found is None else found >= bound
    return {"what": what, "found": found, "bound": f"at least {bound}", "met": met}


def _most(what: str, found: float | None, bound: float) -> dict[str, Any]:
    met = None if found is None else found <= bound
    return {"what": what, "found": found, "bound": f"at most {bound}", "met": met}
