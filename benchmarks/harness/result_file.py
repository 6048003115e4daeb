"""A benchmark's result as JSON, one case a line: written with the machine's facts, read back checked."""

import json
from pathlib import Path
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.files import finite


def write_result(path: str | None, result: dict[str, Any], done: bool = True) -> None:
    """Nothing without a path. Not `done`: what there is so far, for the case that the run is stopped."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(result_text(result), encoding="utf-8")
        if done:
            print(f"wrote {path}")


def result_text(result: dict[str, Any]) -> str:
    """JSON with a line for each fact, and for each case, run or system in a list: a difference between two results shows what changed."""
    facts = (f" {json.dumps(name)}: {_value(value)}" for name, value in finite(result).items())
    return "{\n" + ",\n".join(facts) + "\n}\n"


def _value(value: Any) -> str:
    """A collection that holds collections has a line for each of them; everything else is one line."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, list) or not any(isinstance(part, dict | list) for part in parts):
        return json.dumps(value)
    if isinstance(value, dict):
        lines, ends = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in value.items()], "{}"
    else:
        lines, ends = [json.dumps(part) for part in value], "[]"
    return ends[0] + "\n  " + ",\n  ".join(lines) + "\n " + ends[1]


def read_result(path: str) -> dict[str, Any]:
    """Raises InputError for what is no result file with cases."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read result file {path!r}: {error}") from None
    if not isinstance(result, dict) or not isinstance(result.get("cases"), list):
        raise InputError(
            f"{path!r} is no result file of benchmarks.seq_length, kernels, embeddings or scaling: no cases"
        )
    return result
