"""A benchmark's result as JSON, one case a line: written with the machine's facts, read back checked."""

import json
from pathlib import Path
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.files import json_by_lines


def write_result(path: str | None, result: dict[str, Any], done: bool = True) -> None:
    """Nothing without a path. Not `done`: what there is so far, for the case that the run is stopped."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json_by_lines(result), encoding="utf-8")
        if done:
            print(f"wrote {path}")


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
