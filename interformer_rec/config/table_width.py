"""Which embedding_dim FBGEMM's kernels take. In: floats of a vector, of the model and of single tables; out: nothing, or a ValueError.

FBGEMM reads rows four floats at a time and asserts it deep inside a run's start, on every device and for every optimizer. A row holds
one vector for each of model.ensemble_members. The column shards of a row that fits do fit: TorchRec halves.
"""

import math
from collections.abc import Mapping

MULTIPLE = 4  # floats


def check_widths(embedding_dim: int, members: int, own: Mapping[str, int | None]) -> None:
    """`own`: table -> its embedding_dim, None where it has the model's. Raises ValueError that names the key and the nearest that works."""
    for table, dim in own.items():
        width = embedding_dim if dim is None else dim
        if width * members % MULTIPLE:
            key = "model.embedding_dim" if dim is None else f"features.tables.{table}.embedding_dim"
            step = MULTIPLE // math.gcd(MULTIPLE, members)
            nearest = max(step, step * math.floor(width / step + 0.5))
            times = f" x {members} ensemble_members" if members > 1 else ""
            raise ValueError(
                f"{key} is {width}: a row of table {table!r} would be {width * members} floats{times and f' ({width}{times})'}, and "
                f"FBGEMM's kernels take multiples of {MULTIPLE} only. The nearest that works is {nearest}"
            )
