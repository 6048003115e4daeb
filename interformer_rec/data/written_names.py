"""Names of columns in a YAML text that `inspect` writes. In: any string a Parquet file may hold; out: text that is read back as it.

Three places: a scalar (`scalar`), a comment (`shown`), and the name of a feature or table (`feature_names`), which must not hold dots, as
those are read as paths, must differ from the others, and becomes part of a file's name.
"""

import hashlib
import json
import re
from collections.abc import Iterable

from interformer_rec.config.text import escape

PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.\-]*")
WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}
# What torch's modules have as attributes: a table of such a name cannot be a part of one.
_ATTRIBUTES = """
    T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys load_state_dict modules
    mtia named_buffers named_children named_modules named_parameters parameters pop register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory
    state_dict to to_empty train training type update values xpu zero_grad
"""
TAKEN_BY_TORCH = frozenset(_ATTRIBUTES.split())
MOST_BYTES = 80  # of a feature's name


def scalar(value: str) -> str:
    """A YAML scalar that is read back as this string, whatever it looks like; ${ is written as $${."""
    if PLAIN.fullmatch(value) and value.lower() not in WORDS_OF_YAML:
        return value
    inside = json.dumps(escape(value), ensure_ascii=False)
    return "".join(one if one.isprintable() else _escaped(one) for one in inside)


def shown(value: str) -> str:
    """For a comment: on one line, quoted where it would not be seen or would end the line."""
    return value if value.isprintable() and value.strip() == value != "" else scalar(value)


def feature_names(columns: Iterable[str]) -> dict[str, str]:
    """Column -> name of its feature (and of the table that it owns), all different."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for column in columns:
        name = column.replace(".", "_")
        if len(name.encode()) > MOST_BYTES:
            digest = hashlib.sha256(column.encode()).hexdigest()[:8]
            name = f"{name.encode()[:MOST_BYTES].decode(errors='ignore')}_{digest}"
        names[column] = free(f"{name}_" if name in TAKEN_BY_TORCH or name.startswith("_") else name, taken)
        taken.add(names[column])
    return names


def free(name: str, taken: Iterable[str]) -> str:
    """The name, or with the first number behind it that is not taken."""
    known, number, found = set(taken), 2, name
    while found in known:
        found, number = f"{name}_{number}", number + 1
    return found


def _escaped(one: str) -> str:
    code = ord(one)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
