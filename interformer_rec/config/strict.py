"""What all config objects share: strict, frozen, bounded. In: a tree of plain values; out: the base class and the kinds of fields.

An integer is an integer (not 1.0, yes or "1"), every float is finite, every number has bounds and every text a length: a field's kind
says so once, here.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LARGEST = 2**31 - 1
NAME_BYTES = 128  # of a run: its folder, and files beside it, are named after it


class Strict(BaseModel):
    """Base of every config object: frozen, unknown keys are errors, no value is taken for one of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        return {key: _tuples(part) for key, part in value.items()} if isinstance(value, dict) else value


def _tuples(value: Any) -> Any:
    """Lists as tuples, all the way down: YAML has lists, a frozen object tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(part) for part in value)
    return {key: _tuples(part) for key, part in value.items()} if isinstance(value, dict) else value


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("the character NUL is in it")
    return text


def _one_component(name: str) -> str:
    """A run's folder is named after it (training.out), so its name stays inside the folder it is given."""
    wrong = None
    if "/" in name or "\\" in name:
        wrong = "without / and \\"
    elif name != name.strip() or not name.isprintable():
        wrong = "of printable characters, without spaces at its ends"
    elif name.startswith((".", "-")):
        wrong = "that does not begin with . or -"
    elif len(name.encode()) > NAME_BYTES:
        wrong = f"of at most {NAME_BYTES} bytes"
    if wrong:
        raise ValueError(f"a run's folder is named after it: choose a name {wrong}")
    return name


Count = Annotated[int, Field(ge=1, le=LARGEST)]  # of rows, steps, events: at least one
CountOrNone = Annotated[int, Field(ge=0, le=LARGEST)]  # none is possible
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels, floats, units side by side
Depth = Annotated[int, Field(ge=1, le=1_000)]  # layers, heads
Widths = Annotated[tuple[Width, ...], Field(max_length=100)]  # of the hidden layers of an MLP
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
# of a feature, column, table
Name = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_without_nul)]
RunName = Annotated[str, Field(min_length=1), AfterValidator(_one_component)]
Location = Annotated[str, Field(min_length=1, max_length=16_384), AfterValidator(_without_nul)]  # a path or URI
