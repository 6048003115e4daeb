"""`interformer benchmark`. In: a config and what is varied; out: a table while it runs, benchmark.json and benchmark.html.

Points take turns, `--rounds` times each, forwards and then backwards, so that a machine that gets slower or busier is so for all of them.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from interformer_rec import __version__
from interformer_rec.benchmarking import result as results
from interformer_rec.benchmarking.arguments import BenchmarkOptions
from interformer_rec.benchmarking.flops import flops_a_row
from interformer_rec.benchmarking.machine import facts
from interformer_rec.benchmarking.page.page import render
from interformer_rec.benchmarking.point import Point
from interformer_rec.benchmarking.prediction import HERE, Prediction, cluster_for, predict
from interformer_rec.benchmarking.processes import Failed, FreshProcesses, Ranks, ThisJob
from interformer_rec.benchmarking.question import Question, ask
from interformer_rec.benchmarking.result import Case
from interformer_rec.benchmarking.rows.prepared import Prepared, Written
from interformer_rec.benchmarking.screen import Screen
from interformer_rec.benchmarking.turn import Turn
from interformer_rec.config import run as run_config
from interformer_rec.distributed.environment import process_group
from interformer_rec.files import write_whole
from interformer_rec.planning.command import hush
from interformer_rec.redaction import redact
from interformer_rec.text import milliseconds


def benchmark(config: str, changes: Sequence[str], options: BenchmarkOptions) -> int:
    """Measure; 0, or 1 where no point could be measured. Raises InputError before any work."""
    hush()
    question = ask(config, changes, options)
    if "WORLD_SIZE" not in os.environ:
        with tempfile.TemporaryDirectory(prefix="interformer-benchmark-") as name:
            return _Benchmark(question, Path(name), FreshProcesses(Path(name))).run()
    training = question.base.training
    with process_group(training.device, start_seconds=training.start_seconds) as env, _shared_folder(env) as folder:
        return _Benchmark(question, folder, ThisJob(env), env.is_main, env.local_rank == 0, env.on_main).run()


@contextmanager
def _shared_folder(env: Any) -> Iterator[Path]:
    """A folder on each host that its ranks share; the first of them removes it."""
    name = env.on_main(lambda: f"interformer-benchmark-{time.time_ns()}")
    place = Path(tempfile.gettempdir()) / name
    with tempfile.TemporaryDirectory(prefix="interformer-benchmark-") as own:
        if env.local_rank == 0:
            place.symlink_to(own)
        dist.barrier()
        try:
            yield place
        finally:
            if env.local_rank == 0:
                place.unlink()


class _Benchmark:
    """One run of the command. On ranks other than the first it takes its part of every turn and says nothing."""

    def __init__(
        self,
        question: Question,
        folder: Path,
        ranks: Ranks,
        is_main: bool = True,
        first_of_host: bool = True,
        on_main: Callable[[Callable[[], Any]], Any] = lambda function: function(),
    ) -> None:
        self._question, self._folder, self._ranks = question, folder, ranks
        self._is_main, self._first_of_host, self._on_main = is_main, first_of_host, on_main
        self._prepared = Prepared(question.base, question.config_path, question.options, folder)
        self._screen = Screen(is_main)
        self._cases: dict[Point, Case] = {}
        self._ceilings: dict[int, dict[str, float]] = {}
        self._began = time.time()

    def run(self) -> int:
        """Write rows, predict, measure, write the result after every turn."""
        question, points = self._question, self._question.points
        with self._screen:
            self._screen.say(f"{question.named}: {len(points)} point(s), {question.options.rounds} turn(s) each")
            self._write_rows()
            for ranks in dict.fromkeys(point.ranks for point in points):
                self._ceilings[ranks] = self._ranks.ceilings(ranks, question.base.training.device)
            skipped = self._on_main(self._predict)
            wanted = [number for number in range(len(points)) if number not in skipped]
            self._measure(wanted)
            if self._is_main:
                self._write()
                self._screen.end(self._result())
                self._screen.say(f"wrote {question.out / results.JSON}\npage: {question.out / results.PAGE}")
        return 0 if self._on_main(lambda: any(case.turns for case in self._cases.values())) else 1

    def _config(self, number: int) -> Path:
        return self._folder / f"point-{number}.yaml"

    def _write_rows(self) -> None:
        """On each host once; on the main rank what is in them is known, too."""
        if self._first_of_host:
            for number, point in enumerate(self._question.points):
                config = self._prepared.config(point)
                config = config.model_copy(
                    update={"training": config.training.model_copy(update={"out": str(self._folder / "run")})}
                )
                self._config(number).write_text(run_config.to_yaml(config), encoding="utf-8")
            self._prepared.save_fitted()
        if dist.is_initialized():
            dist.barrier()

    def _predict(self) -> list[int]:
        """Every case with its prediction; numbers of the points that have no room here."""
        question, skipped = self._question, []
        fitted, counted = self._prepared.fitted, question.options.what in ("step", "model")
        for number, point in enumerate(question.points):
            config = run_config.load(self._config(number))
            ceilings = self._ceilings[point.ranks]
            cluster = cluster_for(question.options.cluster, question.device, point.ranks, ceilings)
            prediction = predict(config, fitted, point.ranks, cluster)
            written = self._prepared.write(point)
            flops = flops_a_row(config, fitted, self._folder) if counted else None
            same = cluster.device == question.device
            case = Case(
                point,
                written,
                prediction if question.options.what == "step" else Prediction(cluster.name),
                flops,
                ceilings[config.training.precision],
                cluster.price_per_node_hour if same else None,
                max(1, point.ranks // cluster.devices_per_node),
            )
            self._cases[point] = case
            if prediction.why and cluster.name == HERE and point.candidates is None:
                case.error = f"not measured, for the planner finds no room for it: {prediction.why}"
                skipped.append(number)
            self._screen.say(f"{point.text}: {_said(case, written)}")
        return skipped

    def _measure(self, wanted: list[int]) -> None:
        options, points = self._question.options, self._question.points
        taken: dict[int, float] = {}
        total, done = len(wanted) * options.rounds, 0
        for round_ in range(options.rounds):
            for number in wanted if round_ % 2 == 0 else wanted[::-1]:
                began = time.perf_counter()
                text = self._turn(number)
                taken[number] = time.perf_counter() - began
                done += 1
                if self._is_main:
                    self._write()
                    left = self._left(wanted, taken, options.rounds, done)
                    self._screen.turn(self._result(), done, total, left, f"{points[number].text}: {text}")

    @staticmethod
    def _left(wanted: list[int], taken: dict[int, float], rounds: int, done: int) -> float | None:
        """Seconds; in the first round the points to come count as the dearest one so far."""
        guess = max(taken.values(), default=0.0)
        each = [taken.get(number, guess) for number in wanted]
        return max(0.0, rounds * sum(each) - done / len(wanted) * sum(each)) if done else None

    def _turn(self, number: int) -> str:
        """Take it; what it measured, in a few words."""
        options, point = self._question.options, self._question.points[number]
        turn = Turn(
            str(self._config(number)), str(self._folder / "fitted.pickle"), options.what, options.steps, options.seconds
        )
        try:
            answer = self._ranks.take(turn, point.ranks)
        except Failed as error:
            self._cases[point].error = str(error)
            return f"failed: {error}"
        if self._is_main:
            self._cases[point].turns.append(answer)
        rate = sum(answer["rows"]) / sum(answer["step_ms"]) * 1e3
        return f"{rate:,.0f} samples/s, {milliseconds(sum(answer['step_ms']) / len(answer['step_ms']))} a step"

    def _result(self) -> dict[str, Any]:
        question, options = self._question, self._question.options
        return {
            "benchmark": "interformer benchmark",
            "format": results.FORMAT,
            "version": __version__,
            "name": question.named,
            "config": redact(question.config_path),
            "set": [redact(change) for change in question.changes],
            "what": options.what,
            "distribution": options.distribution,
            "fill": options.fill if options.distribution == "zipf" else None,
            "precision": question.base.training.precision,
            **facts(torch.device(question.device)),
            "ceilings": {str(ranks): found for ranks, found in self._ceilings.items()},
            "seconds": time.time() - self._began,
            "cases": [case.to_dict(question.base.features) for case in self._cases.values()],
        }

    def _write(self) -> None:
        result, out = self._result(), self._question.out
        results.write(out, result)
        write_whole(out / results.PAGE, render(result))


def _said(case: Case, written: Written) -> str:
    predicted = case.prediction
    rows = f"{written.batch_size:,} rows a rank, {written.events_a_row:,.1f} events a row of the file"
    if predicted.step_ms is None:
        return f"{rows}; {case.error or predicted.why or 'not predicted'}"
    return f"{rows}; {milliseconds(predicted.step_ms)} predicted on {predicted.cluster}"
