"""All operators that the models call, and where each runs. In: nothing; out: a table, as one JSON object on stdout for the doctor.

Run as `python -m interformer_rec.ops.operators`.
"""

import json
from collections.abc import Callable
from typing import Any

from interformer_rec.ops import attention, gating, glue, gram, jagged, norm, per_sample_ffn, pooling, rotary
from interformer_rec.ops.backend import HAS_TRITON, MISSING, VARIABLE, Form, Runs, kept_on_torch
from interformer_rec.ops.token_mix import mix_tokens

OPERATORS: dict[str, Callable[..., Any]] = {
    "jagged_attention": attention.jagged_attention,
    "attention_pool": attention.attention_pool,
    "per_sample_ffn": per_sample_ffn.per_sample_ffn,
    "per_sample_linear": per_sample_ffn.per_sample_linear,
    "rms_norm": norm.rms_norm,
    "swish_gate": gating.swish_gate,
    "mask_gate": gating.mask_gate,
    "packed_gram": gram.packed_gram,
    "prepend": jagged.JaggedLayout.prepend,
    "take_summary": jagged.JaggedLayout.take_summary,
    "take_rows": jagged.take_rows,
    "rotate": rotary.rotate,
    "segment_pool": pooling.segment_pool,
    "mix_tokens": mix_tokens,
    "glue_by_age": glue.glue_by_age,
    "glue_in_turn": glue.glue_in_turn,
    "union": glue.union,
}


def where(runs: Runs, kernels: bool) -> dict[str, str | None]:
    """What runs on a CPU, on CUDA with or without `kernels`, and on which devices it is part of one graph; None: nothing, none."""

    def devices(form: Form | None) -> str | None:
        return "CUDA" if form == "kernel" and kernels else "CPU, CUDA" if form == "plain" else None

    plain = "plain torch" if runs.plain else None
    cuda = "Triton kernel" if runs.kernel and kernels else plain
    return {"CPU": plain, "CUDA": cuda, "torch.compile": devices(runs.compiled), "torch.export": devices(runs.exported)}


def table() -> dict[str, Any]:
    """Of this installation, and why CUDA has no kernels, if so."""
    why = f"the environment variable {VARIABLE} is torch" if kept_on_torch() else None if HAS_TRITON else MISSING
    rows = {name: where(operator.runs, why is None) for name, operator in OPERATORS.items()}  # type: ignore[attr-defined]
    return {"no_kernels": why, "operators": rows}


if __name__ == "__main__":
    print(json.dumps(table()))
