"""How a server is run. In: the command's options; out: one value that every worker gets, as JSON where it is a process of its own."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from interformer_rec.config.strict import Strict
from interformer_rec.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(Strict):
    """The options of `interformer serve`."""

    path: str = Field(description="folder or URI of the exported model: the one that holds current.json")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="0: a free one")
    workers: int = Field(1, ge=1, le=256, description="processes; tables are shared between them")
    max_candidates: int = Field(1_000, ge=1, description="candidates, or rows, of one request")
    max_body_mb: float = Field(8.0, gt=0, description="MiB of a request's body")
    queue: int = Field(
        256, ge=1, description="requests of a worker that are accepted and not answered; more are refused with 429"
    )
    connections: int = Field(1_000, ge=1, description="open connections of a worker; more are refused with 429")
    batch: int = Field(500, ge=1, description="candidates of a batch across requests, at most")
    deadline_ms: float = Field(
        1_000.0, gt=0, description="time a request may take, its wait included; a request may ask for less"
    )
    cache_mb: float = Field(64.0, ge=0, description="MiB of users' states a worker keeps (split models); 0: none")
    cache_half: bool = Field(False, description="keep users' states in 16 bits")
    watch: float = Field(
        0.0, ge=0, description="seconds between looks at current.json; 0: serve the version found at the start"
    )
    drain_seconds: float = Field(
        2.0, ge=0, description="seconds between `not ready` and the end of listening, after SIGTERM"
    )
    token_file: str | None = Field(None, description="file whose first line is the token that requests must bring")
    tls_cert: str | None = Field(None, description="PEM file of the certificate chain")
    tls_key: str | None = Field(None, description="PEM file of the certificate's key")
    log_requests: bool = Field(False, description="a line a request, not for errors alone")

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together: give both or none")
        return self

    @property
    def open_to_others(self) -> bool:
        """Whether another machine can reach the server and needs no token."""
        return self.host not in LOOPBACK and self.token_file is None

    def token(self) -> bytes | None:
        """Of the token file. Raises InputError where there is no token in it."""
        if self.token_file is None:
            return None
        try:
            token = Path(self.token_file).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--token-file {self.token_file} cannot be read: {error}") from None
        if len(token) < 16 or not token.isascii() or not token.isprintable():
            raise InputError(
                f"--token-file {self.token_file}: the first line must be a token of at least 16 printable ASCII characters"
            )
        return token.encode()
