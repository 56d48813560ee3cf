"""Lengths of time in words: "an hour and a half", "1h 30m", "two days". No library read more than 19 of the 25 of our table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from edged.workers.numerals import Number, numbers

__all__ = ["TIME_UNITS", "Duration", "durations", "iso"]

_NAMES = {
    "second": ("s", "sec", "secs", "second", "seconds"),
    "minute": ("m", "min", "mins", "minute", "minutes"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "day": ("d", "day", "days"),
    "week": ("w", "week", "weeks"),
    "month": ("month", "months"),
    "year": ("year", "years"),
}
_UNIT = {word: unit for unit, words in _NAMES.items() for word in words}
TIME_UNITS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
}  # seconds; months have no fixed length
_BEHIND = re.compile(r"[\s-]*(?:of\s+)?(?:an?\s+)?([a-z]+)\b", re.IGNORECASE)
_BARE = re.compile(r"\b(?:a|an|one)\s+(half\s+|quarter\s+(?:of\s+an?\s+)?)?([a-z]+)\b", re.IGNORECASE)
_MORE = re.compile(r"\s+and\s+(?:a\s+)?(half|quarter)\b", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*(?:,|and|&)?\s*", re.IGNORECASE)
_PARTS = {"half": 0.5, "quarter": 0.25}


@dataclass(frozen=True, slots=True)
class Duration:
    """So many `seconds` and `months`, said from `begin` to `end` in these `units`. `number`: as said, where it is one alone."""

    seconds: float
    months: float
    begin: int
    end: int
    units: tuple[str, ...]

    def count(self, unit: str) -> int | float | None:
        """In `unit`, a key of TIME_UNITS; None for what has months in it."""
        if self.months:
            return None
        value = self.seconds / TIME_UNITS[unit]
        return int(value) if value == int(value) else value


@lru_cache(maxsize=4)
def durations(text: str) -> tuple[Duration, ...]:
    """In order of appearance; neighbours are one ("two hours and ten minutes"). Ends of ranges are left out."""
    parts = [part for number in numbers(text) if (part := _counted(text, number)) is not None]
    parts += [part for part in map(_single, _BARE.finditer(text)) if part is not None]
    joined: list[Duration] = []
    for part in sorted((_with_more(text, part) for part in parts), key=lambda p: (p.begin, -p.end)):
        if joined and part.begin < joined[-1].end:
            continue
        before = joined[-1] if joined else None
        if before and _BETWEEN.fullmatch(text[before.end : part.begin]) and part.units[0] not in before.units:
            joined[-1] = _sum(before, part)
        else:
            joined.append(part)
    return tuple(joined)


def iso(duration: Duration) -> str:
    """ISO 8601: PT1H30M, P2D, P1M."""
    years, months = divmod(duration.months, 12)
    days, rest = divmod(duration.seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    date = "".join(f"{value:g}{letter}" for value, letter in ((years, "Y"), (months, "M"), (days, "D")) if value)
    time = "".join(f"{value:g}{letter}" for value, letter in ((hours, "H"), (minutes, "M"), (seconds, "S")) if value)
    return f"P{date}{'T' if time else ''}{time}" if date or time else "PT0S"


def _counted(text: str, number: Number) -> Duration | None:
    behind = _BEHIND.match(text, number.end)
    unit = _UNIT.get(behind[1].lower()) if behind else None
    if behind is None or unit is None or number.ordinal or number.other or number.value < 0:
        return None
    return _of(number.value, unit, number.begin, behind.end())


def _single(match: re.Match[str]) -> Duration | None:
    """ "an hour", "a half hour", "a quarter of an hour" """
    unit = _UNIT.get(match[2].lower()) if len(match[2]) > 1 else None
    if unit is None:
        return None
    part = _PARTS[match[1].split()[0].lower()] if match[1] else 1
    return _of(part, unit, match.start(), match.end())


def _with_more(text: str, part: Duration) -> Duration:
    """ "an hour and a half" """
    more = _MORE.match(text, part.end)
    if more is None or len(part.units) > 1:
        return part
    extra = _of(_PARTS[more[1].lower()], part.units[0], part.begin, more.end())
    return _sum(part, extra)


def _of(count: float, unit: str, begin: int, end: int) -> Duration:
    if unit in TIME_UNITS:
        return Duration(count * TIME_UNITS[unit], 0, begin, end, (unit,))
    return Duration(0, count * (12 if unit == "year" else 1), begin, end, (unit,))


def _sum(one: Duration, other: Duration) -> Duration:
    units = tuple(dict.fromkeys((*one.units, *other.units)))
    return Duration(one.seconds + other.seconds, one.months + other.months, one.begin, other.end, units)
