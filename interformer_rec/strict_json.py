"""Values become what strict JSON can hold. In: anything made of dicts, lists and numbers; out: the same, NaN and infinity as null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """JSON has no NaN: an undefined metric (an AUC without a positive, say) becomes null. NumPy scalars become Python's."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
