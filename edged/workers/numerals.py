"""The numbers that a sentence states, as numerals or in words, and where.

The words are read by text2num; what people say beside them is here: "half", "a dozen", "3k", "two and a half", ranges, which
are no number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from text_to_num import find_numbers

__all__ = ["Number", "numbers", "with_digits"]

_TOKEN = re.compile(r"\d{1,2}/\d{1,2}(?![\d/])|\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\w\s]|_")
_SCALES = {"k": 1000, "thousand": 1000, "m": 0, "million": 10**6, "hundred": 100, "billion": 10**9}
_DOZENS = {"dozen": 12, "dozens": 12, "score": 20}
_FEW = {"couple": 2, "pair": 2}
_LESS = frozenset({"minus", "negative"})
_NO_NUMBER = frozenset(
    "the this that which each every another last next any no some first second st nd rd th".split()
)  # before "one"
_ENDS = frozenset({"", "to", "on", "off", "in", "at", "is", "with", "for", "from", "please", "and", ",", ".", "?", "!"})
_JOINS = frozenset({"to", "-", "–", "—", "or", "till", "until", "through"})
_PERCENT = frozenset({"%", "percent", "per cent", "pct"})
_PARTS = (2, 3, 4, 5, 8, 10)  # denominators of what is a fraction rather than a date
_BEYOND_NUMBERS = 2**53  # frames, JSON and SQLite carry no larger integer unharmed
_LONGEST_NUMERAL = 40


@dataclass(frozen=True, slots=True)
class Number:
    """`begin` to `end` are characters. `ordinal`: "third". `other`: of "5 to 10" where its other end is. `percent`: said as
    such."""

    value: int | float
    begin: int
    end: int
    ordinal: bool = False
    other: tuple[int, int] | None = None
    percent: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    """A word with its place, as text2num wants it."""

    word: str
    begin: int
    end: int

    def text(self) -> str:
        return self.word

    def nt_separated(self, previous: _Token) -> bool:
        return self.word[0].isdecimal() or previous.word[0].isdecimal()

    def not_a_number_part(self) -> bool:
        return self.word[0].isdecimal()


@lru_cache(maxsize=4)  # each likely tool looks at the same sentence
def numbers(text: str) -> tuple[Number, ...]:
    """In order of appearance. Codes ("A42"), times ("9:30") and what nothing can carry are left out."""
    tokens = [_Token(m.group().lower(), m.start(), m.end()) for m in _TOKEN.finditer(text)]
    found = sorted(
        [*_numerals(text, tokens), *_spelled(tokens), *_said_otherwise(tokens)], key=lambda n: (n.begin, -n.end)
    )
    found = [_signed(text, tokens, number) for number in _halved(tokens, _scaled(tokens, found))]
    return tuple(number for number in _marked(text, found) if abs(number.value) < _BEYOND_NUMBERS)


def with_digits(text: str) -> str:
    """`text` with its spelled numbers as numerals, ordinals as "3rd": what date libraries read."""
    tokens = [_Token(m.group().lower(), m.start(), m.end()) for m in _TOKEN.finditer(text)]
    for occurrence in reversed(find_numbers(tokens, "en", threshold=0)):
        begin, end = tokens[occurrence.start].begin, tokens[occurrence.end - 1].end
        text = text[:begin] + occurrence.text + text[end:]
    return text


def _numerals(text: str, tokens: Sequence[_Token]) -> Iterator[Number]:
    for at, token in enumerate(tokens):
        if not token.word[0].isdecimal() or len(token.word) > _LONGEST_NUMERAL:
            continue
        before, after = text[: token.begin][-1:], text[token.end :][:1]
        if before.isalnum() or before in tuple("_:./") or (before == "-" and text[: token.begin - 1][-1:].isalpha()):
            continue  # the tail of a code
        if after and after in ":/" and text[token.end + 1 :][:1].isdecimal():
            continue  # a time, a date
        end, ordinal, value = token.end, False, _numeral(token.word)
        following = tokens[at + 1].word if at + 1 < len(tokens) and tokens[at + 1].begin == token.end else ""
        if following in ("st", "nd", "rd", "th"):
            end, ordinal = tokens[at + 1].end, True
        if value is not None:
            yield Number(value, token.begin, end, ordinal=ordinal)


def _numeral(text: str) -> int | float | None:
    if "/" in text:
        over, under = map(int, text.split("/"))
        return over / under if over < under in _PARTS else None
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    text = text.replace(",", ".")
    if text.count(".") > 1:  # a date or a version
        return None
    return float(text) if "." in text else int(text)


def _spelled(tokens: Sequence[_Token]) -> Iterator[Number]:
    """text2num's, neighbours put together where they are one number ("one o five", "nineteen ninety"), else none of both."""
    found = [o for o in find_numbers(tokens, "en", threshold=0) if not _no_number(tokens, o.start, o.end)]
    at = 0
    while at < len(found):
        last = at
        while last + 1 < len(found) and found[last].end == found[last + 1].start and not found[last].is_ordinal:
            last += 1
        run = found[at : last + 1]
        value = _value(run[0].text) if len(run) == 1 else _together([o.text for o in run])
        if value is not None:
            ordinal = any(o.is_ordinal for o in run)
            yield Number(value, tokens[run[0].start].begin, tokens[run[-1].end - 1].end, ordinal=ordinal)
        at = last + 1


def _value(text: str) -> int | float | None:
    text = re.sub(r"(?<=\d)(st|nd|rd|th|s)$", "", text)
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return None


def _together(texts: Sequence[str]) -> int | float | None:
    if len(texts) == 2 and all(text.isdecimal() for text in texts):
        year = len(texts[0]) == 2 and len(texts[1]) == 2 and int(texts[0]) >= 10
        if year or texts[1].startswith("0"):
            return int("".join(texts))
    scale = int(texts[1]) if texts[1].isdecimal() else 0
    if len(texts) == 2 and "." in texts[0] and scale in _SCALES.values():  # "two point five million"
        return _whole(float(texts[0]) * scale)
    return None


def _no_number(tokens: Sequence[_Token], start: int, end: int) -> bool:
    """ "the kitchen one", and the million of "2 million", which belongs to the numeral."""
    words = [token.word for token in tokens]
    if start and words[start] in _SCALES and words[start - 1][0].isdecimal():
        return True
    if end - start > 1 or words[start] != "one":
        return False
    behind = words[end] if end < len(words) else ""
    return words[max(0, start - 1)] in _NO_NUMBER or (
        behind in _ENDS and bool(_NO_NUMBER & set(words[max(0, start - 3) : start]))
    )


def _said_otherwise(tokens: Sequence[_Token]) -> Iterator[Number]:
    """ "a dozen", "two dozen" (the two comes from its own rule and is scaled), "a couple", "half", "a hundred"."""
    words = [token.word for token in tokens]
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        begin = tokens[at - 1].begin if before in ("a", "an") else tokens[at].begin
        if word in _FEW and before in ("a", "the", "another", ""):
            yield Number(_FEW[word], begin, tokens[at].end)
        elif word in _DOZENS and (before in ("a", "the", "") or at == 0):
            yield Number(_DOZENS[word], begin, tokens[at].end)
        elif word == "quarters" and before == "three":
            yield Number(0.75, tokens[at - 1].begin, tokens[at].end)
        elif word == "half" and before not in ("a", "and"):
            yield _half(tokens, at)


def _half(tokens: Sequence[_Token], at: int) -> Number:
    if [t.word for t in tokens[at + 1 : at + 3]] == ["a", "dozen"]:
        return Number(6, tokens[at].begin, tokens[at + 2].end)
    return Number(0.5, tokens[at].begin, tokens[at].end)


def _scaled(tokens: Sequence[_Token], found: Sequence[Number]) -> list[Number]:
    """ "3k", "2 million", "two dozen": the number takes the scale behind it in."""
    scaled: list[Number] = []
    for number in found:
        if scaled and number.begin < scaled[-1].end:
            continue
        after = next((t for t in tokens if t.begin >= number.end), None)
        scale = _SCALES.get(after.word, 0) or _DOZENS.get(after.word, 0) if after else 0
        if after is None or not scale or (after.word == "k" and after.begin != number.end) or number.ordinal:
            scaled.append(number)
        else:
            scaled.append(replace(number, value=_whole(number.value * scale), end=after.end))
    return scaled


def _halved(tokens: Sequence[_Token], found: Sequence[Number]) -> list[Number]:
    """ "two and a half" """
    halved = []
    for number in found:
        behind = [t for t in tokens if t.begin >= number.end][:3]
        words = [t.word for t in behind]
        more = (
            {"half": 0.5, "quarter": 0.25}.get(words[2], 0.0) if words[:2] == ["and", "a"] and len(words) == 3 else 0.0
        )
        halved.append(replace(number, value=number.value + more, end=behind[2].end) if more else number)
    return halved


def _signed(text: str, tokens: Sequence[_Token], number: Number) -> Number:
    before = [t for t in tokens if t.end <= number.begin]
    if before and before[-1].word in _LESS:
        number = replace(number, value=-number.value, begin=before[-1].begin)
    elif re.search(r"(?:^|[\s(=])[-−]$", text[: number.begin]):
        number = replace(number, value=-number.value, begin=number.begin - 1)
    after = next((t for t in tokens if t.begin >= number.end), None)
    if after is not None and (after.word in _PERCENT or re.match(r"\s*per cent\b", text[number.end :].lower())):
        number = replace(number, percent=True)
    return number


def _marked(text: str, found: Sequence[Number]) -> list[Number]:
    """Two with nothing but "to", "or" or a dash between them, or "and" after "between", are a range."""
    other: dict[int, tuple[int, int]] = {}
    for at, (one, two) in enumerate(pairwise(found)):
        words = text[one.end : two.begin].lower().split()
        opened = re.search(r"\b(between|from)\s+$", text[: one.begin].lower())
        if opened and len(words) == 2:  # "from 5 degrees to 10"
            words = words[1:]
        if len(words) == 1 and (words[0].strip("%") in _JOINS or (opened and words[0] == "and")):
            other[at], other[at + 1] = (two.begin, two.end), (one.begin, one.end)
    return [replace(n, other=other.get(i)) for i, n in enumerate(found)]


def _whole(value: float) -> int | float:
    return int(value) if value == value // 1 else value
