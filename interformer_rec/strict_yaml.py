"""The one reader of YAML: bounded, and strict where YAML guesses. In: a file or text; out: plain values, or an InputError with the line.

Beyond YAML's own rules: a key given twice is an error; keys are text as written (`on:` is "on"); tags such as !!python/object are errors;
010 and 12:30 are text, not numbers in base 8 and 60; 1e-3 is a number. An alias is a copy of what it names. Bounds: bytes, depth, and
values counted with every alias written out, so a small file cannot become a large tree.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from interformer_rec.errors import InputError

MAX_BYTES = 8 << 20
MAX_DEPTH = 50
MAX_VALUES = "INTERFORMER_YAML_VALUES"  # environment variable, for who needs more
DEFAULT_VALUES = 500_000

_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"  # instead of the tag that PyYAML guesses for text without quotes
_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE, _FALSE = re.compile(r"(?i:true|yes|on)"), re.compile(r"(?i:false|no|off)")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*|0x[0-9a-fA-F]+|0b[01]+|0o[0-7]+)")
_FLOAT = re.compile(r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9]+([eE][-+]?[0-9]+)?)")
_INFINITY, _NAN = re.compile(r"[-+]?\.(?i:inf)"), re.compile(r"\.(?i:nan)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAKS = re.compile("[\x85\u2028\u2029]")  # line breaks for YAML; only double quotes can escape them
_DIGITS = 300  # of an integer: beyond, no number of a config makes sense, and Python refuses some


def read(path: str | os.PathLike[str], what: str) -> Any:
    """The content of a YAML file; `what` it is ("config", "cluster file") begins the messages. Raises InputError."""
    source = f"{what} {str(path)!r}"
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from None
    return parse(content, source)


def parse(content: str | bytes, source: str) -> Any:
    """The content of a YAML document; None if it is empty. Raises InputError that names `source` and the line."""
    text = _decoded(content, source)
    try:
        node = _node(text, source)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not valid YAML: {_problem(error, text)}") from None
    return None if node is None else _Tree(source).value(node, 1)


def _node(text: str, source: str) -> yaml.Node | None:
    """Read by libyaml, several times as fast as PyYAML's own parser, whose messages say more: it has the last word on errors.

    libyaml takes a tab for a space in places, and drops a byte order mark inside a text: those are left to PyYAML's parser too.
    """
    if _Compiled is not None and "\t" not in text and "\ufeff" not in text:
        try:
            return _Compiled(text, source).get_single_node()
        except yaml.YAMLError:
            pass
    return _Loader(text, source).get_single_node()


def scalar(text: str) -> Any:
    """Text as YAML reads a plain scalar: a number, true or false, null, or the text itself."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INTEGER.fullmatch(text) and len(text) <= _DIGITS:
        return int(text.replace("_", ""), 0)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if _INFINITY.fullmatch(text) or _NAN.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def dump(tree: Any) -> str:
    """A tree as YAML that `parse` reads as the same tree."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _decoded(content: str | bytes, source: str) -> str:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > MAX_BYTES:
        raise InputError(f"{source} is larger than {MAX_BYTES >> 20} MiB, the most that is read: is it the right file?")
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{source}, line {line}: byte {raw[error.start]:#04x} is not UTF-8. Save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 "
            "changes one in Latin-1)"
        ) from None


def _problem(error: yaml.YAMLError, text: str) -> str:
    """Line and problem, without the excerpt that PyYAML adds: it may hold a credential."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        return f"line {line}: the character {character:#06x} is not allowed in YAML; is it a text file?"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "context", None) or type(error).__name__
    tab = ". Indent with spaces, not with tabs" if "\\t" in problem else ""
    return f"{where}{problem}{tab}"


class _Composer(Composer):
    """PyYAML's, with a bound on the depth, which its recursion needs. In: a parser's events."""

    peek_event: Callable[[], Any]  # the parser's

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source, self._depth = source, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            line = self.peek_event().start_mark.line + 1
            raise InputError(f"{self._source}, line {line}: more than {MAX_DEPTH} levels, one inside the other")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        event = self.peek_event()
        node = super().compose_scalar_node(anchor)
        if event.tag is None and not event.style:
            node.tag = _PLAIN
        return node


class _Loader(_Composer, Reader, Scanner, Parser, Resolver):
    """All of it in Python."""

    def __init__(self, text: str, source: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        _Composer.__init__(self, source)
        Resolver.__init__(self)


def _compiled() -> Callable[[str, str], Composer] | None:
    """A loader whose events come from libyaml, which the wheels of PyYAML have with them; None where it is not there."""
    try:
        from yaml._yaml import CParser
    except ImportError:
        return None

    class Compiled(_Composer, CParser, Resolver):
        def __init__(self, text: str, source: str) -> None:
            CParser.__init__(self, text)
            _Composer.__init__(self, source)
            Resolver.__init__(self)

    return Compiled


_Compiled = _compiled()


class _Dumper(yaml.SafeDumper):
    """Text that would be read as a number, true, false or null gets quotes, by the rules of `scalar`."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if _BREAKS.search(text) else None if isinstance(scalar(text), str) else "'"
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _represent_text)


class _Tree:
    """Nodes become dicts, lists and scalars."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._values, self._most = 0, _most_values()
        self._open: set[int] = set()  # nodes whose inside is being read: one that comes again contains itself

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._values += 1
        if self._values > self._most:
            self._fail(
                node,
                f"more than {self._most:,} values, counted with every alias (*name) written out. If the file is right, allow more with "
                f"the environment variable {MAX_VALUES}",
            )
        if depth > MAX_DEPTH:
            self._fail(node, f"more than {MAX_DEPTH} levels, one inside the other")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            self._fail(node, "a value that contains itself: an alias (*name) inside of what it names")
        self._open.add(id(node))
        try:
            return self._mapping(node, depth) if isinstance(node, yaml.MappingNode) else self._sequence(node, depth)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if _SURROGATE.search(node.value):
            self._fail(node, "half of a surrogate pair (\\ud800 to \\udfff) is no character")
        if node.tag == _PLAIN:
            return scalar(node.value)
        explicit: dict[str, Callable[[str], Any]] = {
            "str": str,
            "int": scalar,
            "float": scalar,
            "bool": scalar,
            "null": scalar,
        }
        return self._known(node, explicit)(node.value)

    def _sequence(self, node: yaml.Node, depth: int) -> list[Any]:
        self._known(node, {"seq": list})
        return [self.value(child, depth + 1) for child in node.value]

    def _mapping(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        self._known(node, {"map": dict})
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                merged = {**self._merged(value_node, depth), **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._fail(key_node, "a key is a list or a mapping; keys are plain text")
            key = key_node.value
            if _SURROGATE.search(key):
                self._fail(key_node, "half of a surrogate pair (\\ud800 to \\udfff) is no character")
            if key in lines:
                self._fail(key_node, f"key {key!r} is given twice, first in line {lines[key]}: remove one")
            lines[key] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """What `<<: *name` or `<<: [*a, *b]` brings; of several the first counts."""
        found = self.value(node, depth + 1)
        parts = found if isinstance(found, list) else [found]
        if not all(isinstance(part, dict) for part in parts):
            self._fail(node, "<< merges mappings: write <<: *name or <<: [*first, *second]")
        return {key: value for part in reversed(parts) for key, value in part.items()}

    def _known(self, node: yaml.Node, known: dict[str, Any]) -> Any:
        tag = node.tag.removeprefix(_TAG)
        if tag not in known:
            self._fail(node, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed: write plain values")
        return known[tag]

    def _fail(self, node: yaml.Node, problem: str) -> NoReturn:
        raise InputError(f"{self._source}, line {node.start_mark.line + 1}: {problem}")


def _most_values() -> int:
    text = os.environ.get(MAX_VALUES, str(DEFAULT_VALUES))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f"environment variable {MAX_VALUES} is {text!r}; it must be a number above 0")
    return int(text)
