"""One training step of the dense part, written in several ways. In: a workload and lengths; out: functions that take one step each.

    jagged            this package: cost follows the events that exist
    padded            the same model on (B, longest, d) tensors with masks (padded.py)
    padded, compiled  that through torch.compile
    jagged, compiled  the package's model through torch.compile
    jagged, overlap   Interaction and Sequence Arch in two CUDA streams (on a CPU: as jagged)
    jagged, linear    without scores and weighted sums of the self-attention: what grows with the events, not their pairs
    jagged, empty     the same rows with empty histories: what grows with the rows alone

A step is forward, loss and backward from the looked-up vectors on; tables and optimizer: `interformer benchmark`.
"""

from collections.abc import Callable, Mapping
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.padded import pad_events
from benchmarks.workload import Inputs, inputs
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.model import ModelConfig
from interformer_rec.model import attention
from interformer_rec.model.interformer import InterFormer
from interformer_rec.ops.attention import Rotary
from interformer_rec.ops.jagged import JaggedLayout
from interformer_rec.ops.rotary import rotate

VARIANTS = (
    *("jagged", "padded", "padded, compiled", "jagged, compiled"),
    *("jagged, overlap", "jagged, linear", "jagged, empty"),
)


def _without_pairs(
    qk_J2HC: Tensor, v_JHC: Tensor, layout: JaggedLayout, rotary: Rotary, window: int | None = None
) -> Tensor:
    """In the place of ops.attention.jagged_attention: queries and keys are made and turned, but never meet."""
    del window
    turned = qk_J2HC
    if rotary.table is not None:
        turned = rotate(qk_J2HC.flatten(1), rotary.table).view(qk_J2HC.shape)
    return v_JHC + turned[:, 0] + turned[:, 1]


class Steps:
    """All variants over the same weights and the same batch."""

    def __init__(
        self,
        features: FeatureSchema,
        options: ModelConfig,
        lengths: Mapping[str, np.ndarray],
        device: torch.device,
        precision: str,
    ) -> None:
        torch.manual_seed(0)
        self.model = InterFormer(features, options).to(device)
        self.longest = features.sequences[0].max_length
        self.device, self.precision = device, precision
        self.inputs: Inputs = inputs(features, options, lengths, device)
        nothing = {name: np.zeros_like(drawn) for name, drawn in lengths.items()}
        self.empty = inputs(features, options, nothing, device)
        self.padded = pad_events(self.inputs.embedded, self.longest)

    def get(self, variant: str) -> Callable[[], Tensor]:
        """A function that takes one step and returns the loss. Compiled variants compile at their first call."""
        dense = self.inputs.dense
        if variant.startswith("padded"):
            padded = torch.compile(self.model, dynamic=False) if variant.endswith("compiled") else self.model
            return lambda: self._step(lambda: padded(dense, self.padded))
        if variant == "jagged, empty":
            return lambda: self._step(lambda: self.model(self.empty.dense, self.empty.embedded))
        jagged = torch.compile(self.model, dynamic=True) if variant.endswith("compiled") else self.model

        def forward() -> Tensor:
            for layer in self.model.layers:
                layer.overlap = variant.endswith("overlap")
            return jagged(dense, self.inputs.embedded)

        if variant != "jagged, linear":
            return lambda: self._step(forward)

        def step() -> Tensor:
            with mock.patch.object(attention, "jagged_attention", _without_pairs):
                return self._step(forward)

        return step

    def _step(self, forward: Callable[[], Tensor]) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = forward()
        loss = F.binary_cross_entropy_with_logits(logits[:, 0].float(), self.inputs.labels)
        loss.backward()
        self._clear()
        return loss.detach()

    def _clear(self) -> None:
        self.model.zero_grad(set_to_none=True)
        leaves = [
            *self.inputs.embedded.fields.values(),
            *(group.values for group in self.inputs.embedded.events.values()),
            *self.empty.embedded.fields.values(),
            *(group.values for group in self.empty.embedded.events.values()),
        ]
        for leaf in [*leaves, *(group.values for group in self.padded.events.values())]:
            leaf.grad = None
