"""Tries what the metadata promises: loads torch, FBGEMM and TorchRec, runs an operator and a lookup, lists the devices.

Comes in: nothing. Goes out: one JSON object a line on stdout, {"step", "state": "start" | "done" | "failed", ...}.
The doctor runs this file in a process of its own, because a library built for another torch may kill its process or
hang in it; the line last written then says where. So nothing heavy and nothing of ours is imported at module level.
"""

import json
import sys
from collections.abc import Callable
from typing import Any


def torch_facts() -> dict[str, Any]:
    """Load torch and say what it was built with."""
    import torch
    import torch.distributed as dist

    available = dist.is_available()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cuda_available": torch.cuda.is_available(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.is_available() else None,
        "backends": [
            name
            for name, here in (("gloo", dist.is_gloo_available), ("nccl", dist.is_nccl_available))
            if available and here()
        ],
        "threads": torch.get_num_threads(),
    }


def devices() -> dict[str, Any]:
    """Every CUDA device: name, compute capability, bytes of memory, total and free."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        capability = f"{facts.major}.{facts.minor}"
        found.append({"name": facts.name, "capability": capability, "free_bytes": free, "total_bytes": total})
    return {"devices": found}


def fbgemm_operator() -> dict[str, Any]:
    """Load FBGEMM and run one of its operators, on the GPU too where torch sees one."""
    import fbgemm_gpu  # noqa: F401  (loading it registers the operators)
    import torch

    places = ["cpu", *(["cuda"] if torch.cuda.is_available() and _is_cuda_build() else [])]
    for place in places:
        lengths = torch.tensor([2, 0, 3], device=place)
        offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths).tolist()
        if offsets != [0, 2, 2, 5]:
            raise RuntimeError(f"the offsets of lengths [2, 0, 3] came out as {offsets} on {place}")
    return {"ran_on": places}


def torchrec_lookup() -> dict[str, Any]:
    """Load TorchRec and look up two bags in a table of ones."""
    import torch
    from torchrec.modules.embedding_configs import EmbeddingBagConfig
    from torchrec.modules.embedding_modules import EmbeddingBagCollection
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    config = EmbeddingBagConfig(name="t", embedding_dim=4, num_embeddings=3, feature_names=["f"])
    tables = EmbeddingBagCollection(tables=[config])
    torch.nn.init.ones_(tables.embedding_bags["t"].weight)
    bags = KeyedJaggedTensor(keys=["f"], values=torch.tensor([0, 1, 2]), lengths=torch.tensor([2, 1]))
    sums = tables(bags)["f"][:, 0].tolist()
    if sums != [2.0, 1.0]:
        raise RuntimeError(f"two bags of 2 and 1 ones summed to {sums}")
    return {"ran_on": ["cpu"]}


def _is_cuda_build() -> bool:
    import importlib.metadata

    return any(importlib.metadata.distributions(name="fbgemm-gpu"))


# In the order in which they need each other.
STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": torch_facts,
    "fbgemm": fbgemm_operator,
    "torchrec": torchrec_lookup,
    "devices": devices,
}


def main() -> int:
    """Run every step, also after one failed: torchrec's own message may say more than fbgemm's."""
    ok = True
    for name, step in STEPS.items():
        _say(step=name, state="start")
        try:
            _say(step=name, state="done", **step())
        except Exception as error:
            ok = False
            _say(step=name, state="failed", error=f"{type(error).__name__}: {error}")
    return 0 if ok else 1


def _say(**facts: object) -> None:
    # Flushed: what is still in a buffer dies with the process.
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
