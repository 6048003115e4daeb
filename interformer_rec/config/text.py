"""A config as text: overrides, shorthands, references to the environment, and the way back. In and out: a tree of plain values.

`${NAME}` and `${NAME:-default}` stand for the environment's value, `$${` for the two characters `${` themselves. The saved config of a run
keeps the references and never their values. For the same reason a credential has to be a reference; one in the config itself is refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from interformer_rec import strict_yaml
from interformer_rec.config.errors import explain, places
from interformer_rec.errors import InputError
from interformer_rec.redaction import STRUCK, credentials, hide, without_credentials

Place = tuple[str | int, ...]  # keys and indices, from the top
LOCATIONS: tuple[Place, ...] = (
    ("data", "train"),
    ("data", "valid"),
    ("data", "test"),
    ("data", "windows", "path"),
    ("training", "out"),
    ("training", "checkpoint", "path"),
    ("sharding", "plan"),
    ("data", "events", "cache"),
)
STORES: Place = ("data", "events", "stores")  # a path or URI a key

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)(?P<closed>\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILLED = "\ue000"  # stands for a value of the environment while credentials are looked for


def is_location(place: Place) -> bool:
    """Whether a path or URI stands at a place of a config."""
    return place in LOCATIONS or place[:3] == STORES


class Reference(NamedTuple):
    """A value with ${...} in it."""

    written: str  # in the config
    value: Any  # what it became; the text itself where nothing was filled in


Config = TypeVar("Config", bound=BaseModel)


def resolve(
    tree: Any,
    source: str,
    overrides: Iterable[str],
    environment: Mapping[str, str] | None,
    known: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[str, Any], dict[Place, Reference]]:
    """The tree of a config file with overrides, names written out and references filled in, as `fill` does. Raises InputError.

    Without an environment the references of paths stay, and those of other values are taken from `known`, the tree of another config.
    """
    if not isinstance(tree, dict):
        what = "empty" if tree is None else f"a {type(tree).__name__}"
        raise InputError(f"config {source!r} must be a mapping of keys (name, data, features, ...); it is {what}")
    for text in overrides:
        override(tree, text)
    if "features" in tree:
        tree["features"] = with_names(tree["features"])
    filled, references = fill(tree, source, environment)
    if environment is None:
        _take_known(filled, references, known, source)
    return filled, references


def validate(
    model: type[Config], tree: Any, references: Mapping[Place, Reference], source: str
) -> tuple[Config, dict[Place, Reference]]:
    """The config of a tree, and its references with the values that they got. Raises InputError.

    What came from the environment is text; where that does not fit it is read as YAML: a number, true, null.
    """
    shown = {tuple(map(str, place)): found.written for place, found in references.items()}
    try:
        config = model.model_validate(tree)
    except ValidationError as error:
        wrong = places(error, model)
        read = [place for place in references if tuple(map(str, place)) in wrong]
        for place in read:
            _get(tree, place[:-1])[place[-1]] = strict_yaml.scalar(references[place].value)
        try:
            if not read:
                raise
            config = model.model_validate(tree)
        except ValidationError as again:
            raise InputError(f"config {source!r} is not valid:\n{explain(again, model, shown)}") from None
    return config, {place: found._replace(value=_get(tree, place)) for place, found in references.items()}


def _get(tree: Any, place: Place) -> Any:
    for part in place:
        tree = tree[part]
    return tree


def _take_known(
    tree: dict[str, Any], references: Mapping[Place, Reference], known: Mapping[str, Any], source: str
) -> None:
    """A number or a column's name that only the environment has cannot be guessed."""
    for place, found in references.items():
        if is_location(place) or place == ("name",):
            continue
        try:
            _get(tree, place[:-1])[place[-1]] = _get(known, place)
        except (KeyError, IndexError, TypeError):
            names = " and ".join(variables(found.written))
            raise InputError(
                f"config {source!r}: {'.'.join(map(str, place))} is {found.written!r}, but a config found in a run or a checkpoint is not "
                f"filled in from the environment. If the run is yours, set {names} as it was in training and add --trust-run"
            ) from None


def override(tree: dict[str, Any], text: str) -> None:
    """Set one value, `a.b=c`, c being YAML. Raises InputError."""
    key, equals, given = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text!r}: write it as key.subkey=value")
    value = strict_yaml.parse(given, f"--set {key.strip()}: the value")
    node: Any = tree
    parts = key.strip().split(".")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        place: Any = part
        if isinstance(node, list):
            if not (part.isascii() and part.isdigit()) or int(part) >= len(node):
                raise InputError(f"--set {text!r}: {part!r} is not an index of a list of {len(node)}")
            place = int(part)
        elif not isinstance(node, dict):
            raise InputError(f"--set {text!r}: {part!r} is below a value that is not a mapping")
        if following is None:
            node[place] = value
        elif isinstance(node, list):
            node = node[place]
        else:
            if node.get(place) is None:
                node[place] = {}
            node = node[place]


def fill(tree: Any, source: str, environment: Mapping[str, str] | None) -> tuple[Any, dict[Place, Reference]]:
    """The tree with its references filled in, and where they were. `environment` None leaves them as they are.

    What is filled into a path or URI is hidden from then on: messages and files show the reference. Raises InputError for a variable that
    is not set, and for a credential that is no reference.
    """
    references: dict[Place, Reference] = {}

    def filled(node: Any, place: Place) -> Any:
        if isinstance(node, dict):
            keys = {key: _plain(key, f"config {source!r}: key {key!r}") for key in node}
            return {keys[key]: filled(value, (*place, keys[key])) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return [filled(value, (*place, index)) for index, value in enumerate(node)]
        if not isinstance(node, str):
            return node
        where = f"config {source!r}: {'.'.join(map(str, place))}"
        parts = list(_parts(node, where))
        _refuse_credentials(parts, where)
        if all(isinstance(part, str) for part in parts):
            return "".join(map(str, parts))
        value = node if environment is None else "".join(_value(part, where, environment) for part in parts)
        references[place] = Reference(node, value)
        if environment is not None and is_location(place):
            hide(value, node)
            for name in {part.name for part in parts if isinstance(part, _Variable) and part.name in environment}:
                hide(environment[name], f"${{{name}}}")
        return value

    return filled(tree, ()), references


def written(tree: Any, references: Mapping[Place, Reference], place: Place = ()) -> Any:
    """The inverse of `fill`: references where they were, unless the value has changed since, and no credentials."""
    if isinstance(tree, dict):
        return {escape(key): written(value, references, (*place, key)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [written(value, references, (*place, index)) for index, value in enumerate(tree)]
    reference = references.get(place)
    if reference is not None and reference.value == tree:
        return reference.written
    return escape(without_credentials(tree)) if isinstance(tree, str) else tree


def escape(text: str) -> str:
    """Text as a config has to write it, so that ${ in it is no reference."""
    return text.replace("${", "$${")


def variables(text: str) -> list[str]:
    """Names of the environment variables that a text refers to, in order."""
    return list(dict.fromkeys(part.name for part in _parts(text, "") if isinstance(part, _Variable)))


class _Variable(NamedTuple):
    name: str
    default: str | None


def _parts(text: str, where: str) -> Iterator[str | _Variable]:
    """Plain text and variables, in order."""
    at = 0
    for found in _REFERENCE.finditer(text):
        yield text[at : found.start()]
        at = found.end()
        if found["inside"] is None:
            yield "${"
            continue
        name, has_default, default = found["inside"].partition(":-")
        if not found["closed"] or not _NAME.fullmatch(name) or "${" in default:
            raise InputError(
                f"{where}: {without_credentials(text)!r} has a reference that cannot be read. Write ${{NAME}} or ${{NAME:-default}} with "
                "an environment variable's name (not one inside the other), and $${ for the characters ${ themselves"
            )
        yield _Variable(name, default if has_default else None)
    yield text[at:]


def _plain(key: str, where: str) -> str:
    parts = list(_parts(key, where))
    if any(isinstance(part, _Variable) for part in parts):
        raise InputError(f"{where}: keys are not filled in from the environment; for a key with ${{ in it write $${{")
    return "".join(map(str, parts))


def _value(part: str | _Variable, where: str, environment: Mapping[str, str]) -> str:
    if isinstance(part, str):
        return part
    value = environment.get(part.name, part.default)
    if value is None:
        raise InputError(f"{where} needs the environment variable {part.name!r}, which is not set")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where} needs the environment variable {part.name!r}, whose value is not UTF-8") from None
    return value


def _refuse_credentials(parts: list[str | _Variable], where: str) -> None:
    text = "".join(part if isinstance(part, str) else part.default or _FILLED for part in parts)
    for found in credentials(text):
        literal = found.replace(_FILLED, "")
        if STRUCK in literal:
            raise InputError(
                f"{where} is {without_credentials(text)!r}: *** stands where a credential was left out. Put it into an environment "
                "variable and write ${NAME} in its place"
            )
        if literal:
            raise InputError(
                f"{where} has a credential in it: {without_credentials(text).replace(_FILLED, '${...}')!r}. A run saves its config, so put "
                "the credential into an environment variable and write ${NAME} in its place (without a default); or leave it to the "
                "store's own settings, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )


def with_names(features: object) -> object:
    """The `features:` part written out: `column` and `table` default to the feature's name, and a name alone is a feature."""
    if not isinstance(features, dict):
        return features
    value = dict(features)
    for kind in ("dense", "ids", "bags", "labels"):
        if isinstance(value.get(kind), (list, tuple)):
            value[kind] = tuple(_named(item, kind not in ("dense", "labels")) for item in value[kind])
    if isinstance(value.get("sequences"), (list, tuple)):
        value["sequences"] = tuple(
            {**group, "columns": tuple(_named(item, True) for item in group["columns"])}
            if isinstance(group, dict) and isinstance(group.get("columns"), (list, tuple))
            else group
            for group in value["sequences"]
        )
    return value


def _named(item: object, has_table: bool) -> object:
    """`user_id` -> {name: user_id, column: user_id, table: user_id}; given keys stay."""
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, dict) or "name" not in item:
        return item
    # YAML reads a bare `null:` key as None
    item = {"null" if key is None else key: value for key, value in item.items()}
    item = {"column": item["name"], **item}
    return {"table": item["name"], **item} if has_table else item
