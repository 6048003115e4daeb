"""Exports one after the other, as a run asks for them. In: on stdin a line of JSON each, export's arguments; out: on stdout a line
each, what was published, or why nothing was.

Loading torch and the version that is published takes far longer than a delta, so a run keeps this process for its next publication. It ends
with stdin, after IDLE seconds without work, and after MOST exports: torch unloads no compiled graph.
"""

import json
import os
import select
import sys

from interformer_rec.errors import InputError
from interformer_rec.files import finite
from interformer_rec.serving.arguments import ExportOptions
from interformer_rec.serving.export import export

IDLE = 600.0  # seconds: who publishes less often has the time to load all again
MOST = 100


def main() -> None:
    """Until there is no more to do. What is not an InputError ends the process, its traceback on stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for _ in range(MOST):
        asked, _, _ = select.select([sys.stdin], [], [], IDLE)
        line = sys.stdin.readline() if asked else ""
        if not line:
            return
        try:
            asked = json.loads(line)
            said = {"done": finite(export(**{**asked, "options": ExportOptions(**asked["options"])}))}
        except InputError as error:
            said = {"failed": str(error)}
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
