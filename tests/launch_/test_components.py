"""What TorchX would submit: compared with golden files, and with the rules of Slurm, Kubernetes and Volcano we rely on.

A golden file is renewed by deleting it and running this file twice; read the difference before committing it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from torchx.specs import file_linter, finder

from interformer_rec import cli
from launch import components
from tests.launch_.conftest import BIN, ROOT

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("train", "evaluate", "predict", "benchmark", "plan", "serve")
# Two nodes of eight GPUs, as in the guide.
NODES = ["-j", "2x8", "--gpu", "8", "--cpu", "96", "--memMB", "900000", "--shmMB", "64000", "--max_retries", "2"]
SITE = ["--env", "NCCL_SOCKET_IFNAME=eth0", "--mounts", "type=volume,src=datasets,dst=/data,readonly"]
RUN = ["--config", "run.yaml", "--", "--set=training.epochs=1", "--set=model.head=[512,256]"]
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # RFC 1123, what Kubernetes wants of names


def dry_run(
    scheduler: str, env: dict[str, str], component: str = "train", arguments: Sequence[str] = (*NODES, *SITE, *RUN)
) -> str:
    """The request TorchX would send from the project's folder (so with its .torchxconfig), job ids replaced."""
    command = [
        str(BIN / "torchx"),
        "run",
        "-s",
        scheduler,
        "--dryrun",
        f"launch/components.py:{component}",
        *arguments,
    ]
    env = {
        **env,
        "PATH": str(BIN),
        "HOME": str(GOLDEN),
    }  # without sinfo: no cluster takes part, nor the user's defaults
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return re.sub(
        rf"interformer-{component}-[a-z0-9]{{12,}}",
        f"interformer-{component}-ID",
        done.stdout.split("SCHEDULER REQUEST ===\n")[1],
    )


def golden(name: str, found: str) -> str:
    """The golden file's text, written first if there is none."""
    path = GOLDEN / name
    if not path.exists():
        path.write_text(found)
        pytest.fail(f"{path.name} was written: read it, then run again")
    return path.read_text()


@pytest.fixture(scope="module")
def volcano_job(job_env: dict[str, str]) -> dict[str, Any]:
    pytest.importorskip("kubernetes", reason="TorchX renders Kubernetes jobs with the package kubernetes")
    return yaml.safe_load(dry_run("kubernetes", job_env))


def test_slurm_request(job_env):
    found = dry_run("slurm", job_env).strip() + "\n"
    assert found == golden("slurm.sh", found)
    script = found[found.index("#!/bin/bash") :]
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    for exported in re.findall(r"--export=ALL,(\S+)", script):
        # srun divides the list at commas: a value with one would be cut off there.
        assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*=.+", item) for item in exported.split(","))


def test_kubernetes_request(volcano_job):
    text = yaml.safe_dump(volcano_job, width=1000)
    assert volcano_job == yaml.safe_load(golden("kubernetes.yaml", text))


def test_predict_requests(job_env):
    """One process a GPU on one node, the paths as the job sees them; no restart by itself but what is asked for."""
    arguments = [
        "-j",
        "1x4",
        "--gpu",
        "4",
        "--cpu",
        "16",
        *SITE,
        "--run",
        "/runs/a",
        "--data",
        "/data/new",
        "--out",
        "/runs/scores",
    ]
    found = dry_run("slurm", job_env, "predict", arguments).strip() + "\n"
    assert found == golden("predict-slurm.sh", found)
    assert "predict /runs/a --data /data/new --out /runs/scores" in found
    pytest.importorskip("kubernetes", reason="TorchX renders Kubernetes jobs with the package kubernetes")
    job = yaml.safe_load(dry_run("kubernetes", job_env, "predict", arguments))
    assert job == yaml.safe_load(golden("predict-kubernetes.yaml", yaml.safe_dump(job, width=1000)))


def test_volcano_starts_all_nodes_or_none(volcano_job):
    """https://volcano.sh: spec.minAvailable defaults to the sum of the tasks'; svc and env give each node the names of all."""
    spec = volcano_job["spec"]
    assert (volcano_job["apiVersion"], volcano_job["kind"]) == ("batch.volcano.sh/v1alpha1", "Job")
    assert (spec["schedulerName"], spec["queue"], spec["maxRetry"]) == ("volcano", "default", 2)
    assert {"svc", "env"} <= set(spec["plugins"])
    assert [(task["replicas"], task["minAvailable"]) for task in spec["tasks"]] == [(1, 1), (1, 1)]
    assert [task["name"] for task in spec["tasks"]] == ["train-0", "train-1"]
    for task in spec["tasks"]:
        assert len(f"{volcano_job['metadata']['name']}-{task['name']}-0") <= 63  # the pod's name and host name
        assert LABEL.fullmatch(task["name"])
        assert {(p["event"], p["action"]) for p in task["policies"]} == {
            ("PodEvicted", "RestartJob"),
            ("PodFailed", "RestartJob"),
        }


def test_nodes_meet_at_the_first(volcano_job):
    """Volcano's env plugin publishes VC_<TASK>_HOSTS, the task's name in capitals with _ for -."""
    tasks = volcano_job["spec"]["tasks"]
    first = f"VC_{tasks[0]['name'].upper().replace('-', '_')}_HOSTS"
    commands = [task["template"]["spec"]["containers"][0]["command"] for task in tasks]
    assert "--rdzv_endpoint ${TORCHX_RANK0_HOST:=localhost}:29500" in commands[0][2]
    assert f"--rdzv_endpoint ${{{first}:=localhost}}:29500" in commands[1][2]


def test_pods_are_what_kubernetes_accepts(volcano_job):
    for task in volcano_job["spec"]["tasks"]:
        pod = task["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["restartPolicy"] == "Never"  # Volcano restarts the whole job, never one node of it
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert limits["nvidia.com/gpu"] == requests["nvidia.com/gpu"] == "8"  # extended resources: equal, integers
        assert limits["memory"] == "964000M"  # memMB + shmMB: /dev/shm counts against the limit
        assert all(float(requests[name][:-1]) <= float(limits[name][:-1]) for name in ("cpu", "memory"))
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"] == {"medium": "Memory"}
        assert volumes[mounts["/data"]["name"]]["persistentVolumeClaim"]["claimName"] == "datasets"
        assert mounts["/data"]["readOnly"] is True
        assert all(0 < port["containerPort"] < 65536 and LABEL.fullmatch(port["name"]) for port in container["ports"])
        assert all(isinstance(item["value"], str) and item["name"].isidentifier() for item in container["env"])
        assert all(len(str(value)) <= 63 for value in task["template"]["metadata"]["labels"].values())


@pytest.mark.parametrize("name", NAMES)
def test_torchx_accepts_the_component(name):
    assert file_linter.validate(str(ROOT / "launch/components.py"), name) == []
    _, described = file_linter.get_fn_docstring(getattr(components, name))
    assert [argument for argument, text in described.items() if not text.strip()] == []


def test_entry_points_add_to_torchxs_own_components():
    """Any entry point hides TorchX's builtins, so setup.py has to name them too."""
    found = set(finder.get_components())
    assert {f"interformer.{name}" for name in NAMES} | {"dist.ddp", "utils.echo"} <= found


def test_commands_and_names():
    apps = {
        "train": components.train("--set=seed=2", config="run.yaml"),
        "evaluate": components.evaluate("--json", run="runs/a"),
        "predict": components.predict("--json", run="runs/a", data="new/", out="scores/"),
        "benchmark": components.benchmark("--lengths=64", config="run.yaml"),
    }
    for name, app in apps.items():
        assert (app.name, app.roles[0].name) == (f"interformer-{name}", name)
    ends = {name: app.roles[0].args[-1].split("--role '' ")[1] for name, app in apps.items()}
    assert ends == {
        "train": "-m interformer_rec.cli train run.yaml --resume --set=seed=2",
        "evaluate": "-m interformer_rec.cli evaluate runs/a --json",
        "predict": "-m interformer_rec.cli predict runs/a --data new/ --out scores/ --json",
        "benchmark": "-m interformer_rec.cli benchmark run.yaml --lengths=64",
    }
    (role,) = components.train(config="run.yaml", follow=True).roles
    assert role.args[-1].endswith("train run.yaml --resume --follow")


def test_resources_and_environment():
    role = components.train(config="run.yaml", j="1:4x4", cpu=18, memMB=1000, shmMB=500, max_restarts=7).roles[0]
    assert (role.min_replicas, role.num_replicas, role.max_retries) == (1, 4, 0)
    assert (role.resource.cpu, role.resource.memMB) == (18, 1500)
    assert (role.env["OMP_NUM_THREADS"], role.env["PET_MAX_RESTARTS"]) == ("4", "7")
    own = {"OMP_NUM_THREADS": "2", "GLOO_SOCKET_IFNAME": "eth0"}
    env = components.train(config="run.yaml", cpu=1, j="1x8", env=own).roles[0].env
    assert env.items() >= own.items()
    assert own == {"OMP_NUM_THREADS": "2", "GLOO_SOCKET_IFNAME": "eth0"}  # the caller's stays the caller's


def test_a_named_resource_replaces_the_rest():
    role = components.train(config="run.yaml", h="aws_p4d.24xlarge", j="1x8").roles[0]
    assert (role.resource.gpu, role.env["OMP_NUM_THREADS"]) == (8, "12")


def test_plan_needs_one_process_and_no_gpu():
    app = components.plan("--nodes=16", config="run.yaml", cluster="dgx-h100")
    role = app.roles[0]
    command = " ".join([role.entrypoint, *role.args])
    assert "interformer_rec.cli plan run.yaml --cluster dgx-h100 --nodes=16" in command
    assert (role.name, role.resource.gpu, role.num_replicas) == ("plan", 0, 1)


def test_serve_is_the_command_itself():
    """No torchrun between the scheduler's SIGTERM and the server; its options are those that the command has."""
    app = components.serve("--host=0.0.0.0", "--watch=10", model="s3://models/a", port=8080, workers=4, cpu=5)
    (role,) = app.roles
    assert (app.name, role.name, role.num_replicas) == ("interformer-serve", "serve", 1)
    assert (role.entrypoint, role.port_map, role.max_retries) == ("interformer", {"http": 8080}, 3)
    assert (role.resource.cpu, role.resource.gpu, role.resource.memMB) == (5, 0, 4096)
    assert (role.env, role.mounts) == ({"OMP_NUM_THREADS": "1"}, [])
    given = cli.parser().parse_args(role.args)
    assert (given.command, given.path, given.port, given.workers) == ("serve", "s3://models/a", 8080, 4)
    assert (given.host, given.watch) == ("0.0.0.0", 10.0)
    assert "host" not in cli.parser().parse_args(components.serve(model="served").roles[0].args)  # loopback


def test_serve_requests(job_env):
    """A server on each scheduler: one task, the token on a claim, nothing of torchrun."""
    arguments = ["--model", "/models/served", "--cpu", "4", "--env", "OMP_NUM_THREADS=2"]
    arguments += ["--mounts", "type=volume,src=models,dst=/models,readonly", "--", "--host=0.0.0.0", "--watch=10"]
    command = "interformer serve /models/served --port 8000 --workers 1 --host=0.0.0.0 --watch=10"
    assert command in dry_run("slurm", job_env, "serve", arguments)
    pytest.importorskip("kubernetes", reason="TorchX renders Kubernetes jobs with the package kubernetes")
    job = yaml.safe_load(dry_run("kubernetes", job_env, "serve", arguments))
    (task,) = job["spec"]["tasks"]
    (container,) = task["template"]["spec"]["containers"]
    assert " ".join(container["command"]) == command
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in container["env"]
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == [("http", 8000)]
    assert {"mountPath": "/models", "readOnly": True}.items() <= container["volumeMounts"][-1].items()
