"""Sentence patterns that answer without any model: `(turn|switch) {state} [the] {device}` -> a call. Pure.

A pattern must match the whole request, letter case and closing punctuation aside, and every slot's value must be one that the
tool admits, else it is as though it had not matched: a reflex is certain or silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edged.agent.grounding import admits, numbers
from edged.domain.errors import ConfigError
from edged.domain.messages import ToolCall
from edged.domain.resources import Phrasebook, ToolSpec

if TYPE_CHECKING:
    from edged.agent.patterns import Own, Pattern

__all__ = ["Reflex", "compile_book", "compile_reflex", "match"]

T = TypeVar("T")

_LONGEST_SENTENCE = 300  # characters; who says more means more than a pattern knows


@dataclass(frozen=True, slots=True)
class Reflex:
    """A pattern that reads well, the tool it calls, and arguments that it fixes. A plugin's patterns call its own tools."""

    pattern: Pattern
    tool: str
    fixed: Mapping[str, Any]
    plugin: str = ""


def compile_reflex(pattern: str, tool: str, fixed: Mapping[str, Any]) -> Reflex:
    """One that needs no lists and rules. Raises ConfigError for a pattern that cannot be read."""
    [reflex] = compile_book(Phrasebook(((pattern, tool, dict(fixed)),)))
    return reflex


def compile_book(book: Phrasebook) -> tuple[Reflex, ...]:
    """Raises ConfigError with the `key`, below that of the agent or plugin, of what cannot be read."""
    if not book.reflexes and not book.lists and not book.rules:
        return ()
    from edged.agent.patterns import Vocabulary  # what has no patterns need not pay for them

    words = Vocabulary()
    for name, listed in book.lists.items():
        _readable(book, f"lists.{name}", words.add_list, name, listed)
    for name, text in book.rules.items():
        _readable(book, f"rules.{name}", words.add_rule, name, text)
    for name in book.rules:
        _readable(book, f"rules.{name}", words.pattern, f"<{name}>")
    reflexes = []
    for place, (text, tool, fixed) in enumerate(book.reflexes):
        pattern = _readable(book, f"reflexes.{place}.pattern", words.pattern, text)
        reflexes.append(Reflex(pattern, tool, dict(fixed), book.plugin))
    return tuple(reflexes)


def match(reflexes: Sequence[Reflex], text: str, specs: Mapping[str, ToolSpec]) -> ToolCall | None:
    """The call of the first pattern that matches `text` in full with admissible arguments."""
    if not reflexes or not text or len(text) > _LONGEST_SENTENCE:
        return None
    from edged.agent.patterns import Heard

    heard, owns = Heard(text), dict[str, Mapping[str, "Own"]]()
    for reflex in reflexes:
        spec = specs.get(reflex.tool)
        if spec is None or reflex.plugin not in ("", spec.plugin) or not heard.may_match(reflex.pattern):
            continue
        own = owns.get(spec.name) or owns.setdefault(spec.name, _own(spec))
        for said in heard.readings(reflex.pattern, own):
            arguments = _arguments(spec, {**said, **reflex.fixed})
            if arguments is not None:
                return ToolCall("reflex-0", reflex.tool, arguments)
    return None


def _own(spec: ToolSpec) -> Mapping[str, Own]:
    """What the tool lets each slot be: it tells where one slot ends and the next begins."""
    properties: dict[str, dict[str, Any]] = spec.parameters.get("properties", {})
    return {name: _words(spec, name, schema) for name, schema in properties.items()}


def _words(spec: ToolSpec, name: str, schema: Mapping[str, Any]) -> Own:
    from edged.agent.patterns import NUMBER, choices

    allowed = _allowed(spec, name, schema)
    if allowed is not None:
        return choices(tuple(str(value) for value in allowed))
    return NUMBER if _numeric(schema) else None


def _allowed(spec: ToolSpec, name: str, schema: Mapping[str, Any]) -> tuple[Any, ...] | None:
    grounding = spec.grounding.get(name)
    if "enum" in schema:
        return tuple(schema["enum"])
    return grounding.choices if grounding and grounding.kind == "choice" else None


def _numeric(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in ("integer", "number")


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
    allowed = _allowed(spec, name, schema)
    if allowed is not None:
        return next((choice for choice in allowed if str(choice).casefold() == str(said).casefold()), None)
    if _numeric(schema):
        values = numbers(said) if isinstance(said, str) else (said,)
        if len(values) != 1 or isinstance(values[0], bool) or not isinstance(values[0], int | float):
            return None
        return values[0] if admits(schema, values[0]) else None
    kind = {"string": str, "boolean": bool}.get(schema.get("type", ""), object)
    return said if isinstance(said, kind) else None


def _readable(book: Phrasebook, key: str, read: Callable[..., T], *what: Any) -> T:
    try:
        return read(*what)
    except ValueError as error:
        where = f"{book.file}: {key}" if book.file else key
        shown = f" {what[0][:80]!r}" if isinstance(what[0], str) else ""
        raise ConfigError(f"{where}:{shown} cannot be read: {error}", file=book.file, key=key) from error
