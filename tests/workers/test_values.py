"""What pointed words come to, by tables."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from edged.agent.grounding import mentioned
from edged.workers.listing import Listing
from edged.workers.values import Reading, wanted

from .listed import CASES, LISTS, UNSEEN
from .spoken import DATES, DURATIONS, MINUTES, MOMENTS, NUMBERS, TIMES

NOW = datetime(2026, 3, 11, 14, 30)


def slot(kind: str, text: str = "x", values: tuple[str, ...] = (), most: float | None = None) -> dict[str, Any]:
    return {"text": text, "choices": [], "kind": kind, "values": list(values), "most": most}


def reading(text: str, *slots: dict[str, Any]) -> Reading:
    return Reading(text, wanted(slots), NOW)


def values(kind: str, sentence: str, words: str, **facts: Any) -> list[Any]:
    begin = sentence.index(words)
    return reading(sentence, slot(kind, **facts)).at(0, begin, begin + len(words))


def said(kind: str, case: str, **facts: Any) -> tuple[Any, Any]:
    words, _, expected = case.partition("|")
    found = values(kind, f"please, {words}", words, **facts)
    return [str(value) for value in found], [expected] if expected else []


@pytest.mark.parametrize(
    ("words", "unit", "count"),
    [
        ("half an hour", "minute", 30),
        ("half an hour", "hour", 0.5),
        ("90 seconds", "second", 90),
        ("two hours", "minute", 120),
    ],
)
def test_a_number_counts_the_unit_that_was_chosen(words: str, unit: str, count: float) -> None:
    slots = wanted([slot("number", "amount number"), {**slot("option"), "choices": ["seconds", "minutes", "hours"]}])
    assert slots[0].measured == 1
    text = f"wake me in {words}"
    assert Reading(text, slots, NOW, {0: unit}).at(0, 11, len(text)) == [count]


def test_what_is_no_choice_of_units_measures_nothing() -> None:
    colours = {**slot("option"), "choices": ["minutes", "red"]}
    assert wanted([slot("number"), colours])[0].measured is None
    units = {**slot("option"), "choices": ["minutes", "hours"]}
    assert [s.measured for s in wanted([slot("number"), slot("integer"), units])][:2] == [None, None]
    assert wanted([slot("integer", "minutes number"), units])[0].measured is None


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case: str) -> None:
    found, expected = said("number", case)
    assert found == expected


@pytest.mark.parametrize("case", MINUTES)
def test_a_unit_in_the_name_is_converted_to(case: str) -> None:
    found, expected = said("integer", case, text="minutes number", most=100)
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "cases"), [("duration", DURATIONS), ("date", DATES), ("time", TIMES), ("date-time", MOMENTS)]
)
def test_times(kind: str, cases: list[str]) -> None:
    wrong = [(case, found) for case in cases for found, expected in [said(kind, case)] if found != expected]
    assert wrong == []


def test_text_is_kept_word_for_word() -> None:
    assert values("text", 'note "Buy 2 Eggs, now!"', '"Buy 2 Eggs, now!"') == ["Buy 2 Eggs, now"]
    assert values("email", "mail x@y.org please", "x@y.org") == ["x@y.org"]


@pytest.mark.parametrize(
    ("most", "words", "value"), [(100, "half", 50), (1, "50 percent", 0.5), (1, "0.3", 0.3), (100, "two percent", 2)]
)
def test_parts_are_parts_of_the_most(most: float, words: str, value: float) -> None:
    assert values("number", words, words, most=most) == [value]


def test_what_is_out_of_bounds_is_the_tools_business() -> None:
    assert values("integer", "set it to 250", "250", most=100) == [250]
    assert values("integer", "set it to 2.5", "2.5", most=100) == [2.5]


def test_ends_of_a_range_may_be_two_parameters() -> None:
    low, high = slot("number", "low number"), slot("number", "high number")
    both = reading("from 5 to 10", low, high)
    assert (both.at(0, 5, 6), both.at(1, 10, 12)) == ([5], [10])
    assert reading("from 5 to 10", low).at(0, 5, 6) == []


def test_a_number_in_a_name_is_no_end_of_a_range() -> None:
    loco, step = slot("text", "loco text"), slot("integer", "step number")
    text = "throttle up old number seven to 41"
    assert reading(text, loco, step).at(1, 32, 34) == []
    named = Reading(text, wanted([loco, step]), NOW, names=[(12, 28)])
    assert named.at(1, 32, 34) == [41]
    listed = slot("list", "zone text", values=("zone 1", "zone 2"))
    assert reading("bring zone 2 to 21", listed, step).at(1, 16, 18) == [21]


def test_units_of_two_parameters_stay_apart() -> None:
    text = "1 hour 30 minutes"
    both = reading(text, slot("integer", "hours number"), slot("integer", "minutes number"))
    assert (both.at(0, 0, len(text)), both.at(1, 0, len(text))) == ([1], [30])


def test_what_is_stated_anywhere() -> None:
    products = ("power bank", "4k monitor")
    order = reading("order 3 4k monitors", slot("list", values=products), slot("integer", "quantity number"))
    assert order.stated(0) == [(8, 19, ["4k monitor"])]
    assert order.stated(1) == [(6, 7, [3])]
    assert reading("a timer for half an hour", slot("integer", "minutes number")).stated(0) == [(12, 24, [30])]
    assert reading("the third one", slot("integer")).stated(0) == []
    assert reading("slow it to 0.7", slot("integer")).stated(0) == []
    assert reading("slow it to 0.7", slot("number")).stated(0) == [(11, 14, [0.7])]


def test_the_word_in_front_is_looked_at() -> None:
    assert values("date-time", "remind me in two hours", "two hours") == ["2026-03-11T16:30:00"]
    assert values("date", "see you next friday", "friday") == ["2026-03-13"]


def listed(case: str) -> tuple[list[str], list[str], list[str]]:
    """(found, expected, what the language model's grounding finds in the same words)."""
    name, text, words, expected = case.split("|")
    found = values("list", text, words, values=LISTS[name])
    wanted = expected.removeprefix("?").split(",") if expected else []
    return sorted(found), sorted(wanted), sorted(mentioned(LISTS[name], words))


def test_listed_values() -> None:
    rows = [(case, *listed(case)) for case in CASES + UNSEEN]
    wrong = [(case, found) for case, found, expected, _ in rows if found != expected]
    assert [case for case, _ in wrong] == ["tools|the painter is here|painter|"]  # one letter from a printer
    assert not [case for case, found in wrong if len(found) == 1]
    assert sum(before == expected for _, _, expected, before in rows) < 0.75 * len(rows)


UNITS = ("parsecs", "microns", "miles")


def test_two_parameters_of_one_list_share_what_a_wide_span_names() -> None:
    text, both = "5 parsecs, that's how many microns", [slot("list", values=UNITS), slot("list", values=UNITS)]
    assert reading(text, *both).spans(0, [(2, len(text), 0.9)]) == [(2, 9, 0.9, ["parsecs"])]
    assert reading(text, both[0]).spans(0, [(2, len(text), 0.9)]) == [(2, len(text), 0.9, ["parsecs", "microns"])]


def test_runs_around_the_same_name_are_one() -> None:
    text = "turn the kitchen light on please"
    pointed = [(9, 22, 0.4), (5, 22, 0.3), (9, 25, 0.2), (26, 32, 0.05)]
    found = reading(text, slot("list", values=LISTS["home"])).spans(0, pointed)
    assert [(begin, end, round(chance, 3), values) for begin, end, chance, values in found] == [
        (9, 22, 0.9, ["kitchen light"]),
        (26, 32, 0.05, []),
    ]


@pytest.mark.parametrize("text", ["a pigeon got into the store", "bring the towel warmer to life"])
def test_a_slip_in_a_short_word_and_part_of_a_name_are_no_mention(text: str) -> None:
    assert reading(text, slot("list", values=("paraffin stove", "bell tower"))).stated(0) == []


def test_a_word_said_twice_goes_with_its_neighbours() -> None:
    assert values("list", "dim the lamp, the desk lamp", "desk lamp", values=LISTS["home"]) == ["desk lamp"]


ODD = [
    "",
    " ",
    "?!",
    "🙂",
    "1" * 5000,
    "ж" * 3000,
    "a " * 500,
    "\x00",
    "- - -",
    "²",
    "٣ lamps",
    "o'clock",
    "½",
    "1/0",
    "at 99",
]
FAR = [
    "in 9999999999 days",
    "in 99999999999999 hours",
    "99/99/9999",
    "in 10000 years",
    "1e999 minutes",
    "in two million weeks",
]


@pytest.mark.parametrize("text", ODD + FAR)
@pytest.mark.parametrize("kind", ["number", "integer", "date", "time", "date-time", "duration", "list", "text"])
def test_any_text_can_be_held_against_any_kind(kind: str, text: str) -> None:
    found = reading(text, slot(kind, "minutes number", LISTS["home"]))
    assert len(found.at(0, 0, len(text))) <= 2
    assert isinstance(found.stated(0), list)


@pytest.mark.parametrize("names", [(), ("",), (" ", "?"), ("a", "the"), ("lamp", "lamp")])
def test_any_list_can_be_taught(names: tuple[str, ...]) -> None:
    assert values("list", "the lamp", "lamp", values=names) == (["lamp"] if "lamp" in names else [])


@pytest.mark.parametrize(("count", "limit"), [(100, 0.001), (2000, 0.005)])
def test_a_long_list_is_matched_in_no_time(count: int, limit: float) -> None:
    kinds = "drill saw lamp cable monitor printer router sander clamp bench".split()
    names = [f"{kinds[i % 10]} {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}lork {i}" for i in range(count)]
    taken, text = [], "could you order the cordles dril for the garage plese, and quickly"
    held = Listing(names)
    for go in range(9):
        began = time.process_time()
        matched = held.match(f"{text} {go}")
        matched.at(19, 31), matched.stated(), held.misspelt(text[19:31])
        taken.append(time.process_time() - began)
    assert min(taken) < limit
