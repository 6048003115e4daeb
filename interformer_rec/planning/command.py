"""`interformer plan`: a config, a cluster and wishes come in; a plan on the screen or as JSON goes out. No GPU, no process group."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape

from interformer_rec.config.run import load
from interformer_rec.config.strict import LARGEST
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import table_dims
from interformer_rec.planning import plan_file, terminal
from interformer_rec.planning.answer import DoesNotFit, Placed, place
from interformer_rec.planning.constraints import TableKind, load_wishes
from interformer_rec.planning.cost.cluster import Cluster, load_cluster
from interformer_rec.planning.cost.sizes import find_sizes
from interformer_rec.planning.explain import EXPLAINED, explain
from interformer_rec.planning.page.page import write_page, write_refusal
from interformer_rec.planning.question import RESERVE, Problem
from interformer_rec.planning.what_if import Outcome, fewest_nodes, parse_sweep, smallest_changes, sweep
from interformer_rec.redaction import redact
from interformer_rec.strict_json import finite

NAMED = 20  # names in a message


def plan(
    config_path: str,
    cluster: str,
    *,
    overrides: Sequence[str] = (),
    nodes: int | None = None,
    batch_size: int | None = None,
    constraints: str | None = None,
    reserve: float = RESERVE,
    objective: str = "time",
    rows: Sequence[str] = (),
    lengths: Sequence[str] = (),
    statistics: str | None = None,
    prices: Sequence[str] = (),
    what_if: Sequence[str] = (),
    why: Sequence[str] = (),
    out: str | None = None,
    html: str | None = None,
    as_json: bool = False,
) -> int:
    """Plan and print; 0. `nodes`: 1 if not given. `objective`: time, or gpus (the fewest nodes that fit).

    `rows` (TABLE=N), `lengths` (LIST=MEAN), `statistics` (a file): sizes that the data need not be asked for (sizes.find_sizes).
    `prices` (CLUSTER=N): of a node and hour. `why`: tables whose rejected options are printed. `out`, `html`: files to
    write as well, a plan and a page (with `what_if`: plan and sweep). Raises InputError; where nothing fits, with the smallest changes.
    """
    _hush()
    asked = parse_sweep(what_if)
    _refuse_ignored(asked, out, html, why, objective, nodes)
    clusters = _clusters([cluster, *asked.get("cluster", [])], numbers("--price", prices, above=0))
    problem = question(
        config_path, clusters[cluster], overrides=overrides, nodes=1 if nodes is None else nodes, batch_size=batch_size,
        constraints=constraints, reserve=reserve, rows=rows, lengths=lengths, statistics=statistics,
    )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 160)
    _require("--why", why, problem.tables, "table; the config has")
    if asked:
        swept = [clusters[name] for name in asked.get("cluster", [cluster])]
        outcomes = _sweep(problem, asked, swept)
        _show(console, outcomes, as_json)
        if html:
            _write_swept_page(problem, objective, why, html, outcomes)
        return 0
    placed = answer(problem, objective)
    reports = explain(placed, EXPLAINED if as_json or out or html or why else 0, first=why)
    content: dict[str, Any] = plan_file.to_dict(placed, reports) if as_json or out or html else {}
    if out:
        plan_file.write_plan(out, finite(content))
    if html:
        write_page(content, html)
    if as_json:
        print(json.dumps(finite(content)))
        return 0
    terminal.show_plan(console, placed, reports, [report for report in reports if report.name in why])
    if out:
        shown = escape(redact(out))
        console.print(f"wrote {shown}; to train with it: --set sharding.plan={shown}")
    if html:
        console.print(f"wrote {escape(redact(html))}")
    return 0


def _refuse_ignored(
    asked: Mapping[str, object],
    out: str | None,
    html: str | None,
    why: Sequence[str],
    objective: str,
    nodes: int | None,
) -> None:
    """A sweep is a row for each job: what is about one plan has no meaning, but for the page, which has both."""
    if objective not in ("time", "gpus"):
        raise InputError(f"--objective {objective!r} is neither time (fastest step) nor gpus (fewest nodes that fit)")
    if objective == "gpus" and nodes is not None:
        raise InputError("--objective gpus looks for the number of nodes: leave --nodes out, or take --objective time")
    if asked and out:
        raise InputError("--out writes one plan, and --what-if makes a row for each of several: leave one of them out")
    if asked and not html and (why or objective != "time"):
        option = "--why" if why else "--objective"
        raise InputError(
            f"{option} is about one plan, and --what-if makes a row for each of several: leave one of them out"
        )


def _require(option: str, given: Iterable[str], known: Iterable[str], no_such: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise InputError(f"{option} {name}: no such {no_such} {', '.join(names[:NAMED])}")


def _write_swept_page(problem: Problem, objective: str, why: Sequence[str], path: str, outcomes: list[Outcome]) -> None:
    """The plan and the sweep; where the job itself does not fit, the reason and the sweep."""
    rows = [asdict(outcome) for outcome in outcomes]
    try:
        placed = answer(problem, objective)
    except DoesNotFit as error:
        title = f"{problem.config.name} \u00b7 {problem.nodes} \u00d7 {problem.cluster.name}"
        write_refusal(title, str(error), path, rows)
    else:
        write_page(plan_file.to_dict(placed, explain(placed, EXPLAINED, first=why)), path, rows)


def question(
    config_path: str,
    cluster: Cluster,
    *,
    overrides: Sequence[str] = (),
    nodes: int = 1,
    batch_size: int | None = None,
    constraints: str | None = None,
    reserve: float = RESERVE,
    rows: Sequence[str] = (),
    lengths: Sequence[str] = (),
    statistics: str | None = None,
) -> Problem:
    """The Problem of a config file on a cluster; arguments as in `plan`. Raises InputError for anything that cannot be."""
    config = load(config_path, list(overrides))
    if batch_size is not None and not 1 <= batch_size <= LARGEST:
        raise InputError(f"--batch-size {batch_size}: from 1 to {LARGEST} rows a rank")
    if not 0 <= reserve < 1:
        raise InputError(f"--reserve {reserve}: a share of device memory, from 0 to below 1")
    cluster.ranks(nodes)
    if config.optimizer.embedding.kind == "adam" and cluster.device == "cpu":
        raise InputError(f"optimizer.embedding.kind is adam, which FBGEMM has for CUDA only; {cluster.name} has no GPU")
    features = config.features
    dims = table_dims(features, config.model.embedding_dim, config.model.ensemble_members)
    kinds = {name: TableKind(name, name not in features.sequence_tables, dims[name]) for name in features.tables}
    wishes = load_wishes(constraints, config.sharding, kinds)
    counts = {name: int(count) for name, count in numbers("--rows", rows, whole=True).items()}
    sizes = find_sizes(config, config_path, statistics, counts, numbers("--lengths", lengths))
    return Problem(config, cluster, nodes, batch_size or config.data.batch_size, sizes, wishes, reserve)


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
        changes = [terminal.change_text(change) for change in smallest_changes(problem)]
        changed = (
            "\n".join(f"  - {text}" for text in changes) or "  - nothing that was tried; see docs/guides/planning.md"
        )
        raise DoesNotFit(f"{error}\nAny one of these makes it fit:\n{changed}", error.cause) from None


def compare(first: str, second: str, as_json: bool = False) -> int:
    """`interformer plan diff A B`: print what differs between two plan files; 0."""
    difference = plan_file.diff(first, second)
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
            cluster.ranks(count)
    return sweep(problem, clusters, nodes, batches)


def _show(console: Console, outcomes: list[Outcome], as_json: bool) -> None:
    if as_json:
        print(json.dumps(finite({"what_if": [asdict(outcome) for outcome in outcomes]})))
    else:
        terminal.show_sweep(console, outcomes)


def _clusters(names: Sequence[str], prices: Mapping[str, float]) -> dict[str, Cluster]:
    """Every cluster that is asked about, by the user's name of it, at its price."""
    found = {name: load_cluster(name) for name in names}
    known = [cluster.name for cluster in found.values()]
    _require("--price", prices, known, "cluster is asked about; there is")
    return {
        name: cluster.model_copy(update={"price_per_node_hour": prices[cluster.name]})
        if cluster.name in prices
        else cluster
        for name, cluster in found.items()
    }


def _hush() -> None:
    """TorchRec's planner warns of what this package has already seen to, in the middle of the tables."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    for name in ("torchrec.distributed.planner", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
