"""A cluster file to fill in. In: a name; out: NAME.yaml, a line a number, each with where to find it, and a known cluster's as an example.

The file loads as soon as its numbers are there: `sources` is written already, and says what the comments say.
"""

import re
from pathlib import Path

from interformer_rec.errors import InputError
from interformer_rec.planning.cost.cluster import OF_GPUS, Cluster, known, load_cluster
from interformer_rec.storage import write_file

EXAMPLE = "dgx-h100"
WHERE = {
    "devices_per_node": "nvidia-smi -L lists them",
    "hbm_gib": "torch.cuda.get_device_properties(0).total_memory / 2**30",
    "ddr_gib": "free -g prints it as total",
    "hbm_gb_per_s": "datasheet of the GPU, memory bandwidth; 1 TB/s is 1000",
    "ddr_gb_per_s": "sockets x memory channels x MT/s x 8 bytes / 1000: 2 x 8 x 4800 x 8 / 1000 = 614.4",
    "host_device_gb_per_s": "PCIe 4.0 x16 is 31.5, PCIe 5.0 x16 is 63",
    "intra_node_gb_per_s": "datasheet of the GPU, NVLink: half of what it says, which is both directions; without NVLink PCIe's number",
    "inter_node_gb_per_s": "ibstat, or the cloud's page of the instance: Gb/s of the node / 8 / devices of the node",
    "bf16_tflops": "datasheet of the GPU, BF16 tensor cores without sparsity: half, where it says with sparsity",
    "fp32_tflops": "datasheet of the GPU, FP32, not TF32",
}
HEAD = """\
# Numbers of a cluster, for `interformer plan CONFIG --cluster {path}`. Fill in what is empty: beside each number stands what it is,
# where to find it, and what {example} has. Without GPUs write `device: cpu`, leave the lines marked GPU empty, and count processes as
# devices. All other keys, such as shares of these numbers that are reached: docs/reference/cluster.md.
"""


def new_cluster(name: str) -> Path:
    """Write NAME.yaml, whole or not at all; its path. Raises InputError where NAME is no name of a file, or the file is there."""
    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not re.fullmatch(r"\w[\w.-]*", path.stem) or path.stem in known():
        raise InputError(f"--new-cluster {name!r}: give a name of letters, digits and . - _ that no known cluster has")
    if path.exists():
        raise InputError(f"--new-cluster {name!r}: {str(path)!r} is there already; remove it, or give another name")
    write_file(str(path), _draft(path))
    return path


def _draft(path: Path) -> str:
    example = load_cluster(EXAMPLE)
    fields = Cluster.model_fields
    lines = [
        HEAD.format(path=path, example=EXAMPLE),
        f"name: {path.stem}",
        'about: ""  # a sentence for the reader',
        "device: cuda",
    ]
    for field, where in WHERE.items():
        gpu = "GPU: " if field in OF_GPUS else ""
        lines += [
            "",
            f"# {gpu}{fields[field].description}",
            f"# {where}",
            f"# {EXAMPLE}: {getattr(example, field):g}",
            f"{field}:",
        ]
    lines += ["", "# price_per_node_hour: 98  # in your currency; `--price` does the same", "", "sources:"]
    lines += [f"  {field}: {where!r}" for field, where in WHERE.items() if field != "devices_per_node"]
    return "\n".join(lines) + "\n"
