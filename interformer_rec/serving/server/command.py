"""`interformer serve`: an exported model and options come in; requests are answered until a signal; an exit code goes out."""

import os
import ssl
from typing import Any

from pydantic import ValidationError

from interformer_rec.config.errors import explain
from interformer_rec.errors import InputError
from interformer_rec.serving.engine import log
from interformer_rec.serving.engine.opening import opened
from interformer_rec.serving.published import pointer
from interformer_rec.serving.server.settings import Settings
from interformer_rec.serving.server.workers import run


def serve(options: dict[str, Any]) -> int:
    """`options`: fields of Settings. Raises InputError, before anything listens where that is possible."""
    try:
        settings = Settings(**options)
    except ValidationError as error:
        raise InputError(f"the options of serve:\n{explain(error, Settings)}") from None
    settings.token()
    pointer.current(settings.path)
    for path, option in ((settings.tls_cert, "--tls-cert"), (settings.tls_key, "--tls-key")):
        if path is not None and not os.access(path, os.R_OK):
            raise InputError(f"{option} {path}: there is no such file, or it cannot be read")
    if settings.tls_cert is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
        except ssl.SSLError as error:
            raise InputError(
                f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} are no certificate in PEM and its key: "
                f"{error.reason or error}"
            ) from None
    if settings.open_to_others:
        message = f"anybody who reaches {settings.host} can ask this model: give --token-file, or listen on 127.0.0.1"
        log.line("warning", message=message)
    return run(settings, opened)
