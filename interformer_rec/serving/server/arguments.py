"""Options of `interformer serve`. In: a parser; out: a field of Settings each. Needs neither torch nor pydantic."""

import argparse
from typing import Any

WATCH = 2.0  # seconds between looks at current.json where --watch gives none


def add_serve_arguments(one: argparse.ArgumentParser) -> None:
    """Defaults are those of Settings: an option that is not given leaves no trace."""

    def add(name: str, **more: Any) -> None:
        one.add_argument(name, default=argparse.SUPPRESS, **more)

    one.add_argument("path", metavar="DIR", help="what `interformer export --out` has written: a folder or a URI")
    add("--host", help="address to listen on; 127.0.0.1, which other machines cannot reach")
    add("--port", type=int, help="8000; 0: a free one")
    add("--workers", type=int, help="processes; 1")
    add("--max-candidates", type=int, metavar="N", help="of one request; 1000")
    add("--max-body-mb", type=float, metavar="MIB", help="of a request; 8")
    add("--queue", type=int, metavar="N", help="requests in work a worker, then 429; 256")
    add("--connections", type=int, metavar="N", help="open connections a worker, then 429; 1000")
    add("--batch", type=int, metavar="N", help="candidates of a batch across requests; 500")
    add("--deadline-ms", type=float, metavar="MS", help="time for a request, then 504; 1000")
    add("--cache-mb", type=float, metavar="MIB", help="users' states a worker keeps (split models); 64, 0: none")
    add("--cache-half", action="store_true", help="keep users' states in 16 bits")
    add("--watch", type=float, nargs="?", const=WATCH, metavar="SECONDS", help="follow current.json; every 2 seconds")
    add("--drain-seconds", type=float, metavar="S", help="between `not ready` and the end of listening; 2")
    add("--token-file", metavar="FILE", help="requests must bring the token of its first line")
    add("--tls-cert", metavar="FILE", help="PEM, certificate chain")
    add("--tls-key", metavar="FILE", help="PEM, the certificate's key")
    add("--log-requests", action="store_true", help="a line a request on standard error")
