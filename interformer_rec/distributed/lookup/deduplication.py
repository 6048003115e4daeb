"""FBGEMM's jagged_unique_indices for the CPU, which FBGEMM has for CUDA only. In: ids by feature; out: each distinct id of a table once.

TorchRec calls it where `EmbeddingCollectionSharder(use_index_dedup=True)`: distinct ids go to the ranks that hold them, one vector each
comes back and is copied to its places; in the backward pass the gradients of the places are summed before they are sent.
Legend: F features, B rows of a batch, J ids.
"""

import itertools

import torch
from torch import Tensor

OPERATOR = "fbgemm::jagged_unique_indices"
DENSE = 4  # a table of up to so many rows an id is counted row by row, a larger one's ids are sorted


def enable_on_cpu() -> None:
    """Register the operator below for CPU tensors, unless FBGEMM has done so. For the whole process, once."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key(OPERATOR, "CPU"):
        torch.library.impl(OPERATOR, "CPU", unique_ids)


def unique_ids(
    hash_size_cumsum: Tensor, hash_size_offsets: Tensor, offsets: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lengths (F * B,), offsets (F * B + 1,), unique ids (U,) and the place of each id among them (J,), as FBGEMM gives them.

    `hash_size_cumsum` (F + 1,): rows of the tables before a feature's, the same for all features of a table. `hash_size_offsets`
    (F + 1,): differs between neighbours where a table's first feature stands, by its features. Unique ids belong to no row any more:
    a table's are dealt out evenly over the lengths of its features, so that the exchange can count them.
    """
    features = len(hash_size_offsets) - 1
    batch = (len(offsets) - 1) // features
    counts_F = offsets[::batch].diff() if batch else offsets.new_zeros(features)
    linear_J = indices + torch.repeat_interleave(hash_size_cumsum[:-1], counts_F, output_size=len(indices))
    unique_U, place_J = _unique(linear_J, int(hash_size_cumsum[-1]))
    lengths, bases = [], []
    ends = torch.searchsorted(unique_U, hash_size_cumsum).tolist()
    for first, last in _groups(hash_size_offsets.tolist()):
        count, parts = ends[last] - ends[first], (last - first) * batch
        more = torch.arange(parts, device=indices.device) < (count % parts if parts else 0)
        lengths.append(more.to(torch.int64) + (count // parts if parts else 0))
        bases.append(hash_size_cumsum[first].expand(count))
    lengths_FB = torch.cat(lengths)
    ends_FB = torch.cat([lengths_FB.new_zeros(1), lengths_FB.cumsum(0)])
    return lengths_FB, ends_FB, unique_U - torch.cat(bases), place_J


def _groups(bounds: list[int]) -> list[tuple[int, int]]:
    """First and behind-last feature of each table."""
    return [(low, high) for low, high in itertools.pairwise(bounds) if low < high]


def _unique(ids_J: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Distinct ids, ascending, and the place of each id among them."""
    if rows > DENSE * len(ids_J):
        unique, place = torch.unique(ids_J, return_inverse=True)
        return unique, place
    seen = torch.zeros(rows, dtype=torch.bool, device=ids_J.device)
    seen[ids_J] = True
    return seen.nonzero()[:, 0], (seen.cumsum(0) - 1)[ids_J]
