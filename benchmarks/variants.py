"""One training step of the dense part, written in several ways. In: a workload and lengths; out: functions that take one step each.

    jagged            this package: cost follows the events that exist
    padded            the same weights on (B, longest, d) tensors with masks (padded.py)
    padded, compiled  that through torch.compile
    jagged, compiled  the package's model through torch.compile
    jagged, overlap   Interaction and Sequence Arch in two CUDA streams (on a CPU: as jagged)

A step is forward, loss and backward from the looked-up vectors on; tables and optimizer are benchmarks.scaling's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.padded import PaddedInterFormer, pad_events
from benchmarks.workload import Inputs, inputs
from interformer_rec.model.interformer import InterFormer
from interformer_rec.model_config import ModelConfig
from interformer_rec.schema import FeatureSchema

VARIANTS = ("jagged", "padded", "padded, compiled", "jagged, compiled", "jagged, overlap")


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
        self.padded = PaddedInterFormer(self.model, options)
        self.longest = features.sequences[0].max_length
        self.device, self.precision = device, precision
        self.inputs: Inputs = inputs(features, options, lengths, device)
        self.events = pad_events(self.inputs.embedded.events, self.longest)

    def get(self, variant: str) -> Callable[[], Tensor]:
        """A function that takes one step and returns the loss. Compiled variants compile at their first call."""
        fields, dense = self.inputs.embedded.fields, self.inputs.dense
        if variant.startswith("padded"):
            padded = torch.compile(self.padded, dynamic=False) if variant.endswith("compiled") else self.padded
            return lambda: self._step(lambda: padded(dense, fields, self.events))
        jagged = torch.compile(self.model, dynamic=True) if variant.endswith("compiled") else self.model

        def forward() -> Tensor:
            for layer in self.model.layers:
                layer.overlap = variant.endswith("overlap")
            return jagged(dense, self.inputs.embedded)

        return lambda: self._step(forward)

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
        ]
        for leaf in [*leaves, *(values for values, _ in self.events.values())]:
            leaf.grad = None
