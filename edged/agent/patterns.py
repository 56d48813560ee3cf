"""Sentence patterns, read and matched by hassil. Pure; it knows no tools. The rules of the file:

A slot takes whole words. What hassil leaves open is closed here: it has no bound on its work, lets a slot end inside a word,
and reads "living-room" as two words. So a pattern is measured before it is taken, what it tries is counted, each listed value
ends with a space, and hyphens and underscores travel as characters that mean nothing to it.

Import this module late: it costs the daemon 0.8 MB.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice
from typing import Union

from edged.agent.grounding import stated
from edged.agent.hassil_parts import (
    Alternative,
    Expression,
    Group,
    ListReference,
    MatchContext,
    MatchSettings,
    ParseError,
    RuleReference,
    Sentence,
    Sequence,
    SlotList,
    TextChunk,
    TextSlotList,
    TextSlotValue,
    WildcardSlotList,
    match_expression,
    parse_sentence,
)

__all__ = ["NUMBER", "Heard", "Own", "Pattern", "Scalar", "Vocabulary", "choices"]

Scalar = str | int | float | bool
NUMBER = "number"
Own = Union["Words", str, None]  # what a tool lets a slot be: one of its words, NUMBER, or any text

_LONGEST = 1000  # characters of a pattern
_DEEPEST = 10  # parentheses and brackets within each other
_DEEPEST_RULES = 4
_LARGEST = 600  # pieces of a pattern, its rules written out
_STEPS = 1000  # pieces that a short sentence may be tried against, over all patterns: 3 ms
_STEPS_TIMES_LENGTH = 60_000  # the longer the sentence, the dearer a step
_NUMBERS = 8  # of one sentence; hassil compiles and keeps an expression for each
_GUARD = str.maketrans("-_", "\u2011\u203f")
_UNGUARD = str.maketrans("\u2011\u203f", "-_")
_SYNTAX = frozenset("()[]{}<>|;\\")
_CLOSING = ".!?…"
_EDGE = re.compile(r"[\s']+")
_PLAIN_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?|-?\d{1,3}(?:,\d{3})+|\D+")  # no date, no version
_NAME = re.compile(r"\w{1,64}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that reads well. `lists` names what its slots take, and whether that is a list of the vocabulary alone;
    without the `sure` ones it cannot match. `needed` are groups of texts; a sentence has one of each group."""

    text: str
    sentence: Sentence
    lists: Mapping[str, bool]
    sure: frozenset[str]
    needed: frozenset[frozenset[str]]
    vocabulary: Vocabulary


class Vocabulary:
    """The lists and named parts with which the patterns of one agent or plugin are written."""

    def __init__(self) -> None:
        self.lists: dict[str, Words] = {}
        self.rules: dict[str, Sentence] = {}

    def add_list(self, name: str, words: Mapping[str, Scalar]) -> None:
        """Words may have alternatives and optional parts, but no slots. Raises ValueError for what cannot be read."""
        self.lists[_named(name)] = Words(words.items(), syntax=True)

    def add_rule(self, name: str, text: str) -> None:
        """Raises ValueError for what cannot be read by itself; what it refers to is looked at in the patterns."""
        self.rules[_named(name)] = _parsed(text)

    def pattern(self, text: str) -> Pattern:
        """Raises ValueError for a pattern that cannot be read, or that is too large to be tried on every sentence."""
        sentence, reader = _parsed(text), _Reader(self)
        _, sure = reader.read(sentence.expression, ())
        return Pattern(text, sentence, reader.lists, sure, sentence.get_required_clauses(self.rules), self)


class Words:
    """Words and what they mean, found by the first of them: hassil's own index takes 5 KB a word, this 0.3."""

    def __init__(self, pairs: Iterable[tuple[str, Scalar]], *, syntax: bool = False) -> None:
        self._plain: dict[str, list[tuple[str, str, Scalar]]] = {}
        self._patterns: list[TextSlotValue] = []
        for text, value in pairs:
            if syntax and not _SYNTAX.isdisjoint(text):
                self._patterns.append(TextSlotValue(_whole(text), value))
            elif folded := _plain(text).casefold():
                self._plain.setdefault(_EDGE.split(folded)[0], []).append((folded, text, value))

    def within(self, text: str, words: Iterable[str]) -> list[TextSlotValue]:
        """Those that a sentence may hold, long ones first: a "fan heater" is no fan."""
        held = [item for word in words for item in self._plain.get(word, ()) if item[0] in text]
        held.sort(key=lambda item: len(item[0]), reverse=True)
        return [_value(words, value) for _, words, value in held] + self._patterns


@lru_cache(maxsize=64)
def choices(words: tuple[str, ...]) -> Words:
    """Words that mean themselves; kept, since a tool's choices seldom change."""
    return Words((word, word) for word in words)


class Heard:
    """One sentence as patterns see it, and how much more of them it may be tried against."""

    def __init__(self, text: str) -> None:
        plain = _plain(text).lstrip("¿¡")
        self.steps = min(_STEPS, _STEPS_TIMES_LENGTH // max(len(plain), 1))
        self._text = plain.translate(_GUARD)
        self._folded = self._text.casefold()
        self._plain = plain.casefold()
        self._narrowed: dict[Words, list[TextSlotValue]] = {}
        self._words = sorted(set(_EDGE.split(self._plain)))
        self._numbers = [_value(words, value) for words, value in islice(_numbers(plain), _NUMBERS)]

    def may_match(self, pattern: Pattern) -> bool:
        """Cheap, and wrong in one direction only."""
        return self.steps > 0 and all(any(text in self._folded for text in group) for group in pattern.needed)

    def readings(self, pattern: Pattern, own: Mapping[str, Own]) -> Iterator[dict[str, Scalar]]:
        """What each slot is, for each way in which `pattern` matches in full, likely ones first; `own` tells of the tool."""
        lists = {
            name: self._taken(pattern.vocabulary.lists.get(name), own.get(name), alone)
            for name, alone in pattern.lists.items()
        }
        if any(isinstance(slot, _Few) and not slot.values for name, slot in lists.items() if name in pattern.sure):
            return
        settings = _Counted(self, lists, pattern.vocabulary.rules)
        try:
            for found in match_expression(settings, MatchContext(text=self._text + " "), pattern.sentence.expression):
                said = _said(found)
                if said is not None:
                    yield said
        except _Spent:
            return

    def _taken(self, listed: Words | None, own: Own, alone: bool) -> SlotList:
        if listed is None and own is None:
            return WildcardSlotList(name=None)
        values = self._held(listed) if listed else []
        if isinstance(own, Words) and not alone:
            values = values + self._held(own)
        elif own is not None and not alone:
            values = values + self._numbers
        return _Few(None, values)

    def _held(self, words: Words) -> list[TextSlotValue]:
        if words not in self._narrowed:
            self._narrowed[words] = words.within(self._plain, self._words)
        return self._narrowed[words]


class _Spent(Exception):
    """The sentence was tried against enough."""


class _Counted(MatchSettings):
    """Hassil asks whether spaces count for every piece that it tries. There is no other place to stop it."""

    def __init__(self, heard: Heard, lists: dict[str, SlotList], rules: dict[str, Sentence]) -> None:
        self._heard = heard
        self.slot_lists = lists
        self.expansion_rules = rules

    @property
    def ignore_whitespace(self) -> bool:  # type: ignore[override]
        self._heard.steps -= 1
        if self._heard.steps < 0:
            raise _Spent
        return False


class _Few(TextSlotList):
    """Few enough to be tried one by one."""

    def get_candidates(self, text: str) -> list[TextSlotValue]:
        return self.values


class _Reader:
    """Walks a pattern and its rules once: which lists it takes, whether it can be understood and how large it is."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.lists: dict[str, bool] = {}
        self._vocabulary = vocabulary
        self._size = 0

    def read(self, piece: Expression, within: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
        """The slots that `piece` may fill, and the lists that it surely takes a word of."""
        self._size += 1
        if self._size > _LARGEST:
            raise ValueError("it is too large")
        if isinstance(piece, TextChunk):
            piece.text = piece.text.translate(_GUARD)
            return frozenset(), frozenset()
        if isinstance(piece, ListReference):
            return self._slot(piece)
        if isinstance(piece, RuleReference):
            return self._rule(piece.rule_name, within)
        if not isinstance(piece, Group) or not piece.items:
            raise ValueError("an alternative is empty; [brackets] make a part optional")
        slots, sure = zip(*(self.read(item, within) for item in piece.items), strict=True)
        if isinstance(piece, Alternative):
            return frozenset().union(*slots), frozenset.intersection(*sure)
        names = Counter(name for some in slots for name in some)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"the slot {{{twice[0]}}} stands twice")
        return frozenset(names), frozenset().union(*sure)

    def _slot(self, slot: ListReference) -> tuple[frozenset[str], frozenset[str]]:
        name, alone = _named(slot.list_name), slot.list_name != slot.slot_name
        if slot.is_capture or slot.is_inline_range:
            raise ValueError(f"the slot {{{name}}} is neither {{slot}} nor {{list:slot}}")
        if alone and name not in self._vocabulary.lists:
            raise ValueError(f"there is no list {name!r}")
        self.lists[name] = alone or self.lists.get(name, False)
        return frozenset([_named(slot.slot_name)]), frozenset([name])

    def _rule(self, name: str, within: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
        if name not in self._vocabulary.rules:
            raise ValueError(f"there is no rule {name!r}")
        if name in within or len(within) == _DEEPEST_RULES:
            raise ValueError(f"the rule {name!r} is within itself, or too deep within others")
        return self.read(self._vocabulary.rules[name].expression, (*within, name))


def _parsed(text: str) -> Sentence:
    """Raises ValueError."""
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    if max(accumulate((c in "([") - (c in ")]") for c in text), default=0) > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} parentheses or brackets stand within each other")
    try:
        return parse_sentence(_plain(text))
    except (ParseError, AssertionError):  # what hassil says speaks of its own insides
        raise ValueError("its brackets do not pair, or there is nothing in them") from None


def _whole(text: str) -> Expression:
    """Listed words with alternatives; they end where a word ends. Raises ValueError."""
    words = _parsed(text).expression
    slots, _ = _Reader(Vocabulary()).read(words, ())
    if slots:
        raise ValueError("words of a list have no slots")
    return Sequence([words, TextChunk(" ")])


def _value(text: str, value: Scalar) -> TextSlotValue:
    return TextSlotValue(TextChunk(_plain(text).translate(_GUARD) + " "), value)


def _numbers(text: str) -> Iterator[tuple[str, int | float]]:
    """What the sentence itself gives a number to be, in its own words; "20%" too."""
    for start, words, value in stated(text):
        if _PLAIN_NUMBER.fullmatch(words):
            end = start + len(words)
            yield words, value
            if text[end : end + 1] in ("%", "°"):
                yield text[start : end + 1], value


def _said(found: MatchContext) -> dict[str, Scalar] | None:
    """The slots of a reading, or None where text is left over or a free slot ends inside a word."""
    rest, last = found.text.strip(), found.get_open_wildcard()
    if rest and last is None:
        return None
    said: dict[str, Scalar] = {}
    for entity in found.entities:
        text = rest if entity is last else entity.text
        if entity.is_wildcard and (not text.strip() or (entity is not last and not text[-1].isspace())):
            return None
        said[entity.name] = text.strip().translate(_UNGUARD) if entity.is_wildcard else entity.value
    return said


def _plain(text: str) -> str:
    """One line, composed, with one kind of apostrophe and without closing punctuation."""
    return " ".join(unicodedata.normalize("NFC", text).replace("’", "'").split()).rstrip(_CLOSING).rstrip()


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits and _")
    return name
