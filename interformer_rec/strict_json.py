"""Values become what strict JSON can hold and anybody may read. In: dicts, lists, numbers, text; out: the same, NaN as null, no secret."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from interformer_rec.redaction import redact


def finite(value: Any) -> Any:
    """JSON has no NaN: an undefined metric (an AUC without a positive, say) becomes null. NumPy scalars become Python's.

    Text loses its credentials (redaction.py): everything that is saved or printed as JSON goes through here.
    """
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    if isinstance(value, str):
        return redact(value)
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
