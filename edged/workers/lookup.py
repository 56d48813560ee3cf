"""Guessing the next tokens from what was already said: n-gram lookup in prompt and output.

A guess costs little while the cores wait for memory, and nothing is taken on trust: the model checks every token in the same
batch. What a guess is worth is measured by its own luck; where it does not pay it stops by itself, and tries again now and then.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Lookup"]

_GRAM = 3
_LONGEST = 6
_TRIAL = 12  # guessed tokens before the luck is judged
_PAYS = 0.4  # of the guessed tokens, below which checking them costs more than it saves
_REST = 64  # tokens after which a lookup that was given up is tried again


class Lookup:
    """One generation's guesses. `feed` it all tokens of the prompt first, then each one that was chosen."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._guessed = 0
        self._right = 0
        self._resting = 0

    def feed(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self._tokens.append(token)
            if len(self._tokens) > _GRAM:  # the gram before this token is followed by it
                self._after[tuple(self._tokens[-_GRAM - 1 : -1])] = len(self._tokens) - 1
        self._resting = max(0, self._resting - len(tokens))

    def guess(self, most: int) -> list[int]:
        """At most `most` tokens that followed the last time the present end was seen."""
        at = self._after.get(tuple(self._tokens[-_GRAM:])) if not self._resting else None
        return [] if at is None else self._tokens[at : at + min(most, _LONGEST)]

    def learn(self, guessed: int, right: int) -> None:
        """How many of the guessed tokens the model wanted too."""
        self._guessed += guessed
        self._right += right
        if self._guessed >= _TRIAL:
            if self._right < _PAYS * self._guessed:
                self._resting = _REST
            self._guessed //= 2
            self._right //= 2
