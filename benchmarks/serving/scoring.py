"""CPU time of scoring alone, one thread, no server. In: exported models; out: a row a shape and alternative, in one interleaved run.

Alternatives, each with table lookups (legend: C candidates of one user):

    C rows, jagged       the trained model over C independent rows, as `interformer predict` scores them: the user's work C times
    split off, RUNTIME   the exported model without split: the same rows as rectangles
    RUNTIME              the split model: the user's graph once, then the candidates' graph; eager is the modules as they are
    RUNTIME, cached      the user's state is there already
    RUNTIME, FORM        tables in fp16 or int8
    aoti, native         graphs compiled for this machine's processor (--isa native)
    graphs, RUNTIME      the two graphs without the lookup before them
    request, RUNTIME     JSON to JSON: parsed, encoded, looked up, scored, written; `request, jagged`: the same by the jagged model
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson

from benchmarks.harness.interleaved import measure
from benchmarks.serving.models import Exported, draw
from benchmarks.serving.plain_server import Trained
from interformer_rec.serving import artefact
from interformer_rec.serving.contents import SUFFIX, Runtime
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.rectangle import reads_of
from interformer_rec.serving.request import Inputs
from interformer_rec.serving.runtimes import compiled_graph, eager_graphs
from interformer_rec.serving.scorer import Graph, Scorer, probabilities
from interformer_rec.serving.server.answers import answer
from interformer_rec.serving.session import onnx_graph

NATIVE, TURNS = "aoti, native", 61  # the two packages are close: turns of these two alone
MOST_ROWS = 100_000  # events times candidates that alternatives without split are measured for


@dataclass(frozen=True)
class Loaded:
    """What is timed."""

    trained: Trained
    encoder: Encoder
    scorers: dict[str, Scorer]  # as the alternatives are named
    first: str  # the runtime that a server takes
    graphs: dict[str, Sequence[Graph]]  # runtime -> of the split model
    scorer: Callable[[Sequence[Graph]], Scorer]  # of the split model with other graphs


class Recorded:
    """A graph that keeps its last inputs."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.inputs: Sequence[np.ndarray] = ()

    def __call__(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The graph."""
        self.inputs = inputs
        return self._graph(inputs)

    def again(self) -> np.ndarray:
        """The graph alone."""
        return self._graph(self.inputs)


def load(exported: Exported, trained: Trained) -> Loaded:
    """Every alternative of the exported models; the tables of every form with the first export's graphs."""
    versions = {form: artefact.open(str(path)) for form, path in exported.served.items()}
    split, whole = versions["fp32"], artefact.open(str(exported.whole))
    runtimes: tuple[Runtime, ...] = ("eager", *split.contents.runtimes)
    graphs = {runtime: graphs_of(split, runtime) for runtime in runtimes}
    scorers = {runtime: scorer_of(split, graphs[runtime]) for runtime in runtimes}
    first = split.preferred
    scorers |= {
        f"{first}, {form}": scorer_of(version, graphs[first]) for form, version in versions.items() if form != "fp32"
    }
    scorers[f"split off, {whole.preferred}"] = scorer_of(whole, graphs_of(whole, whole.preferred))
    native = artefact.open(str(exported.native))
    if native.preferred == "aoti":
        scorers[NATIVE] = scorer_of(split, graphs_of(native, "aoti"))
    encoder = Encoder(split.config.features, split.fitted, split.signature)
    return Loaded(trained, encoder, scorers, first, graphs, partial(scorer_of, split))


def graphs_of(version: artefact.Version, runtime: Runtime) -> list[Graph]:
    """Of one runtime, in order."""
    config, folder = version.config, version.folder
    if runtime == "eager":
        return eager_graphs(folder, config, version.contents.members)
    reads, names = reads_of(config.features, config.model), artefact.graph_names(version.contents.split)
    paths = [folder / "graphs" / f"{name}{SUFFIX[runtime]}" for name in names]
    if runtime == "aoti":
        return [compiled_graph(path) for path in paths]
    inputs = [artefact.graph_inputs(name, one) for name, one in zip(names, reads, strict=True)]
    return [onnx_graph(path, its) for path, its in zip(paths, inputs, strict=True)]


def scorer_of(version: artefact.Version, graphs: Sequence[Graph]) -> Scorer:
    """A version's tables before the graphs of another one of the same model."""
    features = version.config.features
    tables = artefact.tables_of(version.folder, version.contents.tables)
    return Scorer(features, reads_of(features, version.config.model), tables, graphs)


def alternatives(loaded: Loaded, events: int, candidates: int) -> dict[str, Callable[[], object]]:
    """For one shape; every alternative's logits are compared with the jagged model's, or with the eager one's, first."""
    drawn = draw(loaded.trained.features, events, candidates, seed=1)
    inputs = loaded.encoder.rank(drawn.user, drawn.candidates)
    body = orjson.dumps(drawn.body)
    few = events * candidates <= MOST_ROWS
    found: dict[str, Callable[[], object]] = {}
    right = loaded.scorers["eager"](inputs)
    if few:
        batch = loaded.trained.batch(drawn.rows)
        right = loaded.trained.logits(batch).numpy()
        found["C rows, jagged"] = lambda: loaded.trained.logits(batch)
        found["request, jagged"] = lambda: json.dumps(loaded.trained.answer(json.loads(body)))
    for name, scorer in loaded.scorers.items():
        if not scorer.split:
            if few:
                found[name] = partial(scorer, inputs)
            continue
        apart = float(np.abs(scorer(inputs) - right).max())
        assert apart < (1e-4 if name in loaded.graphs else 1e-1), (name, apart)
        found[name] = partial(scorer, inputs)
        if name in loaded.graphs:
            found[f"{name}, cached"] = cached(scorer, inputs)
    first = loaded.first
    found[f"graphs, {first}"] = graphs_alone(loaded, first, inputs)
    found[f"request, {first}"] = lambda: request(loaded, loaded.scorers[first], body)
    return found


def cached(scorer: Scorer, inputs: Inputs) -> Callable[[], object]:
    """The candidates alone."""
    states = scorer.states(inputs.users)
    return lambda: scorer.logits(inputs.candidates, inputs.owners, states=states)


def graphs_alone(loaded: Loaded, runtime: str, inputs: Inputs) -> Callable[[], object]:
    """The user's graph and the candidates' on inputs that are looked up already."""
    recorded = [Recorded(graph) for graph in loaded.graphs[runtime]]
    loaded.scorer(recorded)(inputs)
    return lambda: [one.again() for one in recorded]


def request(loaded: Loaded, scorer: Scorer, body: bytes) -> bytes:
    """All of a request but HTTP."""
    found = orjson.loads(body)
    scores = probabilities(scorer(loaded.encoder.rank(found["user"], found["candidates"])))
    order = np.argsort(-scores[:, 0], kind="stable")
    tasks = {task: np.ascontiguousarray(scores[:, i]) for i, task in enumerate(scorer.tasks)}
    return bytes(answer({"scores": tasks, "order": order}).body)


def measure_shape(loaded: Loaded, events: int, candidates: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Rows of a result; `times_jagged`: of turns in one round."""
    work = alternatives(loaded, events, candidates)
    times = measure(work, rounds, warm_up=1, seconds=seconds, clock=time.process_time, settle=True)
    base = times.get("C rows, jagged")
    rows = []
    for name, taken in times.items():
        row: dict[str, Any] = {"level": "scorer", "events": events, "candidates": candidates, "alternative": name}
        low, high = np.percentile(taken.seconds, [25, 75]) * 1e3
        row |= {"cpu_ms": round(taken.median * 1e3, 4), "p25_ms": round(float(low), 4), "p75_ms": round(float(high), 4)}
        row |= {
            "repeats": len(taken.seconds),
            "times_jagged": None if base is None else round(taken.ratio(base)["median"], 2),
        }
        rows.append(row)
    if NATIVE in work:
        alone = measure(
            {name: work[name] for name in ("aoti", NATIVE)}, TURNS, warm_up=1, seconds=seconds, clock=time.process_time
        )
        mine = next(row for row in rows if row["alternative"] == NATIVE)
        mine["portable_over_native"] = {name: round(x, 3) for name, x in alone[NATIVE].ratio(alone["aoti"]).items()}
    return rows
