"""A server as a user would write it without export: Starlette, the trained model as `interformer predict` builds it, C rows a request.

    python -m benchmarks.serving.plain_server RUN [--port 0]

The alternative that benchmarks.serving compares with: POST /v1/rank takes the same request as `interformer serve`. No graph, no batches
across requests, no shared user. Prints {"port": N} on standard error once it listens.
"""

import argparse
import json
import socket
import sys
import threading
from typing import Any

import pyarrow as pa
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interformer_rec.batch import Batch
from interformer_rec.data.collate import collate
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.distributed.environment import process_group
from interformer_rec.training.folder.run_folder import attached_config, locate
from interformer_rec.training.scoring.trained import fitted_of, restore


class Trained:
    """The jagged model of a run; rows as columns of raw values come in. Made and used inside `process_group`."""

    def __init__(self, run: str, env: Any) -> None:
        located = locate(run, trust=True)
        config = located.read(lambda found: attached_config(found, True))
        fitted = fitted_of(located.checkpoint)
        loader, pipeline = restore(config, env, located, str(config.data.valid))
        self.features, self._types = config.features, loader.source.schemas[0]
        self._decoder = Decoder(config.features, fitted, labels=False)
        self._model = pipeline.model.eval()
        self._alone = threading.Lock()  # TorchRec's lookups serve one thread at a time

    def batch(self, rows: dict[str, list[Any]]) -> Batch:
        """As the loader makes one."""
        table = pa.table({name: pa.array(values, self._types.field(name).type) for name, values in rows.items()})
        return collate(
            self._decoder.layout, self.features, [(self._decoder(table, str), slice(0, table.num_rows))], 1.0
        )

    def logits(self, batch: Batch) -> torch.Tensor:
        """(C, tasks)."""
        with self._alone, torch.no_grad():  # the lookup has no kernel for inference mode
            return self._model(batch)[1]

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Scores of a request: the user's inputs again for each candidate."""
        candidates = body["candidates"]
        count = len(next(iter(candidates.values())))
        rows = {**{name: [value] * count for name, value in body["user"].items()}, **candidates}
        scores = self.logits(self.batch(rows)).sigmoid()
        return {"scores": {label.name: scores[:, i].tolist() for i, label in enumerate(self.features.labels)}}


def main() -> None:
    """Parse, load, listen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with process_group("cpu") as env:
        trained = Trained(options.run, env)

        async def rank(request: Request) -> Response:
            return JSONResponse(await run_in_threadpool(trained.answer, await request.json()))

        with socket.create_server(("127.0.0.1", options.port)) as listener:
            sys.stderr.write(json.dumps({"event": "listening", "port": listener.getsockname()[1]}) + "\n")
            sys.stderr.flush()
            app = Starlette(routes=[Route("/v1/rank", rank, methods=["POST"])])
            uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run([listener])


if __name__ == "__main__":
    main()
