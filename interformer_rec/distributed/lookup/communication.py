"""How looked-up vectors and their gradients travel between ranks. In: the sharding section; out: an Exchange, TorchRec's codecs.

Only the tables' exchange (all-to-all, reduce-scatter) is meant: the dense part's gradients stay fp32, as do weights and optimizer
state. One rank exchanges nothing, so nothing changes there. fp8 and int8 are left out: docs/decisions/0036.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchrec.distributed.fbgemm_qcomm_codec import CommType, QCommsConfig, get_qcomm_codecs
from torchrec.distributed.types import CommOp, QuantizedCommCodecs

from interformer_rec.config.run import ShardingConfig

Precision = Literal["fp32", "fp16", "bf16"]

# Vectors, gradients. Gradients never travel as fp16: below 6e-8 they would be zero, and TorchRec's loss scale does not help, since its
# decoder divides before it widens.
PRECISIONS = {"fp16": (CommType.FP16, CommType.BF16), "bf16": (CommType.BF16, CommType.BF16)}
OPERATIONS = (
    CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL,
    CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER,
    CommOp.SEQUENCE_EMBEDDINGS_ALL_TO_ALL,
)


@dataclass(frozen=True)
class Exchange:
    """Histories' ids once a batch and rank (`deduplicate`), and the precision of vectors on their way (`communication`)."""

    deduplicate: bool
    communication: Precision

    @classmethod
    def of(cls, sharding: ShardingConfig, ranks: int) -> Exchange:
        """Of a config, where no planner has chosen: ids are deduplicated with several ranks, and vectors travel as they are."""
        precision = sharding.communication
        return cls(
            deduplicate=ranks > 1 if sharding.deduplicate is None else sharding.deduplicate,
            communication="fp32" if precision is None or precision == "auto" else precision,
        )

    @property
    def text(self) -> str:
        """As keys of a config."""
        return f"sharding.deduplicate={str(self.deduplicate).lower()}, sharding.communication={self.communication}"

    def into(self, sharding: ShardingConfig) -> ShardingConfig:
        """The section of a job that exchanges so."""
        return sharding.model_copy(update={"deduplicate": self.deduplicate, "communication": self.communication})


def codecs(precision: Precision) -> dict[str, QuantizedCommCodecs] | None:
    """`qcomm_codecs_registry` of TorchRec's sharders for fp32, fp16 or bf16.

    TorchRec's own registry swaps bf16 for fp16 on CPU; gloo of this release carries bf16 (tests/distributed/test_communication.py), so
    it is left as asked. Tested over gloo; never run over NCCL.
    """
    if precision == "fp32":
        return None
    forward, backward = PRECISIONS[precision]
    return {
        operation.name: get_qcomm_codecs(QCommsConfig(forward_precision=forward, backward_precision=backward))
        for operation in OPERATIONS
    }
