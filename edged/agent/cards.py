"""What a reader is shown of a tool: a line that says what it does, and one for each argument that it may point at. Pure.

Training and the running daemon write cards with this one function, so the reader meets in service what it learnt from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edged.domain.resources import ToolSpec

__all__ = ["Card", "Slot", "card"]

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MOST_CHOICES = 12
_MOST_SLOTS = 8
_SAMPLES = 2
_MOST_WORDS = 8  # of a parameter's description: the reader's time grows with every one


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter: its `name` in the schema, how it is told, and the few values it may take ((): read off the sentence).

    The reader sees no more than that. The rest makes values of the words it points at (`workers/values`): `kind` is "integer",
    "number", "list" (of `values`), "option" (one of `choices`), or a string's format, "text" without one; `most` is the maximum.
    """

    name: str
    text: str
    choices: tuple[str, ...] = ()
    kind: str = "text"
    values: tuple[str, ...] = ()
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A tool as the reader sees it. `unread` names required parameters that no reader can fill: lists, objects, booleans."""

    tool: str
    head: str
    slots: tuple[Slot, ...]
    unread: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All that the reader sees, as one text."""
        return " ; ".join([self.head, *(" ".join((slot.text, *slot.choices)) for slot in self.slots)])


def card(spec: ToolSpec) -> Card:
    """The card of a tool, its parameters in the order of the schema."""
    properties: dict[str, dict[str, Any]] = spec.parameters.get("properties", {})
    slots = [slot for name, schema in properties.items() if (slot := _slot(spec, name, schema)) is not None]
    read = {slot.name for slot in slots[:_MOST_SLOTS]}
    unread = tuple(name for name in spec.required if name not in read)
    return Card(spec.name, f"{_words(spec.name)} : {spec.description}".lower(), tuple(slots[:_MOST_SLOTS]), unread)


def _slot(spec: ToolSpec, name: str, schema: dict[str, Any]) -> Slot | None:
    told = _words(name) + _told(schema) + (" optional" if name not in spec.required else "")
    if "enum" in schema:
        choices = tuple(schema["enum"])
        if len(choices) <= _MOST_CHOICES and all(isinstance(choice, str) for choice in choices):
            return Slot(name, told, choices, "option")
        return None
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return Slot(name, f"{told} number", kind=kind, most=schema.get("maximum"))
    if kind != "string":
        return None
    form = str(schema.get("format", "text"))
    told += f" {form}"
    grounding = spec.grounding.get(name)
    samples = grounding.choices if grounding is not None else tuple(map(str, schema.get("examples", ())))
    told = f"{told} such as {' , '.join(samples[:_SAMPLES])}" if samples else told
    if grounding is not None and grounding.kind == "choice":
        return Slot(name, told, kind="list", values=grounding.choices)
    return Slot(name, told, kind=form)


def _told(schema: dict[str, Any]) -> str:
    """The first words of a parameter's description, where the schema has one."""
    description = " ".join(str(schema.get("description", "")).lower().split()[:_MOST_WORDS])
    return f" , {description} ," if description else ""


def _words(name: str) -> str:
    return _CAMEL.sub(" ", name).replace("_", " ").replace("-", " ").replace(".", " ").lower()
