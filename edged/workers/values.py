"""From the words that the reader points at to a value of the schema: a number, a listed name, a date, a length of time, or plain
words.

What cannot be read is no value: nothing is guessed. Bounds are the tool's own business, it refuses in its own words. Tools say
with each parameter what kind it is (`agent/cards`); here a tool's parameters are prepared once and then held against sentence
after sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from edged.workers import moments
from edged.workers.durations import TIME_UNITS, Duration, durations, iso
from edged.workers.listing import Matched, listing
from edged.workers.numerals import Number, numbers

__all__ = ["Reading", "Wanted", "time_unit", "wanted"]

_MOMENTS: dict[str, Callable[[str, datetime], str | None]] = {
    "date": moments.day,
    "time": moments.clock_time,
    "date-time": moments.moment,
}
_NUMERIC = ("integer", "number")
_MOST_NAMED = 7  # of the values between which a sentence leaves the choice
_ONE = re.compile(r"an?\s+(?!bit|little|lot|few|while|moment|low|high)\w+(?:\s+\w+)?", re.IGNORECASE)

Place = tuple[int, int]
Stated = tuple[int, int, list[Any]]
Span = tuple[int, int, float, list[Any]]


class Wanted:
    """One parameter: what values it takes. `unit`: the unit of time that its name tells; `shared`: another has another one.
    `twin`: another takes values of the same list. `alone`: no other takes a number. `measured`: which other, a choice of units of
    time, says what the number counts."""

    __slots__ = ("alone", "kind", "list", "measured", "most", "shared", "twin", "unit")

    def __init__(self, slot: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> None:
        self.kind: str = slot["kind"]
        self.list = listing(tuple(slot["values"])) if self.kind == "list" else None
        self.most: float | None = slot["most"]
        self.alone = not any(other["kind"] in _NUMERIC for other in others)
        self.unit = _unit(slot)
        self.shared = any(_unit(other) not in (None, self.unit) for other in others)
        self.measured: int | None = None
        self.twin = any(other["kind"] == "list" and list(other["values"]) == list(slot["values"]) for other in others)
        if self.kind in _MOMENTS:
            moments.prepare()


def wanted(slots: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """`slots`: {text, choices, kind, values, most} for each parameter of one tool."""
    found = [Wanted(slot, [other for other in slots if other is not slot]) for slot in slots]
    units = [at for at, slot in enumerate(slots) if slot["choices"] and all(map(time_unit, slot["choices"]))]
    for slot in found:
        if slot.kind in _NUMERIC and slot.alone and slot.unit is None and len(units) == 1:
            slot.measured = units[0]
    return found


def time_unit(choice: str) -> str | None:
    """The unit of time that a choice is: "minutes" is "minute"."""
    return next((unit for unit in TIME_UNITS if choice.lower() in (unit, f"{unit}s")), None)


class Reading:
    """One sentence held against the parameters of one tool. `now` is local time. `units`: of a number that is `measured` by a
    choice, which one it is: "half an hour" is 30 of "minutes". `names`: words that are surely an argument in plain words, so a
    number in them is no end of a range: "bed 2 to 21"."""

    def __init__(
        self,
        text: str,
        slots: Sequence[Wanted],
        now: datetime,
        units: Mapping[int, str] | None = None,
        names: Sequence[Place] = (),
    ) -> None:
        self._text, self._slots, self._now, self._units = text, slots, now, units or {}
        self._matched: list[Matched | None] = [slot.list.match(text) if slot.list else None for slot in slots]
        self._numbers: list[Number] = []
        self._named: list[Place] = []
        self._durations: tuple[Duration, ...] = ()
        if any(slot.kind in (*_NUMERIC, "duration") for slot in slots):
            listed = [place for matched in self._matched if matched for place in matched.digits()]
            self._numbers = [n for n in numbers(text) if not _meets((n.begin, n.end), listed)]
            self._named = [*listed, *names]
            self._durations = durations(text)

    def at(self, index: int, begin: int, end: int) -> list[Any]:
        """What these words mean for parameter `index`: [] nothing that can be read, one value, or those that stay possible."""
        slot, matched = self._slots[index], self._matched[index]
        words = self._text[begin:end]
        if slot.list and matched:
            return (matched.at(begin, end, slot.twin)[2] or slot.list.misspelt(words))[:_MOST_NAMED]
        if slot.kind in _NUMERIC:
            value = self._number(index, (begin, end))
            return [] if value is None else [value]
        if slot.kind == "duration":
            said = [d for d in self._durations if _meets((begin, end), [(d.begin, d.end)])]
            return [iso(said[0])] if len(said) == 1 else []
        if slot.kind in _MOMENTS:
            return self._moment(_MOMENTS[slot.kind], begin, end)
        trimmed = words.strip(" ,;:!?\"'")
        return [trimmed] if trimmed else []

    def spans(self, index: int, pointed: Sequence[tuple[int, int, float]]) -> list[Span]:
        """`pointed` is (first character, behind the last, probability), the likeliest first; with the values of `at`. Runs of
        words around the same listed name are one, of just its words and as likely as they are together."""
        valued: dict[Place, Span] = {}
        for begin, end, chance in pointed:
            values, matched = self.at(index, begin, end), self._matched[index]
            if matched and len(values) == 1:
                begin, end, _ = matched.at(begin, end, self._slots[index].twin)
            known = valued.get((begin, end))
            valued[begin, end] = (begin, end, chance + (known[2] if known else 0.0), values)
        return sorted(valued.values(), key=lambda span: -span[2])

    def stated(self, index: int) -> list[Stated]:
        """The numbers and listed values that the sentence states anywhere, (first character, behind the last, values)."""
        slot, matched = self._slots[index], self._matched[index]
        if matched:
            return [(begin, end, values[:_MOST_NAMED]) for begin, end, values in matched.stated()]
        if slot.kind not in _NUMERIC:
            return []
        plain = [(n.begin, n.end) for n in self._numbers if not n.ordinal and not (self._ranged(n) and slot.alone)]
        timed = [(d.begin, d.end) for d in self._durations] if self._unit(index) else []
        places = timed + [place for place in plain if not _meets(place, timed)]
        found = [(begin, end, self._number(index, (begin, end))) for begin, end in sorted(places)]
        fits = (int,) if slot.kind == "integer" else (int, float)  # what nobody points at has to fit at least
        return [(begin, end, [value]) for begin, end, value in found if isinstance(value, fits)]

    def _unit(self, index: int) -> str | None:
        """What the number counts, where that is sure."""
        slot = self._slots[index]
        return self._units.get(index) or (None if slot.shared else slot.unit)

    def _number(self, index: int, place: Place) -> int | float | None:
        slot, unit = self._slots[index], self._unit(index)
        if unit:
            said = [d for d in self._durations if _meets(place, [(d.begin, d.end)])]
            if said:
                return said[0].count(unit) if len(said) == 1 else None
        inside = [n for n in self._numbers if _meets(place, [(n.begin, n.end)])]
        if slot.unit and slot.shared:
            inside = [n for n in inside if self._unit_behind(n) == slot.unit] or inside
        inside = [n for n in inside if not n.ordinal] or inside
        if not inside:
            return 1 if _ONE.fullmatch(self._text[slice(*place)].strip()) else None
        if len(inside) > 1 or (self._ranged(inside[0]) and slot.alone):
            return None
        return self._scaled(inside[0], slot)

    def _ranged(self, number: Number) -> bool:
        return number.other is not None and not _meets(number.other, self._named)

    def _scaled(self, number: Number, slot: Wanted) -> int | float:
        """ "half" of what goes to 100 is 50, and "50 percent" of what goes to 1 is 0.5."""
        value = number.value
        if slot.most == 100 and 0 < value < 1 and self._text[number.begin].isalpha():
            value *= 100
        if slot.most is not None and slot.most <= 1 and number.percent:
            value /= 100
        return int(value) if slot.kind == "integer" and value == value // 1 else value

    def _unit_behind(self, number: Number) -> str | None:
        behind = re.match(r"[\s-]*([a-z]+)", self._text[number.end :].lower())
        return next((unit for unit in TIME_UNITS if behind and behind[1] in (unit, f"{unit}s")), None)

    def _moment(self, read: Callable[[str, datetime], str | None], begin: int, end: int) -> list[str]:
        """The reader may leave out the word in front that "in two hours" and "at nine" hang on."""
        before = re.search(r"\b(?:in|at|on|by|this|next|the)\s+$", self._text[:begin], re.IGNORECASE)
        for start in (before.start() if before else begin, begin):
            try:
                value = read(self._text[start:end], self._now)
            except (OverflowError, OSError, ValueError):  # beyond the calendar: "in two million weeks"
                continue
            if value is not None:
                return [value]
        return []


def _unit(slot: Mapping[str, Any]) -> str | None:
    """Plural only: a "second operand" and a "day of the month" are no lengths of time."""
    words = set(slot["text"].split()) if slot["kind"] in _NUMERIC else set()
    units = [unit for unit in TIME_UNITS if f"{unit}s" in words]
    return units[0] if len(units) == 1 else None


def _meets(place: Place, places: Sequence[Place]) -> bool:
    return any(place[0] < end and begin < place[1] for begin, end in places)
