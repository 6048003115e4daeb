"""`interformer` commands as TorchX jobs. In: the options of `torchx run`; out: an AppDef that every TorchX scheduler takes.

    torchx run -s local_cwd  launch/components.py:train -j 1x2 --config run.yaml -- --set=training.epochs=1
    torchx run -s slurm      interformer.train -j 16x8 --gpu 8 --cpu 96 --memMB 1500000 --config run.yaml

The first form reads this file, the second finds it by its entry point. Each component but `serve` calls TorchX's torchrun component once.
TorchX reads signatures and docstrings: it wants typing.Optional and no postponed annotations. It executes the file in a namespace of its
own: no name here may mean something else there. docs/decisions/0007-launching.md has reasons, docs/guides/laptop-to-cluster.md the use.
"""

from typing import Any, Dict, List, Optional  # noqa: UP035  TorchX 0.7.0 parses these spellings only

import torchx.specs as specs
from torchx.components import dist

from interformer_rec import __version__

# What `make image` builds. A cluster needs it under a registry's name: --image, or .torchxconfig.
IMAGE = f"interformer-rec:{__version__}"
# TorchX's nightlies have dist.torchrun and deprecate dist.ddp; 0.7.0 has dist.ddp alone. Same arguments.
torchrun = getattr(dist, "torchrun", dist.ddp)


def train(
    *args: str,
    config: str,
    follow: bool = False,
    image: str = IMAGE,
    name: str = "/interformer-train",
    j: str = "1x1",
    h: Optional[str] = None,  # noqa: UP045
    cpu: int = 4,
    gpu: int = 0,
    memMB: int = 16384,
    shmMB: int = 2048,
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    max_retries: int = 0,
    max_restarts: int = 3,
    rdzv_port: int = 29500,
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
) -> specs.AppDef:
    """Train: `interformer train CONFIG --resume ARGS` on every rank.

    Always with --resume, because schedulers start jobs again without asking: a new run folder (training.out) is begun, one that
    holds checkpoints is continued. While a job trains in it, a second one is refused ("is in use"): exit code 2, no file is changed.

    Args:
        args: further arguments of `interformer train` after `--`; write --set=A.B=C, because TorchX refuses `--set` given twice
        config: the run config, a YAML file as the job sees it
        follow: with data.windows: wait for the next window after the last, until a signal
        image: container image; schedulers without containers ignore it
        name: job name, {experiment}/{run} or /{run}
        j: [{min_nodes}:]{nodes}x{processes a node}; one process a GPU
        h: a named resource of the site; replaces cpu, gpu, memMB and shmMB
        cpu: CPUs a node
        gpu: GPUs a node
        memMB: host memory a node for the processes, in MB
        shmMB: host memory a node for /dev/shm, in MB; on top of memMB, because schedulers count both against one limit
        env: environment of the job (NAME=VALUE,NAME=VALUE), over the defaults OMP_NUM_THREADS (cpu / processes) and NCCL_DEBUG
        max_retries: how often the scheduler starts the job again, for example after the loss of a node
        max_restarts: how often the agents start the processes again in place after one has failed
        rdzv_port: port on the first node where the nodes meet; used with more than one node
        mounts: volumes of containers (type=bind,src=/data,dst=/data,readonly)
    """
    command = ["train", config, "--resume", *(["--follow"] if follow else []), *args]
    return _job(
        command, specs.resource(cpu, gpu, memMB + shmMB, h), env, max_restarts,
        image=image, name=name, j=j, max_retries=max_retries, rdzv_port=rdzv_port, mounts=mounts,
    )  # fmt: skip


def evaluate(
    *args: str,
    run: str,
    image: str = IMAGE,
    name: str = "/interformer-evaluate",
    j: str = "1x1",
    h: Optional[str] = None,  # noqa: UP045
    cpu: int = 4,
    gpu: int = 0,
    memMB: int = 16384,
    shmMB: int = 2048,
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    max_retries: int = 0,
    max_restarts: int = 0,
    rdzv_port: int = 29500,
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
) -> specs.AppDef:
    """Evaluate: `interformer evaluate RUN ARGS` on every rank; rank 0 prints the metrics.

    Args:
        args: further arguments of `interformer evaluate` after `--`, for example -- --data new/ --json
        run: a run folder or one of its checkpoints, as the job sees it
        image: container image; schedulers without containers ignore it
        name: job name, {experiment}/{run} or /{run}
        j: [{min_nodes}:]{nodes}x{processes a node}; one process a GPU
        h: a named resource of the site; replaces cpu, gpu, memMB and shmMB
        cpu: CPUs a node
        gpu: GPUs a node
        memMB: host memory a node for the processes, in MB
        shmMB: host memory a node for /dev/shm, in MB; on top of memMB
        env: environment of the job (NAME=VALUE,NAME=VALUE), over the defaults OMP_NUM_THREADS (cpu / processes) and NCCL_DEBUG
        max_retries: how often the scheduler starts the job again
        max_restarts: how often the agents start the processes again in place after one has failed
        rdzv_port: port on the first node where the nodes meet; used with more than one node
        mounts: volumes of containers (type=bind,src=/data,dst=/data,readonly)
    """
    command = ["evaluate", run, *args]
    return _job(
        command, specs.resource(cpu, gpu, memMB + shmMB, h), env, max_restarts,
        image=image, name=name, j=j, max_retries=max_retries, rdzv_port=rdzv_port, mounts=mounts,
    )  # fmt: skip


def predict(
    *args: str,
    run: str,
    data: str,
    out: str,
    image: str = IMAGE,
    name: str = "/interformer-predict",
    j: str = "1x1",
    h: Optional[str] = None,  # noqa: UP045
    cpu: int = 4,
    gpu: int = 0,
    memMB: int = 16384,
    shmMB: int = 2048,
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    max_retries: int = 0,
    max_restarts: int = 0,
    rdzv_port: int = 29500,
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
) -> specs.AppDef:
    """Predict: `interformer predict RUN --data DATA --out OUT ARGS` on every rank; each writes a part.

    Args:
        args: further arguments of `interformer predict` after `--`, for example -- --score-column=p
        run: a run folder or one of its checkpoints, as the job sees it
        data: Parquet files to score, a path or URI as the job sees it; labels not needed
        out: a path or URI to write: with several ranks a folder, in which each writes a part
        image: container image; schedulers without containers ignore it
        name: job name, {experiment}/{run} or /{run}
        j: [{min_nodes}:]{nodes}x{processes a node}; one process a GPU
        h: a named resource of the site; replaces cpu, gpu, memMB and shmMB
        cpu: CPUs a node
        gpu: GPUs a node
        memMB: host memory a node for the processes, in MB
        shmMB: host memory a node for /dev/shm, in MB; on top of memMB
        env: environment of the job (NAME=VALUE,NAME=VALUE), over the defaults OMP_NUM_THREADS (cpu / processes) and NCCL_DEBUG
        max_retries: how often the scheduler starts the job again
        max_restarts: how often the agents start the processes again in place after one has failed
        rdzv_port: port on the first node where the nodes meet; used with more than one node
        mounts: volumes of containers (type=bind,src=/data,dst=/data,readonly)
    """
    command = ["predict", run, "--data", data, "--out", out, *args]
    return _job(
        command, specs.resource(cpu, gpu, memMB + shmMB, h), env, max_restarts,
        image=image, name=name, j=j, max_retries=max_retries, rdzv_port=rdzv_port, mounts=mounts,
    )  # fmt: skip


def benchmark(
    *args: str,
    config: str,
    image: str = IMAGE,
    name: str = "/interformer-benchmark",
    j: str = "1x1",
    h: Optional[str] = None,  # noqa: UP045
    cpu: int = 4,
    gpu: int = 0,
    memMB: int = 16384,
    shmMB: int = 2048,
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    rdzv_port: int = 29500,
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
) -> specs.AppDef:
    """Measure: `interformer benchmark CONFIG ARGS` on every rank. Never started again by itself: half a measurement is none.

    Args:
        args: further arguments of the benchmark after `--`, for example -- --lengths=64,1024 --out=/shared/benchmark
        config: the run config, a YAML file as the job sees it
        image: container image; schedulers without containers ignore it
        name: job name, {experiment}/{run} or /{run}
        j: [{min_nodes}:]{nodes}x{processes a node}; one process a GPU
        h: a named resource of the site; replaces cpu, gpu, memMB and shmMB
        cpu: CPUs a node
        gpu: GPUs a node
        memMB: host memory a node for the processes, in MB
        shmMB: host memory a node for /dev/shm, in MB; on top of memMB
        env: environment of the job (NAME=VALUE,NAME=VALUE), over the defaults OMP_NUM_THREADS (cpu / processes) and NCCL_DEBUG
        rdzv_port: port on the first node where the nodes meet; used with more than one node
        mounts: volumes of containers (type=bind,src=/data,dst=/data,readonly)
    """
    return _job(
        ["benchmark", config, *args], specs.resource(cpu, gpu, memMB + shmMB, h), env,
        image=image, name=name, j=j, max_retries=0, rdzv_port=rdzv_port, mounts=mounts,
    )  # fmt: skip


def plan(
    *args: str,
    config: str,
    cluster: str,
    image: str = IMAGE,
    name: str = "/interformer-plan",
    h: Optional[str] = None,  # noqa: UP045
    cpu: int = 2,
    memMB: int = 8192,
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
) -> specs.AppDef:
    """Plan: `interformer plan CONFIG --cluster CLUSTER ARGS` in one process, without a GPU.

    Args:
        args: further arguments of `interformer plan` after `--`, for example -- --nodes=16 --out=/shared/plan.json
        config: the run config, a YAML file as the job sees it
        cluster: a name from configs/clusters/ or a YAML file as the job sees it
        image: container image; schedulers without containers ignore it
        name: job name, {experiment}/{run} or /{run}
        h: a named resource of the site; replaces cpu and memMB
        cpu: CPUs of the job
        memMB: host memory of the job, in MB
        env: environment of the job (NAME=VALUE,NAME=VALUE)
        mounts: volumes of containers (type=bind,src=/data,dst=/data,readonly)
    """
    command = ["plan", config, "--cluster", cluster, *args]
    return _job(
        command, specs.resource(cpu, 0, memMB, h), env, image=image, name=name, j="1x1", max_retries=0, mounts=mounts
    )


def serve(
    *args: str,
    model: str,
    image: str = IMAGE,
    name: str = "/interformer-serve",
    port: int = 8000,
    workers: int = 1,
    h: Optional[str] = None,  # noqa: UP045
    cpu: int = 2,
    memMB: int = 4096,
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    max_retries: int = 3,
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
) -> specs.AppDef:
    """Serve: `interformer serve MODEL --port PORT --workers WORKERS ARGS`, one server without torchrun; ARGS may name an address.

    Args:
        args: further arguments of `interformer serve` after `--`, for example -- --host=0.0.0.0 --token-file=/keys/token
        model: the exported model, a folder or URI as the job sees it
        image: container image; schedulers without containers ignore it
        name: job name, {experiment}/{run} or /{run}
        port: port that it listens on
        workers: processes of the server; they share its port and the memory of the tables
        h: a named resource of the site; replaces cpu and memMB
        cpu: CPUs of the job
        memMB: host memory of the job, in MB
        env: environment of the job (NAME=VALUE,NAME=VALUE), over the default OMP_NUM_THREADS=1: a worker scores in one thread
        max_retries: how often the scheduler starts the server again
        mounts: volumes of containers (type=bind,src=/data,dst=/data,readonly)
    """
    server = specs.Role(
        "serve", image, entrypoint="interformer", env={"OMP_NUM_THREADS": "1", **(env or {})}, port_map={"http": port},
        args=["serve", model, "--port", str(port), "--workers", str(workers), *args], max_retries=max_retries,
        resource=specs.resource(cpu, 0, memMB, h), mounts=specs.parse_mounts(mounts or []),
    )  # fmt: skip
    return specs.AppDef(name.rpartition("/")[2], [server])


def _job(
    command: List[str],  # noqa: UP006
    resource: specs.Resource,
    env: Optional[Dict[str, str]],  # noqa: UP006, UP045
    max_restarts: int = 0,
    **job: Any,
) -> specs.AppDef:
    """torchrun -m interformer_rec.cli COMMAND as a job of one role, named for the command; `job`: torchrun's other arguments."""
    defaults = {
        # torchrun would set 1 with more than one process a node and leave the cores idle.
        "OMP_NUM_THREADS": str(max(1, int(resource.cpu) // dist.parse_nnodes(job["j"])[2])),
        "NCCL_DEBUG": "WARN",
        # How TorchX's component, which has no argument for it, lets torchrun know --max-restarts.
        "PET_MAX_RESTARTS": str(max_restarts),
        # Else torch 2.13's agents keep one store for all attempts, with the addresses of dead ranks (docs/guides/faults.md).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    app = torchrun(*command, m="interformer_rec.cli", env={**defaults, **(env or {})}, **job)
    app.roles[0].name, app.roles[0].resource = command[0], resource  # else "cli", the module's name
    return app
