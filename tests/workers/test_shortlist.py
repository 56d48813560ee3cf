"""The shortlist: words that agree, one by one, and no advantage to those who talk much."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edged.workers.shortlist import Shortlist, Words

Floats = NDArray[np.float32]
EYE = np.eye(8, dtype=np.float32)


def words(*numbers: int) -> Floats:
    return EYE[list(numbers)]


def test_each_word_finds_its_own() -> None:
    shortlist = Shortlist([[words(0, 1)], [words(2), words(3, 4)]], [])
    assert shortlist.likeness(words(0, 3)) == pytest.approx([0.5, 0.5])
    assert shortlist.likeness(words(2, 4, 3)) == pytest.approx([0.0, 1.0])


def test_what_is_like_everything_is_like_nothing() -> None:
    usual = [words(0, 1), words(1, 2)]
    shortlist = Shortlist([[words(0, 1, 2, 5)], [words(5)]], usual)
    assert shortlist.likeness(words(5)) == pytest.approx([0.0, 1.0])


def test_a_tool_has_a_bounded_number_of_words() -> None:
    flood = [np.repeat(words(1), 500, axis=0), words(7)]
    assert Shortlist([flood, [words(0)]], []).likeness(words(7)) == pytest.approx([0.0, 0.0])


def test_words_are_unit_vectors_between_the_ends() -> None:
    tops = np.array([[9, 9], [3, 4], [0, 2], [9, 9]], np.float32)
    assert Words().of(tops) == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))
    assert len(Words().of(tops[:2])) == 2  # an empty sentence has only its ends
    turned = Words(np.array([[0, 1], [1, 0]], np.float32))
    assert turned.of(tops) == pytest.approx(np.array([[0.8, 0.6], [1, 0]]))
