"""An S3 server on loopback for tests: every request is counted."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyarrow import fs


class Store:
    """The server's address, a client, and the requests it has answered. There is one bucket, `bucket`."""

    def __init__(self, endpoint: str, client: fs.S3FileSystem, requests: list[tuple[str, str]]) -> None:
        self.endpoint, self.client, self.requests = endpoint, client, requests

    def uri(self, key: str) -> str:
        return f"s3://bucket/{key}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"


@contextmanager
def s3_server() -> Iterator[Store]:
    """A server with an empty bucket; the environment has its credentials."""
    moto_server = pytest.importorskip("moto.server", reason="needs moto[server] (requirements/dev.txt)")
    values = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch, socket.socket() as probe:
        for name, value in values.items():
            patch.setenv(name, value)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        server = moto_server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
        server.start()
        requests: list[tuple[str, str]] = []
        application = server._server.app

        def counting(environ, start_response):
            requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            return application(environ, start_response)

        server._server.app = counting
        endpoint = f"127.0.0.1:{port}"
        client = fs.S3FileSystem(
            endpoint_override=endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
            background_writes=False,
        )
        client.create_dir("bucket")
        yield Store(endpoint, client, requests)
        server.stop()
