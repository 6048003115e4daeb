"""Every file of examples/ is read or run by the part of the package, or the program, that it is for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from interformer_rec import cli
from interformer_rec.config.run import load
from interformer_rec.data.recipes import synthetic
from interformer_rec.serving.server.app import Routes
from interformer_rec.serving.server.settings import Settings
from interformer_rec.serving.server.workers import GRACE
from launch import components

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent


def test_the_list_names_every_file():
    listed = re.findall(r"^\| \[(.+?)\]", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.iterdir() if path.name != "README.md")


def test_the_minimal_config_reads_columns_that_the_synthetic_set_has():
    config = load(EXAMPLES / "minimal.yaml")
    made = yaml.safe_load(synthetic.config_yaml(synthetic.Shape.of(synthetic.DEFAULTS), "data/synthetic"))
    features = made["features"]
    events = {column["column"] for group in features["sequences"] for column in group["columns"]}
    assert set(config.features.columns()) <= {*features["ids"], *features["labels"], *events}
    assert (config.data.train, config.data.valid) == (made["data"]["train"], made["data"]["valid"])


def test_the_planner_takes_cluster_and_constraints(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    rows = {"item_id": 5004, "category": 13, "mode": 3}
    given = [word for table, count in rows.items() for word in ("--rows", f"{table}={count}")]
    arguments = [
        "plan",
        "examples/minimal.yaml",
        "--cluster",
        "examples/cluster.yaml",
        *given,
        "--lengths",
        "recent=20",
    ]
    code = cli.main([*arguments, "--constraints", "examples/constraints.yaml", "--out", str(tmp_path / "plan.json")])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert (tmp_path / "plan.json").exists()


@pytest.mark.parametrize("name", ["slurm.sbatch", "kubernetes.sh"])
def test_scripts_are_bash(name):
    done = subprocess.run(["bash", "-n", str(EXAMPLES / name)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_slurm_job_is_what_the_component_starts():
    """The same torchrun options, variables and command as `interformer.train` of the same size."""
    text = (EXAMPLES / "slurm.sbatch").read_text("utf-8")
    role = components.train(
        "--set", "training.out=/shared/runs/first", config="run.yaml", j="2x8", cpu=96, gpu=8
    ).roles[0]
    module = "-m interformer_rec.cli train run.yaml --resume --set training.out=/shared/runs/first"
    assert module in text and role.args[-1].endswith(module)
    variables = dict(re.findall(r"^export (\w+)=(\S+)$", text, re.MULTILINE))
    assert variables == {name: role.env[name] for name in ("OMP_NUM_THREADS", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE")}
    assert f"--max-restarts {role.env['PET_MAX_RESTARTS']}" in text
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
    assert (options["nodes"], options["gpus-per-node"], options["cpus-per-task"]) == ("2", "8", "96")


def test_the_kubernetes_script_is_a_job_that_torchx_renders():
    pytest.importorskip("kubernetes", reason="TorchX renders Kubernetes jobs with the package kubernetes")
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DRYRUN": "--dryrun",
        "IMAGE": "example.org/interformer-rec:0.1.0",
    }
    done = subprocess.run(["bash", "examples/kubernetes.sh"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(done.stdout.split("SCHEDULER REQUEST ===\n")[1])
    pods = [task["template"]["spec"] for task in job["spec"]["tasks"]]
    assert [pod["serviceAccountName"] for pod in pods] == ["interformer", "interformer"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pods[0]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"datasets", "runs"}
    assert {pod["containers"][0]["image"] for pod in pods} == {"example.org/interformer-rec:0.1.0"}


def test_the_volume_goes_to_the_images_user():
    pod = yaml.safe_load((EXAMPLES / "kubernetes_volume.yaml").read_text("utf-8"))
    (container,) = pod["spec"]["containers"]
    user = re.search(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert user is not None and container["command"] == [
        "chown",
        "-R",
        user[1],
        container["volumeMounts"][0]["mountPath"],
    ]
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "runs"
    assert f"pod/{pod['metadata']['name']}" in (ROOT / "docs/guides/platform.md").read_text("utf-8")


def test_list_items_by_set(capsys):
    """The commands of the troubleshooting guide for values inside lists."""
    text = (ROOT / "docs/guides/troubleshooting.md").read_text("utf-8")
    commands = [
        shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("interformer config ")
    ]
    assert len(commands) == 4
    for words in commands:
        assert cli.main([words[1], str(ROOT / words[2]), *words[3:]]) == 0, capsys.readouterr().err
    config = load(ROOT / "configs/synthetic.yaml", ["features.sequences.0.max_length=20", "model.head=[64,32]"])
    assert [group.max_length for group in config.features.sequences] == [20, 50]
    assert list(config.model.head) == [64, 32]
    assert (
        cli.main(["config", str(ROOT / "configs/synthetic.yaml"), "--set", "features.sequences.2.max_length=20"]) == 2
    )
    assert "is not an index of a list of 2" in capsys.readouterr().err


def test_the_server_on_kubernetes_is_one_that_the_command_starts():
    """Its flags are the command's; probes ask what the server answers; the pod outlives the drain; the token is the secret's."""
    documents = list(yaml.safe_load_all((EXAMPLES / "kubernetes_serving.yaml").read_text("utf-8")))
    secret, deployment, service = documents
    assert [one["kind"] for one in documents] == ["Secret", "Deployment", "Service"]
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    program, *words = [*container["command"], *container["args"]]
    given = cli.parser().parse_args(words)
    options = {name: value for name, value in vars(given).items() if name not in ("run", "command", "debug")}
    settings = Settings(**options)
    assert (program, given.command, settings.host) == ("interformer", "serve", "0.0.0.0")
    assert pod["spec"]["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.deadline_ms / 1e3 + GRACE
    # the balancer has looked away before the server stops listening
    ready = container["readinessProbe"]
    assert settings.drain_seconds > ready["periodSeconds"] * ready["failureThreshold"]
    (port,) = container["ports"]
    assert (port["name"], port["containerPort"]) == ("http", settings.port)
    handlers = SimpleNamespace(handled=lambda handler, route: handler, rank=list, score=list)
    routes = {route.path for route in Routes(handlers).all()}
    for probe, path in {"startup": "ready", "readiness": "ready", "liveness": "live"}.items():
        asked = container[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": f"/v2/health/{path}", "port": "http"} and asked["path"] in routes
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert volumes["token"]["secret"]["secretName"] == secret["metadata"]["name"]
    assert settings.token_file in [f"{mounts['token']}/{key}" for key in secret["stringData"]]
    assert settings.path.startswith(f"{mounts['models']}/")
    user = re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert {str(pod["spec"]["securityContext"]["runAsUser"])} == set(user)
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels == pod["metadata"]["labels"] == service["spec"]["selector"]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
