"""The demo's model answers a request. In: a finished run; out: an exported model in the run's folder, scores of one user's candidates."""

from pathlib import Path
from typing import Any

from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.engine import opening
from interformer_rec.serving.export import export
from interformer_rec.serving.published import pointer
from interformer_rec.serving.scorer import probabilities

FOLDER = "served"


def exported(run_dir: Path) -> Path:
    """Where the run's exported model is, made if it is not there. ONNX: it takes seconds, and no compiler."""
    out = run_dir / FOLDER
    if not (out / "current.json").exists():
        export(str(run_dir), str(out), ExportOptions(runtime="onnx"))
    return out


def answered(out: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """A request as a client sends it, of the run's own data, and each candidate's scores by task."""
    served = opening.load(str(out), pointer.current(str(out)).version)
    request = served.example
    scores = probabilities(served.scorer(served.encoder.rank(request["user"], request["candidates"])))
    return request, {task: scores[:, i].tolist() for i, task in enumerate(served.scorer.tasks)}
