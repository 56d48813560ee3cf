"""Dates and times of day in words, against a clock that is passed in: local time, and the future where both are meant.

The day is read by dateparser, which knows "friday", "may 3rd" and "in two weeks" and no more of the clock than "9:30" and
"5pm"; the time of day is read here ("half past nine", "quarter to ten"), and cut out before the rest is handed over. Nothing is
made up: "tomorrow" names no time and is no date-time.
"""

from __future__ import annotations

import re
from calendar import month_name
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

from edged.workers.durations import durations
from edged.workers.numerals import with_digits

__all__ = ["clock_time", "day", "moment", "prepare"]

_HALF_DAY = {"am": 0, "morning": 0, "pm": 12, "afternoon": 12, "evening": 12, "night": 12, "tonight": 12}
_HOUR = r"(?P<hour>\d{1,2})"
_WHEN = r"(?:\s*(?P<half>[ap]\.?\s?m\b\.?|(?:in the |at )?(?:morning|afternoon|evening|night)\b|tonight\b))?"
_AT = r"(?:\b(?:at|by|for|around|about|to)\s+)?"
_CLOCKS = tuple(
    re.compile(_AT + pattern, re.IGNORECASE)
    for pattern in (
        r"\b(?P<name>noon|midday|midnight)\b",
        rf"\b(?P<part>half|quarter|a quarter|\d{{1,2}})(?:\s+minutes?)?\s+(?P<way>past|after|to|before|till)\s+{_HOUR}\b{_WHEN}",
        rf"\b{_HOUR}(?:[:.]|\s?h\s?)(?P<minute>\d{{2}})(?::\d{{2}})?\b(?!\.\d){_WHEN}",
        rf"\b{_HOUR}\s+(?P<minute>[0-5]\d|0\s\d)\b(?!\s*[a-z]*day){_WHEN}",
        rf"\b{_HOUR}\s*o['’]?\s?clock\b{_WHEN}",
        rf"\b{_HOUR}\s*(?P<half>[ap]\.?\s?m\b\.?|(?:in the|at) (?:morning|afternoon|evening|night)\b|tonight\b)",
        rf"\bat\s+{_HOUR}\b{_WHEN}",
    )
)
_ALONE = re.compile(rf"\s*{_HOUR}\s*")
_AFTER = re.compile(r"^\s*(?:in|after|within)\s+|\s+(?:from now|from today|later|hence)\s*$", re.IGNORECASE)
_HALVES = re.compile(r"\b(?:in the |this |at )?(?P<half>morning|afternoon|evening|night)\b|\btonight\b", re.IGNORECASE)
_NO_DAY = re.compile(
    rf"(?:{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in month_name[1:])})?\s*(?:\d{{4}})?|\d+|noon|\W*",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^(?:(?:on|for|by|at|this|coming|the coming|until|till|from|,)\s+)+", re.IGNORECASE)


def prepare() -> None:
    """Loads the library, some 20 MB: for tools that have such a parameter."""
    _days()("tomorrow", datetime.now())  # it puts its tables off until the first word


def day(words: str, now: datetime) -> str | None:
    """ISO date."""
    found = _day(_shorn(with_digits(words)), now)
    return found.isoformat() if found else None


def clock_time(words: str, now: datetime) -> str | None:
    """HH:MM. An hour that the words leave open, "at nine", is the next of the two."""
    later = _later(words, now)
    if later is not None:
        return f"{later:%H:%M}"
    text = with_digits(words)
    read = _clock(text) or _alone(text)
    if read is None:
        return None
    at, open_, _ = read
    return f"{_next(at, now) if open_ else at:%H:%M}"


def moment(words: str, now: datetime) -> str | None:
    """ISO date and time, local. A time without a day is the next such time."""
    later = _later(words, now)
    if later is not None:
        return later.replace(microsecond=0).isoformat()
    text = with_digits(words)
    if text.strip().lower() in ("now", "right now", "immediately"):
        return now.replace(microsecond=0).isoformat()
    read = _clock(text)
    if read is None:
        return None
    at, open_, rest = read
    if not rest or rest.lower() == "today":
        at = _next(at, now) if open_ else at
        found = datetime.combine(now.date(), at)
        return (found if found > now or rest else found + timedelta(days=1)).isoformat()
    on = _day(rest, now)
    return datetime.combine(on, at).isoformat() if on else None


def _later(words: str, now: datetime) -> datetime | None:
    """ "in two hours": real hours, also where the clocks change that night."""
    said = durations(words)
    rest = _AFTER.sub("", words)
    if (
        len(said) != 1
        or said[0].months
        or rest == words
        or _AFTER.sub("", rest).strip() != words[said[0].begin : said[0].end]
    ):
        return None
    if set(said[0].units) & {"day", "week"}:
        return now + timedelta(seconds=said[0].seconds)
    return datetime.fromtimestamp(now.timestamp() + said[0].seconds)


def _clock(text: str) -> tuple[time, bool, str] | None:
    """The time of day, whether it may as well be twelve hours later, and the words around it."""
    for pattern in _CLOCKS:
        found = pattern.search(text)
        if found is not None:
            rest = text[: found.start()] + " " + text[found.end() :]
            elsewhere = _HALVES.search(rest)
            return _time(found.groupdict(), elsewhere.group() if elsewhere else "", _shorn(rest))
    return None


def _alone(text: str) -> tuple[time, bool, str] | None:
    hour = _ALONE.fullmatch(text)
    return _time({"hour": hour["hour"]}, "", "") if hour else None


def _time(said: dict[str, Any], elsewhere: str, rest: str) -> tuple[time, bool, str] | None:
    if name := said.get("name"):
        return time(0 if name.lower() == "midnight" else 12), False, rest
    hour, minute = int(said["hour"]), int(str(said.get("minute") or 0).replace(" ", ""))
    half = re.sub(r"[.\s]", "", (said.get("half") or elsewhere).lower()).removeprefix("inthe").removeprefix("at")
    half = half.removeprefix("this")
    if part := said.get("part"):
        minute = {"half": 30, "quarter": 15}.get(part.lower().removeprefix("a "), int(part) if part.isdecimal() else 0)
        if said["way"].lower() in ("to", "before", "till"):
            hour, minute = (hour - 1) % 24 or 12, 60 - minute
    if half in _HALF_DAY and hour <= 12:
        hour = hour % 12 + _HALF_DAY[half]
    if hour > 23 or minute > 59:
        return None
    padded = said["hour"].startswith("0")
    return time(hour, minute), half not in _HALF_DAY and 1 <= hour <= 12 and not padded, rest


def _next(at: time, now: datetime) -> time:
    """Of nine in the morning and nine in the evening, what comes first."""
    both = sorted((at.hour % 12, at.hour % 12 + 12))
    return next(
        (at.replace(hour=hour) for hour in both if at.replace(hour=hour) > now.time()), at.replace(hour=both[0])
    )


def _shorn(text: str) -> str:
    """Without the part of the day and without small words at the ends."""
    tonight = "today" if re.search(r"\btonight\b", text, re.IGNORECASE) else ""
    text = " ".join(_HALVES.sub(" ", text).split())
    return _LEADING.sub("", re.sub(r"\s+(?:at|on|in|the|,)$", "", text + " ").strip()) or tonight


def _day(words: str, now: datetime) -> date | None:
    later = _later(words, now)
    if later is not None:
        return later.date()
    if _NO_DAY.fullmatch(words):  # the library would take the day of the month that it is now
        return None
    found = _days()(words, now)
    return found.date() if found else None


@cache
def _days() -> Any:
    from dateparser.date import DateDataParser  # 20 MB

    settings = {
        "PREFER_DATES_FROM": "future",
        "RETURN_AS_TIMEZONE_AWARE": False,
        "PARSERS": ["relative-time", "absolute-time"],
    }

    def read(words: str, now: datetime) -> datetime | None:
        parser = DateDataParser(languages=["en"], settings=settings | {"RELATIVE_BASE": now})
        found: datetime | None = parser.get_date_data(words).date_obj
        return found

    return read
