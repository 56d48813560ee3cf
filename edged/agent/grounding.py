"""What the words of a request let a tool's arguments be. Pure.

Small models choose well and copy badly, so an argument that can be read off the request is never left to them: a number
must be one that the request states, a choice one of the plugin's that the request mentions, free text a run of its words. A
required argument that the request cannot supply makes the tool uncallable here, whatever the model would like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from edged.domain.resources import ToolSpec

__all__ = ["Argument", "Offer", "admits", "ground", "implied", "mentioned", "numbers", "stated"]

_ONES = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split(),
        range(20),
        strict=True,
    )
)
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[ -]+(?:{'|'.join(list(_ONES)[1:10])})\b)?|(?:{'|'.join(reversed(_ONES))}))"
# A numeral may be followed by a unit ("20c", "5kg") but not be the tail of a code ("A42", "12-7") or of a time ("9:30").
_NUMERAL = re.compile(r"(?<![\w.:,-])-?\d+(?:[.,]\d+)*(?![\d:-])")
_SPELLED = re.compile(
    rf"\b(?:(?:{_BELOW_100}|an?)[ -]+hundred(?:[ -]+(?:and[ -]+)?{_BELOW_100})?|{_BELOW_100})\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W_]+(?:['.][^\W_]+)*")
_SMALL_WORDS = frozenset("a an and at for from in is of on or the to with my our your".split())
_BEYOND_NUMBERS = 2**53  # frames, JSON and SQLite carry no larger integer unharmed
_LONGEST_NUMERAL = 40
_CLOSE_ENOUGH = 0.84  # SequenceMatcher ratio of "headfones" to "headphones" is 0.84; of "light" to "right" 0.8


@dataclass(frozen=True, slots=True)
class Argument:
    """What one parameter may be: `values` (JSON scalars) when it is one of a few, else a span of `source`, else by schema.

    `read` says that the values were read off the request: then each is meant for one parameter only.
    """

    name: str
    required: bool
    values: tuple[Any, ...] | None = None
    source: str | None = None
    schema: dict[str, Any] | None = None
    read: bool = False

    @property
    def possible(self) -> bool:
        return self.values != () and self.source != ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool and what its arguments may be for one request. `missing` names required arguments that it does not state."""

    name: str
    arguments: tuple[Argument, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.arguments if a.required and not a.possible)


def ground(spec: ToolSpec, text: str) -> Offer:
    """Read off `text` what each parameter of `spec` may be, in the order of its schema."""
    properties: dict[str, dict[str, Any]] = spec.parameters.get("properties", {})
    amounts = _without_names(spec, text)
    arguments: list[Argument] = []
    for name, schema in properties.items():
        argument = _argument(spec, name, schema, text, amounts)
        rivals = sum(a.read and a.values == argument.values for a in arguments)
        if argument.read and argument.values and rivals >= len(argument.values):
            argument = replace(argument, values=())  # "convert 5 to miles" names one unit, and two are needed
        arguments.append(argument)
    return Offer(spec.name, _heeded(arguments, spec, amounts))


def _heeded(arguments: list[Argument], spec: ToolSpec, amounts: str) -> tuple[Argument, ...]:
    """Where a tool takes one number and the request states some, it is no longer optional: "order two power banks" must not
    become an order for one."""
    numeric = [a for a in arguments if (g := spec.grounding.get(a.name)) is not None and g.kind == "number"]
    if len(numeric) == 1 and numeric[0].values and numbers(amounts):
        return tuple(replace(a, required=True) if a is numeric[0] else a for a in arguments)
    return tuple(arguments)


def _without_names(spec: ToolSpec, text: str) -> str:
    """`text` without the digits of what it names: the 4 of a "4k monitor" is no amount."""
    for grounding in spec.grounding.values():
        for choice in mentioned(grounding.choices, text) if grounding.kind == "choice" else ():
            for word in choice.split():
                if any(character.isdigit() for character in word):
                    text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", " ", text, flags=re.IGNORECASE)
    return text


def _argument(spec: ToolSpec, name: str, schema: dict[str, Any], text: str, amounts: str) -> Argument:
    required, grounding = name in spec.required, spec.grounding.get(name)
    if "enum" in schema:
        return Argument(name, required, values=tuple(schema["enum"]))
    if grounding is None:
        return Argument(name, required, schema=schema)
    if grounding.kind == "choice":
        return Argument(name, required, values=mentioned(grounding.choices, text), read=True)
    if grounding.kind == "number":
        stated = numbers(amounts) or implied(amounts)
        return Argument(name, required, values=tuple(v for v in stated if admits(schema, v)), read=True)
    return Argument(name, required, source=text.strip())


def admits(schema: dict[str, Any], value: float) -> bool:
    """Whether a number lies within the bounds of `schema` and is whole where it has to be."""
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
    return bool(low <= value <= high) and (schema.get("type") != "integer" or isinstance(value, int))


def numbers(text: str) -> tuple[int | float, ...]:
    """The numbers that `text` states, as numerals or in words, each once, in order of appearance."""
    return tuple(dict.fromkeys(value for _, _, value in stated(text)))


def stated(text: str) -> list[tuple[int, str, int | float]]:
    """Where `text` states a number, in which words, and the number; in order of appearance."""
    found: list[tuple[int, str, int | float]] = [(m.start(), m[0], _numeral(m[0])) for m in _NUMERAL.finditer(text)]
    found += [(m.start(), m[0], _spelled(m[0])) for m in _SPELLED.finditer(text)]
    return [item for item in sorted(found, key=lambda item: item[0]) if abs(item[2]) < _BEYOND_NUMBERS]


def implied(text: str) -> tuple[int, ...]:
    """The number that a text without numbers means: "a couple", "a dozen", or one in "set a timer for an hour"."""
    if _NUMERAL.search(text):  # it has one, be it beyond all use
        return ()
    lower = text.lower()
    for pattern, value in ((r"\b(couple|pair)\b", 2), (r"\bdozen\b", 12), (r"\ban?\b", 1)):
        if re.search(pattern, lower):
            return (value,)
    return ()


def _numeral(text: str) -> int | float:
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    text = text.replace(",", ".")
    if len(text) > _LONGEST_NUMERAL:  # Python refuses to read thousands of digits as an integer
        return math.inf
    if text.count(".") > 1:  # a date or a version: the leading part is all that is a number
        text = text.split(".")[0]
    return float(text) if "." in text else int(text)


def _spelled(text: str) -> int:
    total = 0
    for word in re.findall(r"[a-z]+", text.lower()):
        if word == "hundred":
            total = max(total, 1) * 100
        else:
            total += _ONES.get(word, 0) + _TENS.get(word, 0)
    return total


def mentioned(choices: Iterable[str], text: str) -> tuple[str, ...]:
    """The choices whose words `text` mentions, spelling mistakes and plurals forgiven.

    Those mentioned in full come alone, without the ones that a longer one contains ("light" beside "kitchen light") or
    that a more exact one matches too ("mile" beside "miles"); else those that share most of their words.
    """
    words = [word.lower() for word in _WORD.findall(text)]
    stems = [_stem(word) for word in words]
    found = {choice: _mention(choice, words, stems) for choice in choices}
    full = {choice: mention for choice, mention in found.items() if mention.share == 1.0}
    if full:
        return tuple(c for c, m in full.items() if not any(other.outdoes(m) for other in full.values()))
    best = max((mention.share for mention in found.values()), default=0.0)
    return tuple(choice for choice, mention in found.items() if mention.share == best and best >= 0.5)


@dataclass(frozen=True, slots=True)
class _Mention:
    """How a text mentions a choice: the share of its words, where they stand, and how many are letter for letter."""

    share: float
    places: frozenset[int]
    exact: int

    def outdoes(self, other: _Mention) -> bool:
        return other.places < self.places or (other.places == self.places and other.exact < self.exact)


def _mention(choice: str, words: Sequence[str], stems: Sequence[str]) -> _Mention:
    own = _words_of(choice)
    places: set[int] = set()
    met = exact = 0
    for word, stem in own:
        at = [place for place, other in enumerate(stems) if _alike(stem, other)]
        met, exact = met + bool(at), exact + any(words[place] == word for place in at)
        places.update(at)
    return _Mention(met / len(own), frozenset(places), exact)


@lru_cache(maxsize=4096)
def _words_of(choice: str) -> tuple[tuple[str, str], ...]:
    """The words of a choice that tell it from others, with their stems."""
    words = [word for word in _WORD.findall(choice.lower()) if word not in _SMALL_WORDS] or [choice.lower()]
    return tuple((word, _stem(word)) for word in words)


@lru_cache(maxsize=16384)
def _alike(one: str, other: str) -> bool:
    if one == other:
        return True
    if min(len(one), len(other)) < 4 or abs(len(one) - len(other)) > 2 or not (one.isalpha() and other.isalpha()):
        return False
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= _CLOSE_ENOUGH


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word
