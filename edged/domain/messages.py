"""What travels between rooms: requests, replies, chat messages, tool calls, events.

All are frozen, slotted dataclasses of JSON-able values, so a row, a frame and a log line can carry each of them.
Times are Unix seconds (float) unless a name says `monotonic`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from edged.domain.power import Energy

__all__ = [
    "Caller",
    "Event",
    "Message",
    "Priority",
    "Reply",
    "ReplyStatus",
    "Request",
    "Stage",
    "Tier",
    "ToolCall",
    "ToolResult",
    "Usage",
]

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "escalated", "cancelled", "error"]


class Tier(StrEnum):
    """Which part of the cascade answered."""

    REFLEX = "reflex"
    INTENT = "intent"
    MODEL = "model"
    CLOUD = "cloud"


class Priority(StrEnum):
    """Three classes; inside one, the earliest deadline goes first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 is the most urgent."""
        return (Priority.HIGH, Priority.NORMAL, Priority.LOW).index(self)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the door vouches for it. `door` is "http" or "mqtt"."""

    id: str
    role: str = "user"
    door: str = "http"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call a model made."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned: `content` when `ok`, else `error` (a sentence for the model and the user)."""

    call_id: str
    name: str
    ok: bool
    content: Any = None
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Message:
    """A chat message in OpenAI's terms."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Plain maps for frames: chat templates and workers read these keys."""
        wire: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            wire["tool_calls"] = [asdict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            wire["tool_call_id"] = self.tool_call_id
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Message:
        calls = tuple(ToolCall(**call) for call in wire.get("tool_calls", ()))
        return cls(wire["role"], wire.get("content", ""), calls, wire.get("tool_call_id"))


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one agent.

    `id` is the caller's idempotency key, or one the door made; duplicates are judged by (caller.id, id).
    `deadline` is Unix seconds. `durable` requests are in the inbox before they are acknowledged. `route` is the door's
    own note of where the reply goes (a response topic and correlation data), opaque to every other room.
    """

    id: str
    agent: str
    text: str
    caller: Caller
    accepted_at: float
    deadline: float | None = None
    priority: Priority = Priority.NORMAL
    session: str | None = None
    durable: bool = False
    escalate: bool = False
    route: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The one name of this request in the store: two callers may choose the same id."""
        return f"{self.caller.door}:{self.caller.id}:{self.id}"

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Request:
        rest = dict(wire)
        return cls(caller=Caller(**rest.pop("caller")), priority=Priority(rest.pop("priority")), **rest)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all generations of one request. `cached` were in the KV prefix and cost no prefill."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


@dataclass(frozen=True, slots=True)
class Stage:
    """One timed part of a request: "reflex", "intent", "prefill", "decode", "tool:NAME", "queue", "cloud"."""

    name: str
    seconds: float


class ReplyStatus(StrEnum):
    """`ESCALATED` is interim: it carries a ticket and is followed by `DONE` or `FAILED`."""

    DONE = "done"
    ESCALATED = "escalated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request. `energy` is None unless energy is accounted for.

    `first_token_seconds` is how long a model took to its first token, waiting and loading included; None where none was asked.
    `dropped_messages` is how many of the conversation's the agent's overflow policy left out.
    """

    request_id: str
    agent: str
    status: ReplyStatus
    text: str = ""
    tier: Tier | None = None
    finish_reason: FinishReason = "stop"
    ticket: str | None = None
    error: dict[str, Any] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    stages: tuple[Stage, ...] = ()
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    energy: Energy | None = None
    first_token_seconds: float | None = None
    dropped_messages: int = 0

    def to_wire(self) -> dict[str, Any]:
        wire = asdict(self)
        return {k: v for k, v in wire.items() if v is not None}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Reply:
        rest = dict(wire)
        return cls(
            status=ReplyStatus(rest.pop("status")),
            tier=Tier(rest.pop("tier")) if rest.get("tier") else rest.pop("tier", None),
            tool_calls=tuple(ToolCall(**c) for c in rest.pop("tool_calls", ())),
            tool_results=tuple(ToolResult(**r) for r in rest.pop("tool_results", ())),
            stages=tuple(Stage(**s) for s in rest.pop("stages", ())),
            usage=Usage(**rest.pop("usage", {})),
            energy=Energy(**rest.pop("energy")) if rest.get("energy") else rest.pop("energy", None),
            **rest,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """What a plugin, a timer or a sensor topic emits; delivered through the outbox to every door that listens.

    `key` makes emission idempotent: the same (source, key) is announced once.
    """

    source: str
    kind: str
    key: str
    text: str
    at: float
    data: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Event:
        return cls(**wire)
