"""How many ids of a window no vocabulary knows. In: batches of table rows; out: the share of unknown ids of every id column."""

import math

import numpy as np
import torch
import torch.distributed as dist
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from interformer_rec.batch import Batch
from interformer_rec.config.features import MISSING_ROW, UNKNOWN_ROW, FeatureSchema


class UnknownIds:
    """Counts of one evaluation. Only vocab tables have an unknown row; ids that are null do not count."""

    def __init__(self, features: FeatureSchema, device: torch.device) -> None:
        self._device = device
        keys = {
            "sparse": [(one.key, features.tables[one.table].ids) for one in features.pooled_lookups],
            "sequences": [(one.key, features.tables[one.table].ids) for one in features.jagged_lookups],
        }
        self._keys = {
            part: [(place, key) for place, (key, ids) in enumerate(of) if ids == "vocab"] for part, of in keys.items()
        }
        self._counts = {key: np.zeros(2, np.int64) for of in self._keys.values() for _, key in of}  # unknown, all

    def add(self, batch: Batch) -> None:
        """Count the ids of a batch, which is on the host."""
        for part, keys in self._keys.items():
            if not keys:
                continue
            ids: KeyedJaggedTensor = getattr(batch, part)
            ends, values = ids.offset_per_key(), ids.values().numpy()
            for place, key in keys:
                rows = values[ends[place] : ends[place + 1]]
                self._counts[key] += (np.count_nonzero(rows == UNKNOWN_ROW), np.count_nonzero(rows != MISSING_ROW))

    def shares(self) -> dict[str, float]:
        """KEY/unknown of every column; NaN where it has no id (collective)."""
        if not self._counts:
            return {}
        sums = torch.from_numpy(np.stack(list(self._counts.values()))).to(self._device)
        dist.all_reduce(sums)
        found = zip(self._counts, sums.tolist(), strict=True)
        return {f"{key}/unknown": unknown / ids if ids else math.nan for key, (unknown, ids) in found}
