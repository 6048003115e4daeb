"""Whether settings can be searched here. In: the installed packages; out: nothing, or an InputError that says how to install them."""

from importlib.util import find_spec

from interformer_rec.errors import InputError


def require() -> None:
    """Raises InputError without Optuna: an installation that only trains does not need it."""
    if find_spec("optuna") is None:
        raise InputError("tune needs the package optuna, which is not installed: pip install 'interformer-rec[tune]'")
