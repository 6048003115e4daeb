"""`interformer plan`: a question comes in; a plan on the screen or as JSON goes out. No GPU, no process group."""

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from interformer_rec.config.run import RunConfig, load
from interformer_rec.config.strict import LARGEST
from interformer_rec.errors import InputError
from interformer_rec.files import finite
from interformer_rec.model.embedding.embedded import table_dims
from interformer_rec.planning import plan_file, terminal
from interformer_rec.planning.answer import DoesNotFit, Placed, place
from interformer_rec.planning.arguments import Asked, Output
from interformer_rec.planning.choose.compare import by_price, scaling
from interformer_rec.planning.choose.levers import when_nothing_fits
from interformer_rec.planning.choose.mixed import clusters_named, nodes_of
from interformer_rec.planning.choose.sweep_table import show_sweep
from interformer_rec.planning.constraints import Constraints, TableKind, load_constraints
from interformer_rec.planning.cost.cluster import Cluster, known
from interformer_rec.planning.cost.new_cluster import new_cluster
from interformer_rec.planning.cost.sizes import find_sizes, with_distinct
from interformer_rec.planning.difference import diff
from interformer_rec.planning.explain import EXPLAINED, explain
from interformer_rec.planning.page.page import write_page, write_refusal
from interformer_rec.planning.question import Problem
from interformer_rec.planning.what_if import Outcome, fewest_nodes, parse_sweep, sweep
from interformer_rec.redaction import redact

NAMED = 20  # names in a message


def plan(asked: Asked, output: Output) -> int:
    """Plan and print; 0. Raises InputError; where nothing fits, with the smallest changes."""
    hush()
    if output.new_cluster is not None:
        return _draft(output.new_cluster, asked, output)
    varied = parse_sweep(output.what_if)
    asked = _complete(asked, varied)
    _refuse_ignored(varied, asked, output)
    clusters = clusters_named([asked.cluster, *varied.get("cluster", [])], numbers("--price", output.price, above=0))
    problem = question(asked, clusters[asked.cluster])
    console = Console(width=None if sys.stdout.isatty() else 160)
    _require("--why", output.why, problem.tables, "table; the config has")
    if varied:
        swept = [clusters[name] for name in varied.get("cluster", [asked.cluster])]
        outcomes = _sweep(problem, varied, swept)
        _show(console, outcomes, output.json)
        if output.html:
            _write_swept_page(problem, output, output.html, outcomes)
        return 0
    placed = answer(problem, output.objective)
    whole = bool(output.json or output.out or output.html)
    reports = explain(placed, EXPLAINED if whole or output.why else 0, first=output.why)
    if whole:
        _write(finite(plan_file.to_dict(placed, reports)), output)
    if output.json:
        return 0
    terminal.show_plan(console, placed, reports, [report for report in reports if report.name in output.why])
    if output.out:
        shown = escape(redact(output.out))
        console.print(f"wrote {shown}; to train with it: --set sharding.plan={shown}")
    if output.html:
        console.print(f"wrote {escape(redact(output.html))}")
    return 0


def _draft(name: str, asked: Asked, output: Output) -> int:
    if asked != Asked() or output != Output(new_cluster=name):
        raise InputError("--new-cluster writes a file and plans nothing: leave CONFIG and the other options out")
    path = new_cluster(name)
    print(f"wrote {path}: fill in its numbers, then interformer plan CONFIG --cluster {path}")
    return 0


def _complete(asked: Asked, varied: Mapping[str, list[str]]) -> Asked:
    """With the first cluster of a sweep where none is named. Raises InputError where a config or a cluster lacks."""
    if not asked.config:
        raise InputError("CONFIG lacks: name a YAML file, for example configs/kuairand_pure.yaml")
    cluster = asked.cluster or varied.get("cluster", [""])[0]
    if not cluster:
        raise InputError(
            f"--cluster lacks: name one of {', '.join(known())} or a YAML file; --new-cluster NAME drafts one. "
            "--what-if cluster=A,B needs no --cluster"
        )
    return replace(asked, cluster=cluster)


def _write(content: dict[str, Any], output: Output) -> None:
    if output.out:
        plan_file.write_plan(output.out, content)
    if output.html:
        write_page(content, output.html)
    if output.json:
        print(json.dumps(content))


def _refuse_ignored(varied: Mapping[str, object], asked: Asked, output: Output) -> None:
    """A sweep is a row for each job: what is about one plan has no meaning, but for the page, which has both."""
    if output.objective == "gpus" and asked.nodes is not None:
        raise InputError("--objective gpus looks for the number of nodes: leave --nodes out, or take --objective time")
    if varied and output.out:
        raise InputError("--out writes one plan, and --what-if makes a row for each of several: leave one of them out")
    if varied and not output.html and (output.why or output.objective != "time"):
        option = "--why" if output.why else "--objective"
        raise InputError(
            f"{option} is about one plan, and --what-if makes a row for each of several: leave one of them out"
        )


def _require(option: str, given: Iterable[str], known: Iterable[str], no_such: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise InputError(f"{option} {name}: no such {no_such} {', '.join(names[:NAMED])}")


def _write_swept_page(problem: Problem, output: Output, path: str, outcomes: list[Outcome]) -> None:
    """The plan and the sweep; where the job itself does not fit, the reason and the sweep."""
    rows = [asdict(outcome) for outcome in outcomes]
    try:
        placed = answer(problem, output.objective)
    except DoesNotFit as error:
        title = f"{problem.config.name} \u00b7 {problem.nodes} \u00d7 {problem.cluster.name}"
        write_refusal(title, str(error), path, rows)
    else:
        write_page(plan_file.to_dict(placed, explain(placed, EXPLAINED, first=output.why)), path, rows)


def question(asked: Asked, cluster: Cluster) -> Problem:
    """What is asked, on the cluster of that name. Raises InputError for anything that cannot be."""
    config = load(asked.config, list(asked.set))
    nodes, batch = nodes_of(asked.cluster, asked.nodes), asked.batch_size
    if batch is not None and not 1 <= batch <= LARGEST:
        raise InputError(f"--batch-size {batch}: from 1 to {LARGEST} rows a rank")
    if not 0 <= asked.reserve < 1:
        raise InputError(f"--reserve {asked.reserve}: a share of device memory, from 0 to below 1")
    cluster.ranks(nodes)
    constraints = constraints_of(config, cluster, asked.constraints)
    counts = {name: int(count) for name, count in numbers("--rows", asked.rows, whole=True).items()}
    sizes = find_sizes(config, asked.config, asked.statistics, counts, numbers("--lengths", asked.lengths))
    batch = batch or config.data.batch_size
    sizes = with_distinct(sizes, config.features, numbers("--distinct", asked.distinct), batch)
    return Problem(config, cluster, nodes, batch, sizes, constraints, asked.reserve, dense_ms=_dense_ms(asked.dense_ms))


def constraints_of(config: RunConfig, cluster: Cluster, path: str | None = None) -> Constraints:
    """What the config, and a file of constraints, want of the tables. Raises InputError for what cannot be."""
    if config.optimizer.embedding.kind == "adam" and cluster.device == "cpu":
        raise InputError(f"optimizer.embedding.kind is adam, which FBGEMM has for CUDA only; {cluster.name} has no GPU")
    features = config.features
    dims = table_dims(features, config.model.embedding_dim, config.model.ensemble_members)
    kinds = {name: TableKind(name, name not in features.sequence_tables, dims[name]) for name in features.tables}
    return load_constraints(path, config.sharding, kinds)


def _dense_ms(text: str | None) -> tuple[float, float] | None:
    """ "12.5,25" -> (12.5, 25.0). Raises InputError."""
    if text is None:
        return None
    try:
        forward, backward = (float(part) for part in text.split(","))
    except ValueError:
        forward = backward = math.nan
    if not (0 <= forward <= LARGEST and 0 <= backward <= LARGEST):
        raise InputError(
            f"--dense-ms {text}: write the forward and the backward pass in ms, for example --dense-ms 12.5,25"
        )
    return forward, backward


def numbers(option: str, pairs: Sequence[str], *, whole: bool = False, above: float = -1.0) -> dict[str, float]:
    """["item=1e9"] -> {"item": 1e9}: each once, at least 0 or more than `above`, `whole` where said. Raises InputError."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not name or not max(0, above) <= value < math.inf:
            raise InputError(f"{option} {pair}: write NAME=NUMBER, for example {option} item=1e6")
        if value == above or (whole and value != int(value)):
            raise InputError(f"{option} {pair}: the number must be {'whole' if whole else f'more than {above:g}'}")
        if name in found:
            raise InputError(f"{option} {name} is given twice: {found[name]:g} and {value:g}")
        found[name] = value
    return found


def answer(problem: Problem, objective: str = "time") -> Placed:
    """The plan. Raises DoesNotFit whose message names the changes, tried for real, after which the tables fit."""
    try:
        return fewest_nodes(problem) if objective == "gpus" else place(problem)
    except DoesNotFit as error:
        samples = problem.batch_size * problem.ranks
        changes = [lever.text(samples) for lever in when_nothing_fits(problem)]
        changed = "\n".join(
            f"  - {text}" for text in changes or ["nothing that was tried; see docs/guides/planning.md"]
        )
        raise DoesNotFit(f"{error}\nAny one of these makes it fit:\n{changed}") from None


def compare(first: str, second: str, as_json: bool = False) -> int:
    """`interformer plan diff A B`: print what differs between two plan files or run folders; 0."""
    difference = diff(first, second)
    if as_json:
        print(json.dumps(finite(difference)))
    else:
        terminal.show_diff(Console(width=None if sys.stdout.isatty() else 160), difference, first, second)
    return 0


def _sweep(problem: Problem, asked: Mapping[str, list[str]], clusters: Sequence[Cluster]) -> list[Outcome]:
    nodes = [int(count) for count in asked.get("nodes", [problem.nodes])]
    batches = [int(count) for count in asked.get("batch", [problem.batch_size])]
    for cluster in clusters:
        for count in nodes:
            cluster.ranks(nodes_of(cluster.name, count))
    return sweep(problem, clusters, nodes, batches, [int(count) for count in asked.get("groups", ["1"])])


def _show(console: Console, outcomes: list[Outcome], as_json: bool) -> None:
    if as_json:
        found: dict[str, Sequence[Any]] = {
            "what_if": outcomes,
            "by_price": by_price(outcomes),
            "scaling": scaling(outcomes),
        }
        print(json.dumps(finite({name: [asdict(one) for one in part] for name, part in found.items()})))
    else:
        show_sweep(console, outcomes)


def hush() -> None:
    """TorchRec's planner warns of what this package has already seen to, in the middle of the tables."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    for name in ("torchrec.distributed.planner", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
