"""In what precision looked-up vectors and their gradients travel between ranks. In: sharding.communication; out: TorchRec's codecs.

Only the tables' exchange (all-to-all, reduce-scatter) is meant: the dense part's gradients stay fp32, as do weights and optimizer
state. One rank exchanges nothing, so nothing changes there.
"""

from __future__ import annotations

from torchrec.distributed.fbgemm_qcomm_codec import CommType, QCommsConfig, get_qcomm_codecs
from torchrec.distributed.types import CommOp, QuantizedCommCodecs

# Vectors, gradients. Gradients never travel as fp16: below 6e-8 they would be zero, and TorchRec's loss scale does not help, since its
# decoder divides before it widens.
PRECISIONS = {"fp16": (CommType.FP16, CommType.BF16), "bf16": (CommType.BF16, CommType.BF16)}
OPERATIONS = (
    CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL,
    CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER,
    CommOp.SEQUENCE_EMBEDDINGS_ALL_TO_ALL,
)


def codecs(precision: str) -> dict[str, QuantizedCommCodecs] | None:
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
