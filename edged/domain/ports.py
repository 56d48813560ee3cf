"""Protocols that two rooms really implement: `ChatModel` is the local pool and the cloud client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edged.domain.messages import FinishReason, Message, Priority, ToolCall, Usage
from edged.domain.resources import ToolSpec

__all__ = ["ChatModel", "Completion", "Generation", "Sampling"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 takes the likeliest. `top_k` 0, `top_p` 1 and `min_p` 0 switch those off, as a
    `repeat_penalty` of 1 and the other penalties at 0 do; they count what this generation has made, not its prompt.
    `stop` strings end the text and are no part of it. `logprobs` is how many alternatives are told, None for nothing.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    @property
    def penalizes(self) -> bool:
        return (self.repeat_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Generation:
    """What to generate.

    `grammar` is an llguidance grammar that the whole output must match, or None: Lark as a string, or {"kind": "lark" |
    "json_schema" | "regex", "source"}. With `triggers` it binds only from the first of these strings on, which begins it.
    The first `fixed` messages and the tools are the same in all requests of `agent`: what they cost is paid once.
    `overflow` says what becomes of a prompt that is too long. `deadline_monotonic` is in `time.monotonic()` seconds.
    `on_text` gets each piece of text as it is made, on the event loop.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    grammar: str | dict[str, Any] | None = None
    triggers: tuple[str, ...] = ()
    max_tokens: int = 128
    sampling: Sampling = Sampling()
    priority: Priority = Priority.NORMAL
    agent: str = ""
    fixed: int = 0
    adapter: str | None = None
    overflow: Literal["error", "drop_oldest"] = "error"
    deadline_monotonic: float | None = None
    request_id: str = ""
    on_text: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What came out. A local model's calls are still in `text` (`agent/dialect` reads them); the cloud's are in `tool_calls`.

    Seconds: `queued` before the worker took it, `load` if the model had to be loaded, `prefill`, `decode`. `dropped_messages`
    is how many the overflow policy left out. `logprobs` has an entry a token, in OpenAI's shape, when they were asked for.
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
    dropped_messages: int = 0
    logprobs: tuple[dict[str, Any], ...] = ()


class ChatModel(Protocol):
    """Generates one assistant turn. Raises `Unavailable` kinds; cancelling the task cancels the generation."""

    async def generate(self, generation: Generation) -> Completion: ...
