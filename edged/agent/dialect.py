"""How a model family writes tool calls, and reading them back. Pure.

A dialect is the marks around a call as Lark terms: a special token of the vocabulary stands unquoted in angle brackets, ordinary
text is quoted. Reading is strict: what the grammar could not have made is not a call.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from edged.domain.messages import ToolCall

__all__ = ["DIALECTS", "Dialect", "Parsed", "parse"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Lark terms of the marks around a call and of the mark for "no tool here fits". `sound`: the model is of use where
    the reader is in doubt."""

    name: str
    open: str
    close: str
    escalate: str
    sound: bool = True


DIALECTS = {
    # the bundled model: single control tokens. Where the reader is in doubt, one in seven of its calls for strange tools is right
    "edged": Dialect("edged", "<tool_call>", "</tool_call>", "<escalate>", sound=False),
    # Hermes and Qwen: the same words, written out
    "hermes": Dialect("hermes", '"<tool_call>\\n"', '"\\n</tool_call>"', '"<escalate>"'),
}

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a generation says: calls, a tool that it wanted but could not ground, "no tool fits", or plain text."""

    calls: tuple[ToolCall, ...] = ()
    wanted: str | None = None
    missing: tuple[str, ...] = ()
    escalate: bool = False
    text: str = ""
    malformed: bool = False


def parse(text: str, id_prefix: str) -> Parsed:
    """Read one generation. Calls get ids `{id_prefix}-0`, `-1`, ..."""
    if text.strip() == "<escalate>":
        return Parsed(escalate=True)
    bodies = _CALL.findall(text)
    if not bodies:
        return Parsed(malformed=True) if "<tool_call>" in text else Parsed(text=text.strip())
    calls = []
    for index, body in enumerate(bodies):
        value = _object(body)
        if value is None:
            return Parsed(malformed=True)
        if "missing" in value:
            return Parsed(wanted=value["name"], missing=tuple(value["missing"]))
        calls.append(ToolCall(f"{id_prefix}-{index}", value["name"], value["arguments"]))
    return Parsed(calls=tuple(calls))


def _object(body: str) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    if isinstance(value.get("missing"), list) or isinstance(value.get("arguments"), dict):
        return value
    return None
