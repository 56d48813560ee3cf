"""Which tools a sentence may mean, by the words of their cards and examples: the few that the reader looks at. Numpy, no model.

Each word of the sentence looks for the most similar word of a tool, in the encoder's last layer, where words know their
neighbours (late interaction, as in ColBERT, arXiv:2004.12832). One vector a text loses which words agree: on development tools
the right one of 40 is among the first eight in 0.78 of cases by the texts' vectors, in 0.92 this way, and in 0.94 where the words
are turned first by a matrix that learnt which of them may mean the same tool. A tool with many words is similar to anything, so
what it is to sentences that have nothing to do with it is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shortlist", "Words"]

Floats = NDArray[np.float32]
_MOST_WORDS = 192  # of a tool: 300 kB


class Words:
    """States of a text's words as vectors to compare. `matrix` (width, width) comes from words.npz; without one they stay as they
    are."""

    def __init__(self, matrix: Floats | None = None) -> None:
        self._matrix = matrix

    @classmethod
    def read(cls, file: Path) -> Words:
        if not file.exists():
            return cls()
        with np.load(file) as stored:
            return cls(stored["matrix"].astype(np.float32))

    def of(self, tops: Floats) -> Floats:
        """The last layer's states of a text's tokens (S, width) -> unit vectors of those between [CLS] and [SEP]."""
        words = tops[1:-1] if len(tops) > 2 else tops
        if self._matrix is not None:
            words = words @ self._matrix.T
        found: Floats = words / np.linalg.norm(words, axis=1, keepdims=True)
        return found


class Shortlist:
    """`tools` has the texts of each tool, most telling first, and `usual` texts that are about none of them, as `Words.of` them."""

    def __init__(self, tools: Sequence[Sequence[Floats]], usual: Sequence[Floats]) -> None:
        bags = [np.concatenate(texts)[:_MOST_WORDS] for texts in tools]
        self._words = np.concatenate(bags)
        self._starts = np.cumsum([0, *map(len, bags[:-1])])
        self._usual = np.mean([self._similar(words) for words in usual], axis=0) if len(usual) else np.float32(0)

    def likeness(self, words: Floats) -> Floats:
        """A number a tool: how much more than usual the sentence is like it, in cosines."""
        return np.asarray(self._similar(words) - self._usual, np.float32)

    def _similar(self, words: Floats) -> Floats:
        best: Floats = np.maximum.reduceat(words @ self._words.T, self._starts, axis=1)
        return np.asarray(best.mean(axis=0), np.float32)
