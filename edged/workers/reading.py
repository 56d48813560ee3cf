"""From the reader's numbers to what a person would say: which words, which choice, how sure. Numpy, no model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["options", "spans"]

Floats = NDArray[np.float32]
_LONGEST_SPAN = 24  # tokens
_BEST = 5
_INSIDE, _CLIP = 0.5, 4.0  # how much the words between the ends count, and each of them at most


def spans(
    text: str, offsets: Sequence[tuple[int, int]], start: Floats, end: Floats, inside: Floats, absent: float
) -> tuple[list[tuple[int, int, float]], float]:
    """The likeliest runs of words for one parameter, (first character, behind the last, probability), and the probability that the
    sentence does not say it. `start`, `end`, `inside` (S,) are scores of the sentence's tokens, whose first and last are no words;
    `absent` stands against the first two. Two good ends with strange words between them are no span: `inside` sees to that."""
    words = slice(1, len(offsets) - 1)
    if len(offsets) <= 2:
        return [], 1.0
    first, last = np.log(_softmax(absent, start[words])), np.log(_softmax(absent, end[words]))
    within = np.concatenate([[0.0], np.cumsum(np.clip(inside[words], -_CLIP, _CLIP))])
    scores = first[1:, None] + last[None, 1:] + _INSIDE * (within[None, 1:] - within[:-1, None])
    count = len(scores)
    reach = _reach(count)
    missing = float(first[0] + last[0])
    top = max(missing, float(scores[reach].max()))
    pairs = np.where(reach, np.exp(scores - top), 0.0)
    none = float(np.exp(missing - top))
    total = float(pairs.sum()) + none
    found: dict[tuple[int, int], float] = {}
    for flat in np.argsort(pairs, axis=None)[::-1][: 2 * _BEST]:
        i, j = np.unravel_index(int(flat), pairs.shape)
        place = _whole(text, offsets[1 + int(i)][0], offsets[1 + int(j)][1])
        found[place] = found.get(place, 0.0) + float(pairs[i, j]) / total
    best = sorted(found.items(), key=lambda item: -item[1])[:_BEST]
    return [(begin, stop, chance) for (begin, stop), chance in best if chance > 0.01], none / total


def options(scores: Sequence[float], absent: float) -> list[float]:
    """From their scores the probability of each choice, in order, and behind them that none is meant."""
    chances = _softmax(absent, np.asarray(scores, np.float32))
    return [*map(float, chances[1:]), float(chances[0])]


@lru_cache(maxsize=128)
def _reach(count: int) -> NDArray[np.bool_]:
    """Of the first and the last word of a run, which pairs are one that is not too long."""
    return np.tril(np.triu(np.ones((count, count), bool)), _LONGEST_SPAN - 1)


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
