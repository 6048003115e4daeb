"""Hardware one may not have, as numbers with sources. In: a cluster's name or YAML file; out: a Cluster, and TorchRec's Topology of it.

Units: GiB = 2^30 bytes for memory, GB/s = 10^9 bytes a second and in one direction for bandwidths (a vendor's NVLink number counts
both directions, so half of it stands here), TFLOP/s dense (without sparsity). `device` numbers are per GPU (or per process of a CPU
node), `ddr` and price per node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator
from torchrec.distributed.planner.types import HardwareConfig, KernelConfig, Topology, TopologyFactory, TrainerConfig

from interformer_rec import strict_yaml
from interformer_rec.config.errors import explain
from interformer_rec.config.strict import Count, Name, Strict
from interformer_rec.errors import InputError
from interformer_rec.text import GIB

BYTES_PER_MS = 1e6  # of 1 GB/s: TorchRec's planner counts bytes and milliseconds
# In a wheel the files lie in the package (setup.py), in a clone under configs/.
FOLDERS = (Path(__file__).parents[1] / "clusters", Path(__file__).parents[3] / "configs" / "clusters")
Rate = Annotated[float, Field(gt=0, le=1e9)]
OF_GPUS = ("hbm_gib", "hbm_gb_per_s", "host_device_gb_per_s")
HOST_SHARE = 0.8  # of a GPU node's host memory that tables may use; loaders, page cache and the system have the rest


class Efficiency(Strict):
    """Share of the published peak that a step reaches: assumptions, stated in every plan, until a calibration replaces them.

    A measured share may exceed 1: small tables are read from caches.
    """

    memory: float = Field(0.6, gt=0, le=20, description="of HBM and DDR bandwidth, in lookups of rows of 512 bytes")
    update: float = Field(
        0.5,
        gt=0,
        le=20,
        description="of the speed of lookups that the update of rows reaches: sorted, scattered writes",
    )
    links: float = Field(0.8, gt=0, le=20, description="of link bandwidths, in all-to-all and all-reduce")
    reduce: float | None = Field(None, gt=0, le=20, description="of them in all-reduce alone; null: as `links`")
    matmul: float = Field(0.75, gt=0, le=20, description="of the matmul rate, in products large enough for it")
    tensors: float = Field(0.8, gt=0, le=20, description="of memory bandwidth, by operators on tensors and copies")
    launch_us: float = Field(
        6.0,
        ge=0,
        le=1e6,
        description="microseconds to start an operator: eager mode waits for it where operators are short",
    )
    backward: float = Field(1.0, gt=0, le=1e3, description="dense backward pass: measured over counted")
    module_ms: float = Field(
        1.0, ge=0, le=1e6, description="the host's, of a collection of tables and each sharding type in it, a step"
    )
    table_us: float = Field(20.0, ge=0, le=1e6, description="the host's, of every table of these, a step")
    step_ms: float = Field(5.5, ge=0, le=1e6, description="the host's, of a step's pipeline, loss and optimizer")
    id_ns: float = Field(
        0.0, ge=0, le=1e6, description="of a processor, for every id that it looks up or updates, beside memory's time"
    )
    fixed_ms: float = Field(0.0, ge=0, le=1e6, description="of every step, whatever its size: metrics, log, waiting")
    row_us: float = Field(
        0.0, ge=0, le=1e6, description="of every row of a rank's batch: a loader that has the same cores, waiting"
    )
    stage_ms: dict[Name, Annotated[float, Field(ge=-1e6, le=1e6)]] = Field(
        default_factory=dict,
        description="item of a step -> what it takes whatever its size, beside its counted time; below 0: less than counted",
    )


class Overhead(Strict):
    """Memory of a rank that is no tensor: assumptions of memory.py where None, until a calibration replaces them."""

    runtime_mib: float | None = Field(
        None, ge=0, le=1e9, description="libraries, and on CUDA the context, before the model"
    )
    kept: float | None = Field(
        None, ge=0, le=10, description="CPU: what malloc keeps in holes, as a share of the activations"
    )


class Calibration(Strict):
    """Where measured numbers of a cluster file are from; written by `interformer plan score RUN ... --out FILE`."""

    runs: tuple[Name, ...] = Field(min_length=1, description="that were measured")
    date: Name = Field(description="when")
    versions: dict[str, str] = Field(default_factory=dict, description="releases that it ran with")
    ranks: tuple[Count, ...] = Field(description="how many ranks they had")
    batch_sizes: tuple[Count, ...] = Field(description="rows a rank and step")
    fitted: dict[str, str] = Field(description="field -> what it was fitted to")

    @property
    def timed(self) -> bool:
        """Of runs that measured time; else of memory alone."""
        return any(key.startswith("efficiency.") for key in self.fitted)


class Cluster(Strict):
    """One kind of node and the network between its copies."""

    name: Name = Field(description="of the kind of node")
    about: str = Field("", description="a sentence for the reader")
    device: Literal["cuda", "cpu"] = Field(description="where a rank computes")
    devices_per_node: int = Field(ge=1, le=1_000, description="GPUs a node; on CPU, processes a node")
    hbm_gib: float = Field(0.0, ge=0, le=1e6, description="memory of a GPU as its driver reports it; 0 on CPU")
    ddr_gib: float = Field(gt=0, le=1e9, description="host memory of a node")
    hbm_gb_per_s: Rate | None = Field(None, description="memory bandwidth of a GPU")
    ddr_gb_per_s: Rate = Field(description="host memory bandwidth of a node, all its processes together")
    host_device_gb_per_s: Rate | None = Field(None, description="host memory <-> one GPU, one direction")
    intra_node_gb_per_s: Rate = Field(description="a device to the others of its node, one direction")
    inter_node_gb_per_s: Rate = Field(description="a device's share of the network, one direction")
    intra_node_us: float = Field(15.0, ge=0, le=1e6, description="to start a collective inside a node")
    inter_node_us: float = Field(
        30.0, ge=0, le=1e6, description="and between nodes; an all-to-all adds a hundredth a rank"
    )
    bf16_tflops: Rate = Field(description="matrix products in bfloat16, dense, a device")
    fp32_tflops: Rate = Field(description="without TF32, which torch does not use for matrix products by default")
    max_nodes: int = Field(4096, ge=1, le=1_000_000, description="most nodes that a plan may ask for")
    price_per_node_hour: float | None = Field(None, gt=0, le=1e9, description="in the user's currency")
    efficiency: Efficiency = Efficiency()
    overhead: Overhead = Overhead()
    calibration: Calibration | None = Field(None, description="efficiency and overhead are measured, by this run")
    sources: dict[str, str] = Field(description="field -> where its number is published and what is said there")

    @model_validator(mode="after")
    def _check(self) -> Cluster:
        if self.device == "cuda":
            for field in OF_GPUS:
                if not getattr(self, field):
                    raise ValueError(f"device is cuda, so {field} must be given and > 0")
        missing = [name for name in PUBLISHED if getattr(self, name) and name not in self.sources]
        if missing:
            raise ValueError(
                f"sources lacks {', '.join(missing)}: say where each number is from (a URL, a datasheet, 'measured ...')"
            )
        unknown = [name for name in self.sources if name not in PUBLISHED]
        if unknown:
            raise ValueError(f"sources names {unknown[0]!r}, which is none of {', '.join(PUBLISHED)}")
        return self

    def ranks(self, nodes: int) -> int:
        """World size of `nodes` nodes. Raises InputError for fewer than one or more than `max_nodes`."""
        if not 1 <= nodes <= self.max_nodes:
            raise InputError(f"cluster {self.name!r} has 1 to {self.max_nodes} nodes, not {nodes}")
        return nodes * self.devices_per_node

    @property
    def origin(self) -> str:
        """Of `efficiency`."""
        found = self.calibration
        return (
            f"Measured by {', '.join(found.runs)}, {found.date}" if found and found.timed else "Assumed, not measured"
        )

    @property
    def device_bytes(self) -> int:
        """Memory a rank computes in: HBM of its GPU, or its share of a CPU node's memory."""
        return int((self.hbm_gib if self.device == "cuda" else self.ddr_gib / self.devices_per_node) * GIB)

    @property
    def host_bytes(self) -> int:
        """A rank's share of the host memory that tables may use (UVM kernels); all of its memory on a CPU node."""
        share = HOST_SHARE if self.device == "cuda" else 1.0
        return int(share * self.ddr_gib / self.devices_per_node * GIB)

    def topology(self, nodes: int, reserved_bytes: int = 0) -> Topology:
        """TorchRec's Topology of `nodes` nodes, bandwidths at their efficiency, `reserved_bytes` a rank taken off its memory."""
        memory, links = self.efficiency.memory * BYTES_PER_MS, self.efficiency.links * BYTES_PER_MS
        free = max(0, self.device_bytes - reserved_bytes)
        on_gpu = self.device == "cuda"
        return TopologyFactory.create_topology(
            trainer_config=TrainerConfig(world_size=self.ranks(nodes), local_world_size=self.devices_per_node),
            hardware_config=HardwareConfig(
                hbm_cap_bytes=free if on_gpu else None,
                ddr_cap_bytes=self.host_bytes if on_gpu else free,
                ssd_cap_bytes=0,
                hbm_mem_bw=self.hbm_gb_per_s * memory if self.hbm_gb_per_s else None,
                ddr_mem_bw=self.ddr_gb_per_s / self.devices_per_node * memory,
                hbm_to_ddr_mem_bw=self.host_device_gb_per_s * links if self.host_device_gb_per_s else None,
                intra_host_bw=self.intra_node_gb_per_s * links,
                inter_host_bw=self.inter_node_gb_per_s * links,
            ),
            # without this flag TorchRec takes its own V100-era bandwidths instead of the ones above, without a word
            kernel_config=KernelConfig(compute_device=self.device, use_hardware_based_bandwidth=True),
        )


UNITS = ("_gib", "_gb_per_s", "_tflops", "_node_hour")  # a number with one of them is published somewhere, or measured
PUBLISHED = tuple(name for name in Cluster.model_fields if name.endswith(UNITS))


def known() -> dict[str, Path]:
    """Name -> file of the clusters that come with the package."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def load_cluster(name_or_file: str) -> Cluster:
    """A known cluster by name, or any by its YAML file. Raises InputError that lists the known ones or names the bad key."""
    names = known()
    path = names.get(name_or_file, Path(name_or_file))
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise InputError(
            f"cluster {name_or_file!r} is neither known ({', '.join(names)}) nor a YAML file; "
            f"`interformer plan --new-cluster NAME` drafts one to fill in"
        )
    tree = strict_yaml.read(path, "cluster file")
    if not isinstance(tree, dict):
        raise InputError(f"cluster file {str(path)!r} must be a mapping of keys (name, device, devices_per_node, ...)")
    _refuse_empty(str(path), tree)
    try:
        return Cluster.model_validate({key: value for key, value in tree.items() if value is not None})
    except ValidationError as error:
        raise InputError(f"cluster file {str(path)!r} is not valid:\n{explain(error, Cluster)}") from None


def _refuse_empty(path: str, tree: dict[str, object]) -> None:
    """All numbers that a draft still lacks, at once."""
    on_gpu = tree.get("device") != "cpu"
    numbers = ("devices_per_node", *(name for name in PUBLISHED if on_gpu or name not in OF_GPUS))
    empty = [name for name in numbers if name in tree and tree[name] is None]
    if empty:
        raise InputError(f"cluster file {path!r} is not filled in: {', '.join(empty)} have no number yet")
