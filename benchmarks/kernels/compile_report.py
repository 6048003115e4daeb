"""Every kernel at widths 64, 128 and 256 comes in; a table of registers, shared memory and spills goes out. Needs no GPU.

python -m benchmarks.kernels.compile_report [--width 64 ...] [--capability 90 ...] [--json PATH]
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from benchmarks.kernels.compiled import SHARED_LIMIT, Facts, compile_launch
from interformer_rec.ops.triton import gating, gram, norm, pooling, tokens
from interformer_rec.ops.triton.attention import operator as attention
from interformer_rec.ops.triton.launch import Launch, written_down
from interformer_rec.ops.triton.per_sample_ffn import backward as per_sample_ffn_backward
from interformer_rec.ops.triton.per_sample_ffn import forward as per_sample_ffn_forward

ROWS, SAMPLES, CLS = 4096, 17, 4  # of the tensors described; only whether 16 divides them matters


def _empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _counts(*shape: int) -> Tensor:
    return _empty(*shape, dtype=torch.int64)


def attention_launches(
    channels: int, heads: int = 4, *, window: int | None = None, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Forward and backward of jagged attention with `channels` a head."""
    qk = _empty(ROWS, 2, heads, channels, dtype=dtype)
    v = _empty(ROWS, heads, channels, dtype=dtype)
    offsets, ages, form = _counts(SAMPLES + 1), _counts(ROWS), attention.Form(CLS, window, 1024)
    out, lse, turned = attention.jagged_attention_forward(qk, v, offsets, ages, form)
    attention.jagged_attention_backward(out, turned, v, offsets, ages, out, lse, form)


def pool_launches(width: int) -> None:
    """Forward and backward of PMA pooling with 8 maps."""
    maps, values, offsets = _empty(8, width), _empty(ROWS, width), _counts(SAMPLES + 1)
    out, lse = pooling.attention_pool_forward(maps, values, offsets, cls=CLS)
    pooling.attention_pool_backward(out, maps, values, offsets, out, lse, cls=CLS)


def ffn_launches(width: int, rank: int) -> None:
    """Forward and backward of the per-sample FFN."""
    values, w1, w2 = _empty(ROWS, width), _empty(SAMPLES, width, rank), _empty(SAMPLES, rank, width)
    offsets = _counts(SAMPLES + 1)
    per_sample_ffn_forward.per_sample_ffn_forward(values, w1, w2, offsets)
    per_sample_ffn_backward.per_sample_ffn_backward(values, values, w1, w2, offsets)


def small_launches(width: int) -> None:
    """Norm, gates, prepend, summary and DOT, forward and backward."""
    values, offsets, ends = _empty(ROWS, width), _counts(SAMPLES + 1), _counts(SAMPLES, 2)
    norm.rms_norm_forward(values, _empty(width))
    norm.rms_norm_backward(values, values, _empty(width))
    gating.gate_forward(values, values, None, "swish")
    gating.gate_backward(values, values, values, _empty(width), "mask")
    tokens.prepend_forward(_empty(SAMPLES, CLS, width), values, offsets)
    tokens.prepend_backward(values, CLS, offsets)
    tokens.take_summary_forward(values, offsets, ends, cls=CLS, recent=2)
    tokens.take_summary_backward(_empty(SAMPLES, CLS + 4, width), ROWS, offsets, ends, cls=CLS, recent=2)
    gram.gram_forward(_empty(SAMPLES, 40, width))
    gram.gram_backward(_empty(SAMPLES, 40 * 39 // 2), _empty(SAMPLES, 40, width))


def launches(width: int, capability: int) -> Iterator[tuple[str, Launch]]:
    """(form, launch) of every kernel at one width; attention with as many channels a head, the hardest case."""
    forms: dict[str, Any] = {
        "all": lambda: attention_launches(width),
        "window": lambda: attention_launches(width, window=128),
        "8 maps": lambda: pool_launches(width),
        "r 64": lambda: ffn_launches(width, 64),
        "r 256": lambda: ffn_launches(width, 256),
        "": lambda: small_launches(width),
    }
    seen = set()
    for form, describe in forms.items():
        with written_down(capability) as found:
            describe()
        for launch in found:
            key = (launch.kernel.__name__, str(launch.constants))
            if key not in seen:
                yield form, launch
            seen.add(key)


def _row(width: int, form: str, launch: Launch, facts: Facts) -> dict[str, Any]:
    rows, step = (launch.constants.get(name) for name in ("ROWS", "STEP"))
    return {"width": width, "form": form, "rows": rows, "step": step} | facts._asdict()


def main() -> None:
    """Compile, print each as it is ready, and write the JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--width", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--capability", type=int, nargs="*", default=[100, 90, 80], choices=sorted(SHARED_LIMIT))
    parser.add_argument("--json", type=Path, default=None, help="where to write the table")
    options = parser.parse_args()
    rows = []
    for capability in options.capability:
        for width in options.width:
            for form, launch in launches(width, capability):
                rows.append(_row(width, form, launch, compile_launch(launch, capability)))
                print(" | ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if options.json is not None:
        columns = list(rows[0])
        lines = ",\n  ".join(json.dumps(list(row.values())) for row in rows)
        text = f'{{"triton": "{triton.__version__}", "columns": {json.dumps(columns)},\n "rows": [\n  {lines}\n]}}\n'
        options.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
