"""Models and tools that do what a script says, over a real record of effects and sessions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from edged.agent.router import Router
from edged.agent.runner import Runner
from edged.domain.messages import Caller, Request, ToolCall, ToolResult, Usage
from edged.domain.ports import ChatModel, Completion, Generation
from edged.domain.resources import Agent, Phrasebook, ToolSpec
from edged.store.database import Database
from edged.store.effects import Effects
from edged.store.sessions import Sessions

NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
STOCK = ToolSpec("stock", "Count", NOTHING, say="There are {n}.", say_error="Sorry: {error}")
ORDER = ToolSpec("order", "Order", NOTHING, say="Ordered {n}.", idempotent=False)
CALL = '<tool_call>{"name":"%s","arguments":{}}</tool_call>'


class Model:
    """Says the next thing; an exception is raised."""

    def __init__(self, *says: str | Completion | BaseException) -> None:
        self._says = deque(says)
        self.asked: list[Generation] = []

    async def generate(self, generation: Generation) -> Completion:
        self.asked.append(generation)
        said = self._says.popleft()
        if isinstance(said, BaseException):
            raise said
        if isinstance(said, str):
            return Completion(said, "stop", Usage(10, 2, 3), prefill_seconds=0.25, decode_seconds=0.5)
        return said


class Tools:
    """Every tool returns {"n": 3}, unless `outcomes` has something for its name: a result's error, or an exception."""

    def __init__(self, *specs: ToolSpec) -> None:
        self._specs = list(specs)
        self.called: list[str] = []
        self.outcomes: dict[str, str | BaseException] = {}

    async def specs(self, names: list[str]) -> list[ToolSpec]:
        return self._specs

    async def call(self, call: ToolCall, *, request_id: str, deadline_monotonic: float | None = None) -> ToolResult:
        self.called.append(call.name)
        outcome = self.outcomes.get(call.name)
        if isinstance(outcome, BaseException):
            raise outcome
        return ToolResult(call.id, call.name, outcome is None, {"n": 3} if outcome is None else None, outcome, 0.125)


def router(
    db: Database,
    agent: Agent,
    tools: Tools,
    local: Model,
    cloud: ChatModel | None = None,
    dialect: str = "edged",
    phrases: Sequence[Phrasebook] = (),
    **more: Any,
) -> Router:
    runner, sessions = Runner(tools, Effects(db)), Sessions(db)
    return Router(
        {agent.name: agent}, tools, runner, local, cloud, sessions, lambda _: dialect, phrases=phrases, **more
    )


def ask(text: str = "how many are there?", **more: Any) -> Request:
    return Request("r", "kiosk", text, Caller("till"), 0.0, **more)


def wanting(*names: str) -> Completion:
    """What the cloud says when it wants tools called."""
    calls: Sequence[ToolCall] = [ToolCall(f"c-{n}", name, {}) for n, name in enumerate(names)]
    return Completion("", "tool_calls", Usage(100, 0, 10), tool_calls=tuple(calls), model="far")
