"""What a door needs behind it: the dispatcher's verbs, and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from edged.domain.messages import Caller, Reply, Request
from edged.store.inbox import Accepted

__all__ = ["Desk", "Views"]

Views = dict[str, Callable[[], Any]]


class Desk(Protocol):
    """The dispatcher, as the doors see it. All verbs raise `BadRequest` and `Unavailable` kinds and nothing else expected."""

    async def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Reply:
        """Answer while the caller waits: a final reply, or an interim one with a ticket. Cancelling cancels the work."""

    async def accept(self, request: Request) -> Accepted:
        """Take it durably; returns after the commit. The reply comes through the outbox."""

    async def lookup(self, ticket_or_id: str, caller: Caller, wait: float) -> Reply | None:
        """The final reply, else the interim one after `wait` seconds, else None. Raises `NotFound`."""

    def agents(self) -> list[dict[str, Any]]:
        """What is configured, as JSON-able maps with a "name"."""
