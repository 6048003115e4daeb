"""Which keys an object of a request has to have. In: parsed JSON, an object a row or an object of lists; out: a list of values a column.

An absent key is no null unless the signature says so, and a key that no input has is refused unless the signature ignores it.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from interformer_rec.config.errors import nearest
from interformer_rec.serving.encode.refusal import Refusal, shown
from interformer_rec.serving.signature import Input

LONG = 200  # characters, from which on a key is no misspelt one


class Keys:
    """The inputs of one part of a request. `elsewhere`: keys that belong to another part, and its name."""

    def __init__(
        self, inputs: Iterable[Input], ignores: bool, elsewhere: Mapping[str, str], extra: Iterable[str] = ()
    ) -> None:
        found = {one.name: one for one in inputs}
        self.names = tuple(found)
        self._set, self._extra = frozenset(found), frozenset(extra)
        self._null = frozenset(name for name, one in found.items() if one.absent == "null")
        self._ignores, self._elsewhere = ignores, elsewhere

    def row(self, given: Any, part: str, row: int | None = None) -> dict[str, Any]:
        """An object with every key, and those of `extra` that were given. Raises Refusal."""
        if type(given) is not dict:
            raise Refusal("no object", "Write an object with a key an input", part=part, row=row, value=shown(given))
        if given.keys() == self._set:
            return given
        return self._whole(given, part, row, None)

    def rows(self, given: list[Any], part: str) -> dict[str, list[Any]]:
        """Objects as a list a key. Raises Refusal."""
        if set(map(type, given)) != {dict} or set(map(len, given)) != {len(self.names)}:
            given = [self.row(one, part, row) for row, one in enumerate(given)]
        try:
            return {name: list(map(itemgetter(name), given)) for name in self.names}
        except KeyError:  # as many keys as inputs, and others
            return self.rows([self.row(one, part, row) for row, one in enumerate(given)], part)

    def columns(self, given: dict[str, Any], part: str) -> tuple[dict[str, list[Any]], int]:
        """An object of lists, and how long they are. Raises Refusal unless all are equally long."""
        count: int | None = None
        first = ""
        for name, values in given.items():
            if name not in self._set:
                continue
            if type(values) is not list:
                cure = "Write a list with a value a row, or a list of objects instead of an object of lists"
                raise Refusal("no list", cure, part=part, field=name, value=shown(values))
            if count is None:
                first, count = name, len(values)
            elif len(values) != count:
                what = f"a list of {len(values)} values, where {shown(first)} has {count}"
                raise Refusal(what, "Write one value a row in every list", part=part, field=name)
        count = count or 0
        columns = given if given.keys() == self._set else self._whole(given, part, None, [None] * count)
        return columns, count

    def _whole(self, given: dict[str, Any], part: str, row: int | None, absent: Any) -> dict[str, Any]:
        for name in self.names:
            if name not in given and name not in self._null:
                cure = "Write every input of the model, null where there is no value"
                raise Refusal("a key that is absent", cure, part=part, field=name, row=row)
        for name in given:
            if name in self._set or name in self._extra:
                continue
            if name in self._elsewhere:
                where = self._elsewhere[name]
                raise Refusal(f"a key that belongs to {where}", "Write it there", part=part, field=name, row=row)
            if not self._ignores:
                similar = nearest(name, list(self.names)) if len(name) < LONG else ""
                cure = "Leave it out, or write the name of an input"
                raise Refusal(f"a key that no input has{similar}", cure, part=part, field=name, row=row)
        found = {name: given.get(name, absent) for name in self.names}
        return found | {name: given[name] for name in self._extra if name in given}
