"""Which exchanges a plan may have. In: the sharding section, constraints, what is known of the ids; out: Exchanges, and words on them.

Ids that are sent once cost a sort and save vectors: that is a matter of milliseconds, so the planner decides. Fewer bits change what
is trained, so a planner takes them only where the user allows it: `sharding.communication: auto`, or `communication` in constraints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interformer_rec.config.run import ShardingConfig
from interformer_rec.distributed.lookup.communication import Exchange, Precision
from interformer_rec.errors import InputError

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")  # the most exact first: of equal ones it is taken
SMALLER: Precision = "fp16"
WORTH = 0.01  # of a step that a precision which is not allowed has to save to be named


@dataclass(frozen=True)
class Allowed:
    """Exchanges that a plan may have, the one of a job without a planner first; `why` the others are not looked at."""

    exchanges: tuple[Exchange, ...]
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """An exchange that the plan has not, and the step with it (None: it does not fit); `how` that is known."""

    exchange: Exchange
    how: Literal["planned", "at least", "the same plan"]
    step_ms: float | None


@dataclass(frozen=True)
class Choice:
    """What a plan could have had instead of its exchange, and why some of it was not looked at."""

    tried: tuple[Tried, ...] = ()
    why: tuple[str, ...] = ()

    def reasons(self, chosen: Exchange, step_ms: float) -> list[str]:
        """A sentence on every alternative; `step_ms`: with the exchange that was chosen."""
        return [*self.why, *(text for one in self.tried if (text := _reason(chosen, step_ms, one)))]

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON-able."""
        return [{**vars(one.exchange), "how": one.how, "step_ms": one.step_ms} for one in self.tried]


NO_CHOICE = Choice()


def allowed_exchanges(
    sharding: ShardingConfig,
    ranks: int,
    *,
    deduplicate: bool | None,
    communication: Sequence[Precision],
    histories: bool,
    uncounted: Sequence[str],
) -> Allowed:
    """`deduplicate`, `communication`: of the constraints; `histories`: tables whose ids could be sent once are there, `uncounted` ones
    without counted ids. Raises InputError where constraints and config contradict each other.
    """
    agree("deduplicate", sharding.deduplicate, deduplicate, None if deduplicate is None else (deduplicate,))
    precision = None if sharding.communication == "auto" else sharding.communication
    agree("communication", precision, list(communication), tuple(communication) or None)
    usual, why = Exchange.of(sharding, ranks), []
    if ranks == 1:
        return Allowed((usual,))
    pinned = sharding.deduplicate if deduplicate is None else deduplicate
    once = [usual.deduplicate if pinned is None else pinned]
    if pinned is None and uncounted:
        named = ", ".join(uncounted[:5]) + (", ..." if len(uncounted) > 5 else "")
        why.append(f"sharding.deduplicate stays on: nobody counted the ids of {named}, and repeats are what it saves")
    elif pinned is None and histories:
        once.append(not once[0])
    precisions: Sequence[Precision] = [usual.communication]
    if precision is None and communication:
        precisions = [p for p in PRECISIONS if p in communication]
    elif sharding.communication == "auto":
        precisions = PRECISIONS
    return Allowed(tuple(Exchange(d, p) for p in _different(precisions) for d in once), tuple(why))


def _different(precisions: Sequence[Precision]) -> list[Precision]:
    """One of those that cost the same."""
    sixteen = [p for p in precisions if p != "fp32"][:1]
    return [p for p in precisions if p == "fp32"] + sixteen


def agree(key: str, ours: object, wish: object, allowed: tuple[object, ...] | None) -> None:
    """Raises InputError where the config's value is not among those of the constraints; None: nothing is asked for."""
    if ours is not None and allowed is not None and ours not in allowed:
        raise InputError(
            f"sharding.{key} of the config is {_word(ours)}, but constraints say {key}: {_word(wish)}: take one of the two out"
        )


def _word(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def agreed(sharding: ShardingConfig, planned: Mapping[str, Any], path: str) -> None:
    """`planned`: key of the section -> the plan file's. Raises InputError where the config asks for something else."""
    for key, theirs in planned.items():
        ours = getattr(sharding, key)
        if ours not in (None, "auto", theirs):
            raise InputError(
                f"sharding.{key} is {_word(ours)}, but sharding.plan {path!r} was made for {_word(theirs)}: leave sharding.{key} out to "
                f"take the plan's, or plan again with this config"
            )


def _reason(chosen: Exchange, step_ms: float, tried: Tried) -> str:
    what = _change(chosen, tried.exchange)
    if tried.step_ms is None:
        return f"with {what} no plan fits"
    saves = 1 - tried.step_ms / step_ms
    if tried.how == "the same plan":
        if saves < WORTH:
            return ""
        return (
            f"{what} would save {saves:.0%} of a step ({tried.step_ms:.3g} ms with the same plan), but rounds vectors and "
            f"gradients: allow it with --set sharding.communication=auto"
        )
    bound = "at least " if tried.how == "at least" else ""
    return f"with {what} a step takes {bound}{tried.step_ms:.3g} ms instead of {step_ms:.3g}"


def _change(now: Exchange, other: Exchange) -> str:
    parts = []
    if other.communication != now.communication:
        parts.append(f"{other.communication} exchange")
    if other.deduplicate != now.deduplicate:
        parts.append("distinct ids only" if other.deduplicate else "every id sent")
    return " and ".join(parts)
