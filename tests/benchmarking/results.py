"""A made-up result, for tests of what is made of results: two kinds over three lengths, one point of which has no room."""

from __future__ import annotations

from typing import Any


def case(kind: str, longest: int, **more: Any) -> dict[str, Any]:
    """A measured point: 1,000 samples a second at 64 events, half of that at 128 and so on."""
    rate = 64_000 / longest
    predicted = {
        "cluster": "this machine",
        "step_ms": 80.0,
        "samples_per_second": 0.9 * rate,
        "peak_bytes": 2.0**30,
        "sent_bytes": 0.0,
        "price_per_million_samples": None,
        "why": "",
    }
    return {
        **{
            "kind": kind,
            "longest": longest,
            "candidates": None,
            "ranks": 1,
            "batch_size": 100,
            "file_longest": longest,
        },
        **{"turns": 3, "steps": 36, "step_ms": 1e5 / rate, "step_ms_p25": 0.96e5 / rate, "step_ms_p75": 1.04e5 / rate},
        **{"samples_per_second": rate, "samples_per_second_low": 0.9 * rate, "samples_per_second_high": 1.1 * rate},
        **{
            "requests_a_row": 1.0,
            "cpu_ms_a_sample": 1.5e3 / rate,
            "events_a_row": longest / 4,
            "events_per_second": rate * longest / 4,
        },
        **{"flops_a_row": 1e6, "mfu": 0.1, "peak_bytes": 2**28 + longest * 2**20, "wait_share": 0.01},
        **{"stages_ms": {"data": 1.0}, "predicted_over_measured": 0.9, "price_per_million_samples": None},
        **{"predicted": predicted, "error": None, **more},
    }


def result(**more: Any) -> dict[str, Any]:
    """As `interformer benchmark` writes it."""
    refused = {
        key: value for key, value in case("din", 4096).items() if key in ("kind", "longest", "candidates", "ranks")
    }
    refused |= {"batch_size": 100, "file_longest": 4096, "error": "no room"}
    refused["predicted"] = {
        **case("din", 1)["predicted"],
        "step_ms": None,
        "samples_per_second": None,
        "peak_bytes": None,
    }
    cases = [case(kind, longest) for kind in ("interformer", "din") for longest in (64, 128, 512)]
    return {
        **{"benchmark": "interformer benchmark", "format": 1, "version": "0", "name": "shop", "config": "shop.yaml"},
        **{"set": [], "what": "step", "distribution": "data", "fill": None, "precision": "fp32", "device": "a CPU"},
        **{"cores": 2, "threads": 1, "python": "3", "versions": {"torch": "2"}, "date": "2026-11-30", "load": 1.5},
        **{"ceilings": {"1": {"fp32": 1e11}}, "seconds": 90.0, "cases": [*cases, refused], **more},
    }  # fmt: skip
