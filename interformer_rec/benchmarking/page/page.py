"""A benchmark as a page. In: what result.py makes of it; out: one HTML file, readable offline.

The tables are written here; the curves are drawn by benchmark.js from the numbers, which are in the page as one JSON block.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interformer_rec.benchmarking.doublings import doublings
from interformer_rec.files import finite
from interformer_rec.html import environment as html
from interformer_rec.text import count, milliseconds

HERE = Path(__file__).parent
TIMES = ("times", "a_doubling", "times_cpu", "a_doubling_cpu")
PARTS = {
    "step": "the whole training step, Parquet to optimizers",
    "model": "forward and backward pass of the dense part",
    "lookup": "lookup and update of the tables",
    "data": "the loader, Parquet to batches",
}
LENGTHS = {
    "data": "own rows, histories cut or stretched to each length",
    "zipf": "made-up rows, Zipf lengths",
    "fixed": "made-up rows, all histories of the longest length",
}


def render(content: Mapping[str, Any]) -> str:
    """The page's HTML; the same content gives the same bytes."""
    content = finite(dict(content))
    cases = content["cases"]
    values = {
        **content,
        "about": f"{PARTS[content['what']]}; {LENGTHS[content['distribution']]}",
        "rows": [_row(case) for case in cases],
        "doublings": [{**one, **{name: _times(one[name]) for name in TIMES}} for one in doublings(cases)],
        "measured": sum(case.get("steps") is not None for case in cases),
        "priced": any(case.get("price_per_million_samples") or case["predicted"]["price_per_million_samples"] for case in cases),
        "versions": ", ".join(f"{name} {found}" for name, found in content["versions"].items()),
        "clusters": sorted({case["predicted"]["cluster"] for case in cases}),
        "data": html.json_block(content),
        "script": html.script(HERE, "benchmark.js"),
    }  # fmt: skip
    return html.render(HERE, "benchmark.html.j2", values)


def _row(case: Mapping[str, Any]) -> dict[str, Any]:
    """Texts that have no filter; None where nothing was measured."""
    predicted, step, ratio = case["predicted"], case.get("step_ms"), case.get("predicted_over_measured")
    price = case.get("price_per_million_samples") or predicted["price_per_million_samples"]
    known = {name: case.get(name) for name in ("events_a_row", "samples_per_second", "events_per_second", "mfu")}
    return {
        **case,
        **{name: None if value is None or name == "mfu" else round(value, 1) for name, value in known.items()},
        "mfu": known["mfu"],
        "peak_bytes": case.get("peak_bytes"),
        "wait_share": case.get("wait_share"),
        "sent": case.get("sent_bytes"),
        "step": "–" if step is None else milliseconds(step),
        "spread": "–"
        if step is None
        else f"{milliseconds(case['step_ms_p25'])} to {milliseconds(case['step_ms_p75'])}",
        "said": "–" if predicted["step_ms"] is None else milliseconds(predicted["step_ms"]),
        "ratio": "–" if ratio is None else f"{ratio:.2f}",
        "price": "–" if price is None else f"{price:,.3g}",
        "length": count(case["longest"]),
    }


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
