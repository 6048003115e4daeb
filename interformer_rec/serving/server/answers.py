"""What a client gets: scores, or an error that says what, where and what to do. In: results, refusals; out: HTTP responses in JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

RETRY = {"retry-after": "1"}


class Refused(Exception):
    """A request that gets no scores. `kind` is what the meters count; `where` is the place in the request, where there is one."""

    def __init__(
        self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None, **where: Any
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.where = status, kind, message, where
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """As JSON: {"error": {"kind", "message", and where it is}}."""
        where = {name: value for name, value in self.where.items() if value is not None}
        return answer({"error": {"kind": self.kind, "message": self.message, **where}}, self.status, self.headers)


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content` as JSON; numpy arrays are lists of numbers."""
    # the list of an array that is no whole piece
    body = orjson.dumps(content, np.ndarray.tolist, orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers=dict(headers or {}), media_type="application/json")
