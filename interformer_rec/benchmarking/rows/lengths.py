"""How long made-up histories are. In: a distribution's name, the longest length, a fill; out: (rows,) lengths. Needs numpy alone.

fixed   every history has `longest` events
zipf    P(n) ~ n^-a for n = 0.5 .. longest, a chosen so that the mean is fill * longest: many short, few long
"""

import numpy as np


def draw(distribution: str, rows: int, longest: int, fill: float, random: np.random.Generator) -> np.ndarray:
    """(rows,) int64 lengths from 0 to `longest`. Raises ValueError for a fill that zipf cannot have (0 < fill <= 0.5)."""
    if distribution == "fixed":
        return np.full(rows, longest, np.int64)
    return random.choice(longest + 1, rows, p=zipf(longest, fill)).astype(np.int64)


def zipf(longest: int, fill: float) -> np.ndarray:
    """(longest + 1,) probabilities of the lengths 0 .. longest with mean fill * longest; the exponent by bisection."""
    if not 0 < fill <= 0.5:
        raise ValueError(f"zipf lengths fill 0 to 0.5 of the longest (0.5: all lengths alike), not {fill}")
    sizes = np.arange(longest + 1)
    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        weights = np.maximum(sizes, 0.5) ** -middle
        low, high = (middle, high) if (weights @ sizes) / weights.sum() > fill * longest else (low, middle)
    weights = np.maximum(sizes, 0.5) ** -low
    return weights / weights.sum()
