"""How one tool call is written between its marks: as JSON, as a name with JSON behind it, or in Gemma's own form. Pure.

A body knows where it ends in text that grows (`Extent`) and reads itself back strictly: what the grammar could not have made, a
doubled key, a number that is none or half a character, is no call. A tool that lacks an argument is named with what is missing.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Body", "Extent", "GemmaBody", "Item", "JsonBody", "NamedBody"]

_NAME = r"\s*(?P<name>[^\s{}\[\]?<>\"]{1,128})"
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_KEY = re.compile(r"[^\s{}\[\]:,<>]+")
_WORDS = {"true": True, "false": False, "null": None, "None": None}


@dataclass(frozen=True, slots=True)
class Item:
    """One call, or with `missing` a tool that the model wants and cannot call."""

    name: str
    arguments: dict[str, Any]
    missing: tuple[str, ...] = ()


class Extent:
    """Finds the end of one body in text that grows: after `head` stands a bracketed value, in which `quote` encloses strings.

    Every character is looked at a bounded number of times, however small the pieces are in which the text comes.
    """

    def __init__(self, head: re.Pattern[str], quote: str) -> None:
        self._head = head
        self._quote = quote
        self._outside = re.compile(rf"{re.escape(quote)}|[{{}}\[\]]")
        self._inside = re.compile(rf"\\.|{re.escape(quote)}" if quote == '"' else re.escape(quote), re.DOTALL)
        self._at = -1
        self._depth = 0
        self._quoted = False

    def end(self, text: str) -> int | None:
        """The place after the body, None where `text` does not hold all of it. `text` is that of the last call, or longer."""
        if self._at < 0:
            head = self._head.match(text)
            if head is None:
                return None
            self._at = head.end()
        while found := (self._inside if self._quoted else self._outside).search(text, self._at):
            self._at = found.end()
            self._step(found[0])
            if self._depth == 0:
                return self._at
        self._at = max(self._at, len(text) - len(self._quote) + 1 - (self._quote == '"'))
        return None

    def _step(self, mark: str) -> None:
        if mark == self._quote:
            self._quoted = not self._quoted
        elif not self._quoted:
            self._depth += 1 if mark in "{[" else -1


@dataclass(frozen=True, slots=True)
class JsonBody:
    """`{"name": NAME, KEY: {...}}`, or `{"name": NAME, "missing": [...]}`. With `numbered` an `"id"` of nine letters and digits may
    follow, as Mistral's templates write it."""

    key: str = "arguments"
    comma: str = ", "
    colon: str = ": "
    numbered: bool = False

    @property
    def begins(self) -> str:
        """What every body begins with."""
        return f'{{"name"{self.colon}"'

    def extent(self) -> Extent:
        return Extent(re.compile(r"\s*(?=\{)"), '"')

    def read(self, text: str) -> Item:
        """Raises ValueError."""
        value = _json(text)
        keys = set(value) - ({"id"} if self.numbered else set())
        if keys == {"name", "missing"}:
            return Item(_name(value["name"]), {}, _names(value["missing"]))
        if keys != {"name", self.key}:
            raise ValueError(f"the keys are {sorted(keys)}")
        return Item(_name(value["name"]), _arguments(value[self.key]))


@dataclass(frozen=True, slots=True)
class NamedBody:
    """`NAME[ARGS]{...}`, as Mistral's later models write it; `[CALL_ID]` and nine letters may stand between. `NAME?[...]` names
    what lacks."""

    identifier: str = "[CALL_ID]"
    arguments: str = "[ARGS]"
    comma: str = ", "
    colon: str = ": "

    @property
    def begins(self) -> str:
        return ""

    def extent(self) -> Extent:
        return Extent(self._head(), '"')

    def read(self, text: str) -> Item:
        """Raises ValueError."""
        head = self._head().match(text)
        if head is None:
            raise ValueError("no name and arguments")
        rest = text[head.end() :]
        if head["lacks"]:
            return Item(head["name"], {}, _names(_json(rest)))
        return Item(head["name"], _arguments(_json(rest)))

    def _head(self) -> re.Pattern[str]:
        number = rf"(?:{re.escape(self.identifier)}[A-Za-z0-9]{{9}})?"
        return re.compile(rf"{_NAME}(?:{number}{re.escape(self.arguments)}\s*(?=\{{)|(?P<lacks>\?)(?=\[))")


@dataclass(frozen=True, slots=True)
class GemmaBody:
    """`call:NAME{key:VALUE,...}` with keys in the order of the alphabet, strings between quote marks that escape nothing, and
    everything else bare. `call:NAME?[...]` names what lacks, in JSON."""

    quote: str
    comma: str = ","
    colon: str = ":"

    @property
    def begins(self) -> str:
        return "call:"

    def extent(self) -> Extent:
        return Extent(self._head(), self.quote)

    def read(self, text: str) -> Item:
        """Raises ValueError."""
        head = self._head().match(text)
        if head is None:
            raise ValueError("no name and arguments")
        if head["lacks"]:
            return Item(head["name"], {}, _names(_json(text[head.end() :])))
        value, end = _Bare(text, self.quote).value(head.end())
        if end != len(text) or not isinstance(value, dict):
            raise ValueError("something stands behind the arguments")
        return Item(head["name"], _arguments(value))

    def _head(self) -> re.Pattern[str]:
        return re.compile(rf"\s*call:{_NAME}(?:(?P<lacks>\?)(?=\[)|(?=\{{))")


Body = JsonBody | NamedBody | GemmaBody


class _Bare:
    """Reads Gemma's values. Methods take a place in the text and return a value and the place behind it; raise ValueError."""

    def __init__(self, text: str, quote: str) -> None:
        self._text = text
        self._quote = quote

    def value(self, at: int) -> tuple[Any, int]:
        text = self._text
        if text.startswith(self._quote, at):
            return self._string(at)
        if text.startswith("{", at):
            return self._object(at + 1)
        if text.startswith("[", at):
            return self._array(at + 1)
        if number := _NUMBER.match(text, at):
            return _json(number[0]), number.end()
        for word, value in _WORDS.items():
            if text.startswith(word, at):
                return value, at + len(word)
        raise ValueError("no value")

    def _string(self, at: int) -> tuple[str, int]:
        begin = at + len(self._quote)
        end = self._text.find(self._quote, begin)
        if end < 0:
            raise ValueError("a string without an end")
        return self._text[begin:end], end + len(self._quote)

    def _array(self, at: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        while not self._text.startswith("]", at):
            value, at = self.value(self._past(",", at) if values else at)
            values.append(value)
        return values, at + 1

    def _object(self, at: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while not self._text.startswith("}", at):
            key, at = self._key(self._past(",", at) if found else at)
            if key in found:
                raise ValueError(f"{key} twice")
            found[key], at = self.value(self._past(":", at))
        return found, at + 1

    def _key(self, at: int) -> tuple[str, int]:
        if self._text.startswith(self._quote, at):
            return self._string(at)
        key = _KEY.match(self._text, at)
        if key is None:
            raise ValueError("a value without a key")
        return key[0], key.end()

    def _past(self, mark: str, at: int) -> int:
        if not self._text.startswith(mark, at):
            raise ValueError(f"no {mark}")
        return at + len(mark)


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no name")
    _storable(value)
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("no names of what is missing")
    _storable(value)
    return tuple(value)


def _arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the arguments are no object")
    _storable(value)
    return value


def _storable(value: Any) -> None:
    """Half a surrogate pair could be neither stored nor sent: UnicodeError is a ValueError."""
    json.dumps(value, ensure_ascii=False).encode()
