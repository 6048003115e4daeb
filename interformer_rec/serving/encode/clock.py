"""Dates and times as text. In: ISO 8601, as JSON has to write them; out: the integers that training makes of dates and timestamps."""

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

from interformer_rec.serving.encode.refusal import Wrong

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(
    rf"{_DATE.pattern}[T ]([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}})(?:\.([0-9]{{1,9}}))?(?:(Z)|([+-])([0-9]{{2}}):([0-9]{{2}}))?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_DAY = date(1970, 1, 1).toordinal()
CURE_DATE = 'Write a date as text, "2024-01-31"'


def days(value: Any) -> int:
    """Of a date since 1970-01-01. Raises Wrong."""
    found = _DATE.fullmatch(value) if type(value) is str else None
    if found is None:
        raise Wrong("no date", CURE_DATE, value)
    try:
        return date(*map(int, found.groups())).toordinal() - _FIRST_DAY
    except ValueError as error:
        raise Wrong(f"no date ({error})", CURE_DATE, value) from None


def nanoseconds(value: Any, zoned: bool) -> int:
    """Of a time since 1970-01-01 UTC; without a zone it is counted as if it were UTC, as in files. Raises Wrong."""
    example = "2024-01-31T23:59:59.125Z" if zoned else "2024-01-31T23:59:59.125"
    cure = f'Write a time as text, "{example}"' + (", or with +01:00 for Z" if zoned else ", without a zone")
    found = _TIME.fullmatch(value) if type(value) is str else None
    if found is None:
        raise Wrong("no time", cure, value)
    *parts, fraction, utc, sign, hours, minutes = found.groups()
    if (utc or sign) and not zoned:
        raise Wrong("a time with a zone, where the training files have none", cure, value)
    if not (utc or sign) and zoned:
        raise Wrong("a time without a zone, where the training files have one", cure, value)
    try:
        moment = datetime(*map(int, parts), tzinfo=timezone.utc)  # type: ignore[misc, arg-type]
        if sign:
            if int(minutes) > 59:
                raise ValueError("minutes of a zone must be in 0..59")
            moment -= timedelta(hours=int(sign + hours), minutes=int(sign + minutes))
    except (ValueError, OverflowError) as error:
        raise Wrong(f"no time ({error})", cure, value) from None
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0"))
