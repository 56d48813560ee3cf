"""Guessing by n-grams: what was seen is guessed again, and where guesses are wrong they stop for a while."""

from __future__ import annotations

import pytest

from edged.workers.lookup import Lookup


def fed(*tokens: int) -> Lookup:
    lookup = Lookup()
    lookup.feed(tokens)
    return lookup


@pytest.mark.parametrize(
    ("tokens", "most", "guess"),
    [
        ((), 6, []),
        ((1, 2), 6, []),
        ((1, 2, 3), 6, []),  # seen for the first time
        ((1, 2, 3, 4, 1, 2, 3), 6, [4, 1, 2, 3]),
        ((1, 2, 3, 4, 5, 1, 2, 3), 2, [4, 5]),
        ((1, 2, 3, 4, 5, 1, 2, 3), 0, []),
        ((1, 2, 3, 4, 5, 1, 2, 3), -1, []),
        ((1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3), 2, [5, 9]),  # what followed the last time
        ((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3), 99, [4, 5, 6, 7, 8, 9]),  # six at most
        ((7, 7, 7, 7), 6, [7]),
        ((1, 2, 3, 4, 1, 2, 9), 6, []),
        ((1, 2, 3, 4, 9, 2, 3), 6, []),  # two that are alike are not enough
    ],
)
def test_guesses(tokens: tuple[int, ...], most: int, guess: list[int]) -> None:
    assert fed(*tokens).guess(most) == guess


def test_how_it_was_fed_does_not_matter() -> None:
    tokens = [1, 2, 3, 1, 2, 3, 1, 2, 4, 1, 2, 3, 1]
    at_once, one_by_one = fed(*tokens), Lookup()
    for i, token in enumerate(tokens):
        one_by_one.feed([token])
        assert one_by_one.guess(6) == fed(*tokens[: i + 1]).guess(6)
    assert at_once.guess(6) == one_by_one.guess(6)


def rests(lookup: Lookup) -> bool:
    return not lookup.guess(6)


def test_bad_luck_rests_it_for_a_while_and_good_luck_does_not() -> None:
    lucky, unlucky = fed(*[1, 2, 3] * 4), fed(*[1, 2, 3] * 4)
    for _ in range(20):
        lucky.learn(6, 5)
        assert not rests(lucky)
    unlucky.learn(6, 0)
    assert not rests(unlucky)  # two guesses are no experience
    unlucky.learn(6, 0)
    assert rests(unlucky)
    unlucky.feed([1, 2, 3] * 21)
    assert rests(unlucky)
    unlucky.feed([1])
    assert not rests(unlucky)  # 64 tokens later it is tried again
    unlucky.learn(6, 0)
    assert rests(unlucky)  # and given up sooner
