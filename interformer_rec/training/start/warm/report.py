"""What a warm start kept, started and dropped. In: the matches; out: one table of text, the same as JSON, or an error that names what
has another shape."""

from dataclasses import dataclass
from typing import Any

from interformer_rec.errors import InputError
from interformer_rec.training.start.warm.match import TableMatch, WeightMatch

SHOWN = 8  # names of an error
HEADS = ("table", "rows kept", "new", "dropped"), ("dense weights", "kept", "new", "dropped")
Counts = tuple[int, int, int]  # kept, new, dropped


@dataclass(frozen=True)
class Report:
    """Of one warm start; `states`: the optimizer state beside the tables' rows is kept too."""

    source: str
    step: int
    tables: list[TableMatch]
    weights: list[WeightMatch]
    states: bool
    notes: list[str]

    def require(self, partial: bool) -> None:
        """Raises InputError that names tables and weights of another shape, unless they may start fresh."""
        wrong = [f"{name}: {reason}" for name, reason in self.fresh().items()]
        if wrong and not partial:
            more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise InputError(
                f"--from {self.source}: {'; '.join(wrong[:SHOWN])}{more}. Restore what was changed in the config, or let these start "
                "fresh with --from-partial"
            )

    def fresh(self) -> dict[str, str]:
        """What is in both models and cannot be kept, and why."""
        found = {f"table {match.name!r}": match.reason for match in self.tables}
        found |= {f"weight {match.name}": match.reason for match in self.weights}
        return {name: reason for name, reason in found.items() if reason}

    def rows(self) -> dict[str, Counts]:
        """Of each table the rows."""
        return {match.name: (match.kept, match.new, match.dropped) for match in self.tables}

    def dense(self) -> dict[str, Counts]:
        """Of each part of the model the numbers in its weights."""
        found: dict[str, Counts] = {}
        for match in self.weights:
            name = ".".join(match.name.split(".")[: 2 if match.name.startswith("layers.") else 1])
            kept, new, dropped = found.get(name, (0, 0, 0))
            found[name] = (kept + match.kept, new + match.new, dropped + match.dropped)
        return found

    def text(self) -> str:
        """The table, and what is to know of it."""
        lines: list[tuple[str, ...]] = []
        for head, counted in zip(HEADS, (self.rows(), self.dense()), strict=True):
            lines.append(head)
            lines += [(name, *(f"{count:,}" for count in counts)) for name, counts in counted.items()]
        first, *others = (max(len(line[column]) for line in lines) for column in range(4))
        table = [
            "  ".join(
                ["", line[0].ljust(first), *(text.rjust(width) for text, width in zip(line[1:], others, strict=True))]
            )
            for line in lines
        ]
        ends = [*self.notes, *(f"{name} starts fresh: {reason}" for name, reason in self.fresh().items())]
        if not self.states:
            ends.append("optimizer.embedding.kind differs: the state beside the tables' rows starts fresh")
        return "\n".join([f"weights from {self.source}, step {self.step}", *table, *ends])

    def to_dict(self) -> dict[str, Any]:
        """For warm_start.json."""
        names = ("kept", "new", "dropped")
        return {
            "from": self.source,
            "step": self.step,
            "tables": {name: dict(zip(names, counts, strict=True)) for name, counts in self.rows().items()},
            "dense": {name: dict(zip(names, counts, strict=True)) for name, counts in self.dense().items()},
            "fresh": self.fresh(),
            "optimizer_state": self.states,
            "notes": self.notes,
        }
