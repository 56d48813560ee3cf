"""What a pattern may be, and that neither a pattern nor a sentence can hold the daemon up."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from edged.agent.patterns import Heard, Vocabulary

LONG = " ".join(["and"] * 75)
SLOTS = [f"{{{name}}}" for name in "abcdefgh"]


def vocabulary(**rules: str) -> Vocabulary:
    words = Vocabulary()
    for name, text in rules.items():
        words.add_rule(name, text)
    words.add_list("room", {"kitchen": "k", "(living|sitting) room": "l"})
    return words


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "brackets"),
        ("()", "brackets"),
        ("[]", "brackets"),
        ("{}", "brackets"),
        ("a [b", "brackets"),
        ("a ] b", "brackets"),
        ("a) (b", "brackets"),
        ("a\\", "brackets"),
        ("(a|)", "empty"),
        ("{a-b}", "no name"),
        ("{0..9:a}", "no name"),
        ("{@a}", "neither"),
        ("{room:@a}", "neither"),
        ("{rooms:a}", "no list"),
        ("{a} and {room:a}", "twice"),
        ("{a} <slot>", "twice"),
        ("<nothing>", "no rule"),
        ("<one>", "within itself"),
        ("<d1>", "too deep"),
        ("<big> <big> <big> <big>", "too large"),
        ("x" * 1001, "longer"),
        ("(" * 11 + "a" + ")" * 11, "within each other"),
    ],
)
def test_bad_patterns(pattern: str, why: str) -> None:
    deep = {f"d{n}": f"<d{n + 1}>" for n in range(1, 5)} | {"d5": "x"}
    words = vocabulary(slot="{a}", one="<two>", two="<one>", big="<wide> " * 9, wide="[a|b|c|d] " * 9, **deep)
    with pytest.raises(ValueError, match=why):
        words.pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "said"),
    [
        ("({a} off|off with {a})", "off with it", {"a": "it"}),
        ("from {room:start} to {room:end}", "from kitchen to sitting room", {"start": "k", "end": "l"}),
        ("clean [{room}] now", "clean now", {}),
        ("<go> now", "clean the living room now", {"room": "l"}),
    ],
)
def test_readings(pattern: str, text: str, said: dict[str, str]) -> None:
    assert next(Heard(text).readings(vocabulary(go="clean [the] {room}").pattern(pattern), {})) == said


@pytest.mark.parametrize(
    "pattern",
    [
        " and ".join(SLOTS),
        " ".join(SLOTS),
        "".join(SLOTS),
        "{a} " + " ".join(["[and]"] * 90) + " {b} end",
        " ".join(["[and] (and|[and] and)"] * 40),
        "[[[[[and] and] and] and] and] " * 20 + "{a} and",
        "(" + ";".join(["[and] [a]"] * 40) + ")",
        "<a> <a> <a>",
    ],
)
def test_a_hostile_pattern_or_sentence_is_given_up_soon(pattern: str) -> None:
    try:
        hostile = vocabulary(a="<b> <b> <b>", b="<c> <c> <c>", c="[and] [and]").pattern(pattern)
    except ValueError as error:
        assert "too large" in str(error)
        return
    list(Heard(LONG).readings(hostile, {}))  # what it compiles is kept
    began = time.perf_counter()
    heard = Heard(LONG)
    for _ in range(50):
        if heard.may_match(hostile):
            list(heard.readings(hostile, {}))
    assert time.perf_counter() - began < 0.1  # some 5 ms; minutes, if nothing bounded it


def test_the_bound_holds_where_it_matters() -> None:
    pattern = vocabulary().pattern(" and ".join(SLOTS))
    heard = Heard(LONG)
    assert list(heard.readings(pattern, {})) == [] and heard.steps < 0 and not heard.may_match(pattern)


def test_a_sentence_of_numbers_costs_only_the_first_ones() -> None:
    pattern = vocabulary().pattern("{a} {n} end")
    heard = Heard(" ".join(map(str, range(60))) + " end")
    assert list(heard.readings(pattern, {"n": "number"})) == []
    assert heard.steps > 0


def test_hassil_comes_without_what_it_does_not_need_and_only_where_there_are_patterns() -> None:
    script = """
import sys
from edged.agent.reflex import compile_reflex, match
assert match([], "on", {}) is None and "hassil" not in sys.modules
compile_reflex("on", "t", {})
assert "hassil" in sys.modules and not {"yaml", "unicode_rbnf"} & sys.modules.keys()
import yaml
assert yaml.safe_load("a: 1") == {"a": 1}
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=15)
