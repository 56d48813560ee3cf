"""Sentences and tool cards as token ids, for the encoder and the reader. Text is never taken for a control token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["LONGEST_CARD", "LONGEST_SENTENCE", "CardTokens", "Pieces", "SentenceTokens"]

LONGEST_SENTENCE = 64
LONGEST_CARD = 112
_CLS, _SEP, _SLOT, _CHOICE = "[CLS]", "[SEP]", ";", "|"
_NO_WORDS = (_CLS, _SEP, _SLOT, _CHOICE, ":", ",", ".")


@dataclass(frozen=True, slots=True)
class SentenceTokens:
    """`ids` with [CLS] and [SEP]; `offsets` are the characters of each token, (0, 0) for those two. `cut`: it was too long."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class CardTokens:
    """`ids`; `slots` are the positions of the parameters' markers, `choices` those of each parameter's choices."""

    ids: tuple[int, ...]
    slots: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]


class Pieces:
    """The word pieces of a `tokenizer.json`."""

    def __init__(self, file: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(file)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls, self._sep, self._slot, self._choice = map(self._mark, (_CLS, _SEP, _SLOT, _CHOICE))
        self._no_words = frozenset(map(self._mark, _NO_WORDS))

    def sentence(self, text: str, longest: int = LONGEST_SENTENCE) -> SentenceTokens:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        ids, offsets = found.ids[: longest - 2], found.offsets[: longest - 2]
        return SentenceTokens(
            (self._cls, *ids, self._sep), ((0, 0), *map(tuple, offsets), (0, 0)), len(found.ids) > longest - 2
        )

    def extremes(self) -> tuple[int, ...]:
        """A row of the first and the last id that this vocabulary can give."""
        return (self._cls, 0, self._tokenizer.get_vocab_size() - 1, self._sep)

    def same(self, sentence: Sequence[int], card: Sequence[int]) -> tuple[list[bool], list[bool]]:
        """Which ids of each are words that the other has too."""
        both = (set(sentence) & set(card)) - self._no_words
        return [i in both for i in sentence], [i in both for i in card]

    def card(self, head: str, slots: Sequence[tuple[str, Sequence[str]]]) -> CardTokens:
        """`slots` are (text, choices). What does not fit in is left out from the end; a marker is never cut from its text."""
        ids, at, options = self._plain(head)[: LONGEST_CARD // 2], [], []
        for text, choices in slots:
            slot, places = [self._slot, *self._plain(text)], []
            for choice in choices:
                places.append(len(ids) + len(slot))
                slot += [self._choice, *self._plain(str(choice).replace("_", " "))]
            if len(ids) + len(slot) >= LONGEST_CARD:
                break
            at.append(len(ids))
            options.append(tuple(places))
            ids = [*ids, *slot]
        return CardTokens((*ids, self._sep), tuple(at), tuple(options))

    def _mark(self, text: str) -> int:
        token: int | None = self._tokenizer.token_to_id(text)
        if token is None:
            raise ValueError(f"the vocabulary has no {text!r}")
        return token

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
