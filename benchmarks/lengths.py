"""How long histories are. In: a distribution's name, the longest length, a fill; out: (rows,) lengths drawn from it.

fixed   every history has `longest` events (fill 1)
zipf    P(n) ~ n^-a for n = 0.5 .. longest, a chosen so that the mean is fill * longest: many short, few long
data    KuaiRand-Pure's `watch` histories (percentiles kept in configs/statistics), cut at `longest`; fill is what comes out
"""

import json
from pathlib import Path

import numpy as np

from interformer_rec.benchmarking.rows import lengths as made_up

DISTRIBUTIONS = ("fixed", "zipf", "data")
STATISTICS = Path(__file__).parents[1] / "configs" / "statistics" / "kuairand_pure.json"


def draw(name: str, rows: int, longest: int, fill: float, seed: int = 0) -> np.ndarray:
    """(rows,) int64 lengths from 0 to `longest`. Raises ValueError for a fill that zipf cannot have (0 < fill <= 0.5)."""
    generator = np.random.default_rng(seed)
    if name in ("fixed", "zipf"):
        return made_up.draw(name, rows, longest, fill, generator)
    if name == "data":
        known = json.loads(STATISTICS.read_text(encoding="utf-8"))["sequences"]["watch"]
        places = [0.0, 0.5, 0.95, 0.99, 1.0]
        values = [0.0, known["p50"], known["p95"], known["p99"], known["max"]]
        return np.minimum(np.rint(np.interp(generator.random(rows), places, values)), longest).astype(np.int64)
    raise ValueError(f"unknown length distribution {name!r}; there are {', '.join(DISTRIBUTIONS)}")
