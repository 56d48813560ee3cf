"""From the reader's numbers to what a person would say: which words, which choice, how sure. Numpy, no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["options", "spans"]

Floats = NDArray[np.float32]
_LONGEST_SPAN = 24  # tokens
_BEST = 3


def spans(
    text: str, offsets: Sequence[tuple[int, int]], start: Floats, end: Floats, absent: float
) -> tuple[list[tuple[int, int, float]], float]:
    """The likeliest runs of words for one parameter, (first character, behind the last, probability), and the probability that the
    sentence does not say it. `start`, `end` (S,) are scores over the sentence's tokens, whose first and last are no words."""
    words = slice(1, len(offsets) - 1)
    if len(offsets) <= 2:
        return [], 1.0
    first, last = _softmax(absent, start[words]), _softmax(absent, end[words])
    pairs = np.triu(np.outer(first[1:], last[1:]))
    pairs = np.tril(pairs, _LONGEST_SPAN - 1)
    missing = float(first[0] * last[0])
    total = float(pairs.sum()) + missing
    found: list[tuple[int, int, float]] = []
    for flat in np.argsort(pairs, axis=None)[::-1][:_BEST]:
        i, j = np.unravel_index(int(flat), pairs.shape)
        begin, stop = _whole(text, offsets[1 + int(i)][0], offsets[1 + int(j)][1])
        chance = float(pairs[i, j]) / total
        if chance > 0.01 and (begin, stop) not in [(b, s) for b, s, _ in found]:
            found.append((begin, stop, chance))
    return found, missing / total


def options(scores: Floats, places: Sequence[int], absent: float) -> list[float]:
    """The probability of each choice, in order, and behind them that none is meant."""
    chances = _softmax(absent, scores[list(places)])
    return [*map(float, chances[1:]), float(chances[0])]


def _softmax(absent: float, scores: Floats) -> Floats:
    """Over [absent, *scores]."""
    full = np.concatenate([np.array([absent], np.float32), scores])
    full = np.exp(full - full.max())
    result: Floats = full / full.sum()
    return result


def _whole(text: str, begin: int, stop: int) -> tuple[int, int]:
    """Pieces of words grow to the word."""
    while begin > 0 and text[begin - 1].isalnum() and text[begin].isalnum():
        begin -= 1
    while stop < len(text) and text[stop].isalnum() and text[stop - 1].isalnum():
        stop += 1
    return begin, stop
