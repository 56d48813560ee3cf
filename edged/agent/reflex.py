"""Sentence patterns that answer without any model: `(turn|switch) {state} the {device}` -> a call. Pure.

A pattern is a sentence with alternatives in parentheses, optional parts in brackets and slots in braces. It must match the whole
request, letter case and closing punctuation aside, and every slot's value must be one that the tool admits, else it is as
though it had not matched: a reflex is certain or silent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edged.agent.grounding import numbers
from edged.domain.errors import ConfigError
from edged.domain.messages import ToolCall
from edged.domain.resources import ToolSpec

__all__ = ["Reflex", "compile_reflex", "match"]

_TOKEN = re.compile(r"\{(\w+)\}|\s+|[()|\[\]]|[^\s(){}|\[\]]+")


@dataclass(frozen=True, slots=True)
class Reflex:
    """A pattern that reads well, the tool it calls, and arguments that the pattern itself fixes."""

    pattern: str
    tool: str
    fixed: Mapping[str, Any]


def compile_reflex(pattern: str, tool: str, fixed: Mapping[str, Any]) -> Reflex:
    """Raises ConfigError for a pattern that cannot be read."""
    try:
        _compiled(pattern, ())
    except (ValueError, re.error) as error:
        raise ConfigError(f"reflex {pattern!r}: {error}", key="reflexes") from error
    return Reflex(pattern, tool, dict(fixed))


def match(reflexes: Sequence[Reflex], text: str, specs: Mapping[str, ToolSpec]) -> ToolCall | None:
    """The call of the first pattern that matches `text` in full with admissible arguments."""
    sentence = text.strip().rstrip(".!?").strip()
    for reflex in reflexes:
        spec = specs.get(reflex.tool)
        if spec is None:
            continue
        found = _compiled(reflex.pattern, _allowed(spec)).fullmatch(sentence)
        arguments = _arguments(spec, {**found.groupdict(), **reflex.fixed}) if found else None
        if arguments is not None:
            return ToolCall("reflex-0", reflex.tool, arguments)
    return None


def _allowed(spec: ToolSpec) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Slots that take one of a few values, and those values: they tell where one slot ends and the next begins."""
    properties: dict[str, dict[str, Any]] = spec.parameters.get("properties", {})
    return tuple((name, values) for name, schema in properties.items() if (values := _values(spec, name, schema)))


def _values(spec: ToolSpec, name: str, schema: Mapping[str, Any]) -> tuple[str, ...]:
    grounding = spec.grounding.get(name)
    return tuple(schema.get("enum", ())) or (grounding.choices if grounding and grounding.kind == "choice" else ())


@lru_cache(maxsize=512)
def _compiled(pattern: str, allowed: tuple[tuple[str, tuple[str, ...]], ...]) -> re.Pattern[str]:
    parts, end, values = [], 0, dict(allowed)
    for token in _TOKEN.finditer(pattern):
        if token.start() != end:
            raise ValueError(f"cannot read {pattern[end : token.start()]!r}")
        end = token.end()
        parts.append(_part(token, values))
    if end != len(pattern):
        raise ValueError(f"cannot read {pattern[end:]!r}")
    return re.compile("".join(parts), re.IGNORECASE)


def _part(token: re.Match[str], values: Mapping[str, Sequence[str]]) -> str:
    text = token.group()
    if token[1]:
        known = values.get(token[1])
        inner = "|".join(map(re.escape, map(str, known))) if known else r"\S(?:.*?\S)?"
        return rf"(?<!\S)(?P<{token[1]}>{inner})(?!\S)"  # whole words only
    if text.isspace():
        return r"\s*"  # an optional part leaves its space behind; the words around it keep their own edges
    if text in "()|":
        return "(?:" if text == "(" else text
    if text in "[]":
        return "(?:" if text == "[" else ")?"
    return rf"\b{re.escape(text)}\b" if text.isalnum() else re.escape(text)


def _arguments(spec: ToolSpec, said: Mapping[str, Any]) -> dict[str, Any] | None:
    properties: dict[str, dict[str, Any]] = spec.parameters.get("properties", {})
    arguments: dict[str, Any] = {}
    for name, schema in properties.items():
        if said.get(name) is None:
            if name in spec.required:
                return None
            continue
        value = _admitted(spec, name, schema, said[name])
        if value is None:
            return None
        arguments[name] = value
    return arguments


def _admitted(spec: ToolSpec, name: str, schema: dict[str, Any], said: Any) -> Any:
    """The value in the tool's own spelling, or None."""
    if allowed := _values(spec, name, schema):
        return next((choice for choice in allowed if str(choice).lower() == str(said).lower()), None)
    if schema.get("type") in ("integer", "number") and isinstance(said, str):
        stated = numbers(said)
        whole = schema["type"] == "number" or (len(stated) == 1 and isinstance(stated[0], int))
        return stated[0] if len(stated) == 1 and whole else None
    return said
