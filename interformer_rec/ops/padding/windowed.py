"""Windowed attention in plain torch: padded queries, keys and values come in, what each token attends to goes out.

A token sees its sample's tokens at most `window` places away and the CLS tokens; CLS tokens see all. Events are cut into blocks, and a
block's queries meet the keys of the blocks around it alone: the cost of an event does not grow with the history.
Legend: S samples, N tokens, c of them CLS tokens in front, T = N - c events, n blocks of b events, r blocks seen on each side, H heads,
C channels a head, K = (2 r + 1) (c + b) keys of a block: each block brings copies of the CLS tokens, of which its own are seen.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# events of a block, measured on a CPU: smaller ones multiply badly, larger ones see too much
SMALLEST, LARGEST = 32, 64
DENSE = 4  # blocks; samples of fewer events attend in one product with a mask, which costs less


class WindowMask(NamedTuple):
    """What is seen, made once a batch for all layers. Scores are added to: 0 or -inf."""

    of_cls: Tensor | None  # (S, 1, 1, N) bool, what CLS tokens see; None: all
    of_events: Tensor  # (S n, 1, b, K); without blocks (S or 1, 1, N, N), the CLS tokens' rows too
    block: int = 0  # b; 0: no blocks
    reach: int = 0  # r
    blocks: int = 0  # n


def window_mask(is_token_SN: Tensor | None, shape: tuple[int, int], cls: int, window: int, like: Tensor) -> WindowMask:
    """Of S samples and N tokens, the first `cls` of them CLS tokens; `is_token` None: nothing is padded.

    In the dtype and on the device of `like`.
    """
    samples, tokens = shape
    device, events = like.device, tokens - cls
    block = min(max(window, SMALLEST), LARGEST)
    of_cls = None if is_token_SN is None else is_token_SN[:, None, None, :]
    if events <= DENSE * block:
        place = torch.arange(tokens, device=device)
        is_cls = place < cls
        seen = (((place[:, None] - place).abs() <= window) | is_cls | is_cls[:, None])[None, None]
        return WindowMask(of_cls, _added(seen if of_cls is None else seen & of_cls, like))
    reach, count = -(-window // block), -(-events // block)
    key = torch.arange((2 * reach + 1) * (cls + block), device=device)
    of_block, slot = key // (cls + block) - reach, key % (cls + block) - cls
    is_cls, own = slot < 0, of_block == 0
    away = of_block * block + slot  # from the block's first query, in events
    near = (torch.arange(block, device=device)[:, None] - away).abs() <= window
    place = torch.arange(count, device=device)[:, None] * block + away  # (n, K)
    exists = (place >= 0) & (place < events)
    if is_token_SN is None:
        exists = exists[None]
    else:
        exists = exists & is_token_SN[:, cls:].index_select(1, place.clamp(0, events - 1).flatten()).unflatten(
            1, place.shape
        )
    seen = torch.where(is_cls, own, exists)[:, :, None] & (near | is_cls)  # (S or 1, n, b, K)
    mask = _added(seen, like).expand(samples, -1, -1, -1)
    return WindowMask(of_cls, mask.flatten(0, 1)[:, None], block, reach, count)


def _added(seen: Tensor, like: Tensor) -> Tensor:
    return torch.zeros((), dtype=like.dtype, device=like.device).masked_fill(~seen, float("-inf"))


def windowed_attention(q_SNHC: Tensor, k_SNHC: Tensor, v_SNHC: Tensor, cls: int, mask: WindowMask) -> Tensor:
    """softmax(q k^T / sqrt(C)) v over what each token sees -> (S, N, H, C). What comes out at padding is not to be read."""
    if not mask.block:
        return _attention(q_SNHC, k_SNHC, v_SNHC, mask.of_events)
    events = q_SNHC.shape[1] - cls
    spare = mask.blocks * mask.block - events
    q = F.pad(q_SNHC[:, cls:], (0, 0, 0, 0, 0, spare)).unflatten(1, (mask.blocks, mask.block))
    k, v = (_around(x, cls, mask) for x in (k_SNHC, v_SNHC))
    out = _attention(q.flatten(0, 1), k, v, mask.of_events).reshape(q.shape[0], -1, *q.shape[3:])
    of_cls = _attention(q_SNHC[:, :cls], k_SNHC, v_SNHC, mask.of_cls)
    return torch.cat([of_cls, out[:, :events]], dim=1)


def _attention(q_SNHC: Tensor, k_SKHC: Tensor, v_SKHC: Tensor, mask: Tensor | None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q_SNHC, k_SKHC, v_SKHC))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _around(x_SNHC: Tensor, cls: int, mask: WindowMask) -> Tensor:
    """(S, N, H, C) -> (S n, K, H, C): what the blocks of each block's surroundings hold. A view of one copy of the events."""
    block, margin, every_block = mask.block, mask.reach * mask.block, mask.blocks + 2 * mask.reach
    behind = margin + mask.blocks * block - (x_SNHC.shape[1] - cls)
    events = F.pad(x_SNHC[:, cls:], (0, 0, 0, 0, margin, behind)).unflatten(1, (every_block, block))
    every = torch.cat([x_SNHC[:, None, :cls].expand(-1, every_block, -1, -1, -1), events], dim=2)
    size, seen = cls + block, 2 * mask.reach + 1
    return every.flatten(1, 2).unfold(1, seen * size, size).movedim(-1, 2).flatten(0, 1)
