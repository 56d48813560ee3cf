"""One word said in several ways: capitals, accents, plurals, number words, slips of the fingers."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.distance import OSA

__all__ = ["Token", "alike", "forms", "tokens_of"]

_WORD = re.compile(r"[^\W_]+(?:['’.][^\W_]+)*")
_DIGITS = {word: str(i) for i, word in enumerate("zero one two three four five six seven eight nine ten".split())}


@dataclass(frozen=True, slots=True)
class Token:
    """A folded word and the characters where it stands."""

    word: str
    begin: int
    end: int


def tokens_of(text: str) -> list[Token]:
    return [Token(folded(m.group()), m.start(), m.end()) for m in _WORD.finditer(text)]


def folded(word: str) -> str:
    """Lower case, no accents, no apostrophes; ü is u, and so is ue."""
    if not word.isascii():
        plain = unicodedata.normalize("NFKD", word.replace("ß", "ss").replace("’", "'"))
        word = "".join(c for c in plain if not unicodedata.combining(c))
    return word.lower().replace("'", "").replace(".", "")


@lru_cache(maxsize=8192)
def forms(word: str) -> tuple[tuple[str, float], ...]:
    """The word, and what it may be the plural or the older spelling of, each with how alike that is."""
    forms = {word: 1.0}
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "oes")):
        forms.setdefault(word[:-2], 0.99)
    if len(word) > 4 and word.endswith("ies"):
        forms.setdefault(word[:-3] + "y", 0.99)
    if len(word) > 4 and word.endswith("ves"):
        forms.setdefault(word[:-3] + "f", 0.99)
        forms.setdefault(word[:-3] + "fe", 0.99)
    if len(word) > 2 and word.endswith("s") and not word.endswith("ss"):
        forms.setdefault(word[:-1], 0.99)
    for spelt, plain in (("ae", "a"), ("oe", "o"), ("ue", "u")):
        if len(word) > 4 and spelt in word:
            forms.setdefault(word.replace(spelt, plain), 0.98)
    if word in _DIGITS:
        forms.setdefault(_DIGITS[word], 0.98)
    return tuple(forms.items())


@lru_cache(maxsize=16384)
def alike(one: str, other: str) -> bool:
    """Slips of the fingers: swapped, doubled, missing letters; an exchanged one only in words long enough to bear it."""
    if not one.isalpha():
        return False
    longest = max(len(one), len(other))
    away = OSA.distance(one, other)
    if one[0] != other[0] and not (away == 1 and longest >= 6):
        return False
    if longest <= 5:
        swapped = sorted(one) == sorted(other)
        return away == 1 and (longest == 5 or swapped or len(one) != len(other))
    return away <= (1 if longest == 6 else 2 if longest <= 9 else 3)
