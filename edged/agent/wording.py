"""Putting a tool's result into words, and seeing to it that no word is invented. Pure.

Three ways, in this order: the tool's own `say` template; the model's phrasing, if every number and name in it occurs in the
result or the call; the bare result. A device may be curt but it may not make things up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edged.domain.messages import ToolCall, ToolResult
from edged.domain.resources import ToolSpec

__all__ = ["bare", "facts", "faithful", "said"]

_NUMERIC = re.compile(r"[\w.,:%€$£-]*\d[\w.,:%€$£-]*")
_CAPITALISED = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w-]*")
_WORD = re.compile(r"\w+")


def said(spec: ToolSpec, call: ToolCall, result: ToolResult, language: str) -> str | None:
    """The tool's template filled in, or None if it has none for this outcome and language, or a field is absent."""
    template = _in(language, spec.say if result.ok else spec.say_error)
    if template is None:
        return None
    content = result.content if isinstance(result.content, Mapping) else {"result": result.content}
    try:
        return template.format_map({**call.arguments, **content, "error": result.error or ""})
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return None


def _in(language: str, template: str | Mapping[str, str] | None) -> str | None:
    """A template without a language serves all; of several, the agent's, then that of its language without the country."""
    if template is None or isinstance(template, str):
        return template
    return template.get(language) or template.get(language.partition("-")[0])


def bare(result: ToolResult) -> str:
    """The result as "field: value" pairs, or the error's sentence."""
    if not result.ok:
        return result.error or "The tool failed."
    if isinstance(result.content, Mapping):
        return ", ".join(f"{_plain(key)}: {_plain(value)}" for key, value in result.content.items())
    return _plain(result.content)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " and ".join(map(_plain, value))
    return str(value).replace("_", " ")


def facts(call: ToolCall, result: ToolResult) -> tuple[str, ...]:
    """Every scalar that an answer may state, as text."""
    return tuple(dict.fromkeys((*_scalars(result.content), *_scalars(call.arguments))))


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _scalars(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _scalars(item)
    elif value is not None:
        yield str(value)


def faithful(text: str, known: Iterable[str], names: Iterable[str] = ()) -> bool:
    """True if every number, every capitalised word inside a sentence and every one of `names` (products, devices, zones: what
    the plugins could have supplied) that occurs in `text` also occurs in `known`."""
    stated = " ".join(known).lower()
    numerals = {word.strip(".,:%€$£-") for word in _NUMERIC.findall(stated)}
    if any(word.strip(".,:%€$£-").lower() not in numerals for word in _NUMERIC.findall(text)):
        return False
    words = set(_WORD.findall(stated))
    if any(
        part not in words for name in _CAPITALISED.findall(text) for part in _WORD.findall(name.lower()) if name != "I"
    ):
        return False
    padded, stated = f" {_spaced(text)} ", f" {_spaced(stated)} "
    return bool(text.strip()) and not any(
        f" {_spaced(name)} " in padded and f" {_spaced(name)} " not in stated for name in names
    )


def _spaced(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
