"""Protocols that two rooms really implement: `ChatModel` is the local pool and the cloud client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edged.domain.messages import FinishReason, Message, Priority, ToolCall, Usage
from edged.domain.resources import ToolSpec

__all__ = ["ChatModel", "Completion", "Generation"]


@dataclass(frozen=True, slots=True)
class Generation:
    """What to generate.

    `grammar` is an llguidance Lark grammar that the whole output must match, or None. `deadline_monotonic` is in
    `time.monotonic()` seconds. `on_text` gets each piece of text as it is made, on the event loop.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    grammar: str | None = None
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    priority: Priority = Priority.NORMAL
    deadline_monotonic: float | None = None
    request_id: str = ""
    on_text: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What came out. A local model's calls are still in `text` (`agent/dialect` reads them); the cloud's are in `tool_calls`.

    Seconds: `queued` before the worker took it, `load` if the model had to be loaded, `prefill`, `decode`.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    tool_calls: tuple[ToolCall, ...] = ()
    queued_seconds: float = 0.0
    load_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    model: str = ""


class ChatModel(Protocol):
    """Generates one assistant turn. Raises `Unavailable` kinds; cancelling the task cancels the generation."""

    async def generate(self, generation: Generation) -> Completion: ...
