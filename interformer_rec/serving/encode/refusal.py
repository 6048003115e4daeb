"""A request that the model cannot read. In: what a reader found; out: an error that says where, what, and what to do."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
SHOWN = 80  # characters of a value in a message
LONGEST_INTEGER = 256  # bits of an integer that is shown


class Refusal(ValueError):
    """A value of a request that cannot be used: the client's to correct.

    `part` is "user", "candidates" or "rows"; `row` counts candidates or rows and `element` the elements of a list, from 0; `field` is the
    key. What does not apply is None. The message holds the value, shortened: it is for the client, not for a log.
    """

    def __init__(
        self,
        what: str,
        cure: str,
        *,
        part: str,
        field: str | None = None,
        row: int | None = None,
        element: int | None = None,
        value: str | None = None,
    ) -> None:
        self.what, self.cure, self.value = what, cure, value
        self.part, self.field, self.row, self.element = part, field, row, element
        said = f"{self.place}: {what}" + ("" if value is None else f"; the value is {value}")
        super().__init__(f"{said}{'' if said.endswith('?') else '.'} {cure}")

    @property
    def place(self) -> str:
        """Where it is, in words."""
        where = self.part if self.row is None else f"{self.part}[{self.row}]"
        where += "" if self.field is None else f", {shown(self.field)}"
        return where if self.element is None else f"{where}, element {self.element}"


class Wrong(Exception):
    """What a reader refuses that does not know whose value it reads; `at`: its place among those that were read."""

    def __init__(self, what: str, cure: str, value: Any, at: int = 0) -> None:
        super().__init__(what)
        self.what, self.cure, self.value, self.at = what, cure, value, at


def one_by_one(read: Callable[[Any], T], values: Sequence[Any]) -> list[T]:
    """What `read` makes of each value. Raises Wrong, whose `at` is the place of the value that is refused."""
    found: list[T] = []
    try:
        for value in values:
            found.append(read(value))
    except Wrong as wrong:
        wrong.at = len(found)
        raise
    return found


def shown(value: Any) -> str:
    """A value as JSON writes it, shortened; whatever a lenient parser made of it, this is plain text."""
    if isinstance(value, str):
        return json.dumps(value[:SHOWN]) + (" ..." if len(value) > SHOWN else "")
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= LONGEST_INTEGER else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        inside = ", ".join(shown(one) if not isinstance(one, (list, dict)) else "..." for one in value[:3])
        return f"[{inside}{', ...' if len(value) > 3 else ''}] ({len(value)} elements)"
    if isinstance(value, dict):
        return f"an object of {len(value)} key{'s' * (len(value) != 1)}"
    return f"a {type(value).__name__}"
