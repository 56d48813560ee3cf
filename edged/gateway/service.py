"""What a door needs of the rest: a `Dispatching`, an outbox and named views. The daemon hands in the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edged.domain.messages import Caller, Reply, Request
from edged.store.inbox import Accepted

__all__ = ["Dispatching", "Lessons", "Views"]

# "status", "models", "health": no arguments, JSON-able result or an awaitable of one.
Views = Mapping[str, Callable[[], Any]]


class Lessons(Protocol):
    """What agents are taught, as doors see it. All return {agent, tools: {tool: [sentence, ...]}} and raise `NotFound` and
    `Forbidden`."""

    def taught(self, caller: Caller, agent: str) -> dict[str, Any]: ...
    async def teach(self, caller: Caller, agent: str, tool: str, text: str) -> dict[str, Any]: ...
    async def forget(self, caller: Caller, agent: str, tool: str, text: str) -> dict[str, Any]: ...


class Dispatching(Protocol):
    """The dispatcher as doors see it. All raise `BadRequest` and `Unavailable` kinds."""

    async def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Reply:
        """The final reply, or an interim one (escalated); cancelling cancels the work."""
        ...

    async def accept(self, request: Request) -> Accepted:
        """Durable: committed when it returns."""
        ...

    async def lookup(self, id_or_ticket: str, caller: Caller, wait: float) -> Reply | None:
        """Within `wait` seconds the final reply; else the interim one; else None, still pending. Raises `NotFound`."""
        ...

    def agents(self) -> list[dict[str, Any]]:
        """One map an agent, for listings."""
        ...

    def agent(self, name: str) -> object:
        """Raises `NotFound` for an unknown name; what it returns is not for doors."""
        ...
