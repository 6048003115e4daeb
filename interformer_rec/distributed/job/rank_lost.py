"""Another rank has gone. In: the error of a collective; out: whether it means that, and a message a reader understands."""

import torch.distributed as dist

SIGNS = ("gloo", "Connection reset by peer", "Connection closed by peer", "Broken pipe", "NCCL")


class RankLost(RuntimeError):
    """This rank is well; it cannot go on without the others."""

    def __init__(self, step: int, last_seen: str, cause: BaseException) -> None:
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        super().__init__(
            f"after step {step} the connection to another rank broke ({reason[:200]}); {last_seen}. The message of the rank "
            f"that failed says why; this one only follows. `--resume` continues from the last checkpoint."
        )


def connection_was_lost(error: RuntimeError) -> bool:
    """True for the errors with which gloo, NCCL and the store report a peer that is gone."""
    network = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    return isinstance(error, network) or any(sign in str(error) for sign in SIGNS)
