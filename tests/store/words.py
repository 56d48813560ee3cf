"""Requests, replies and escalations to fill the store with."""

from __future__ import annotations

from edged.domain.messages import Caller, Priority, Reply, ReplyStatus, Request
from edged.store.escalations import Escalation

NOW = 1_800_000_000.0


def request(
    name: str,
    *,
    door: str = "mqtt",
    text: str = "is the tea in stock?",
    priority: Priority = Priority.NORMAL,
    deadline: float | None = None,
    at: float = NOW,
) -> Request:
    caller = Caller("till-1", door=door)
    return Request(name, "kiosk", text, caller, at, deadline, priority, durable=True, route={"topic": f"reply/{name}"})


def reply(name: str, text: str = "yes") -> Reply:
    return Reply(name, "kiosk", ReplyStatus.DONE, text)


def failed(name: str) -> Reply:
    return Reply(name, "kiosk", ReplyStatus.FAILED, error={"code": "escalation_expired", "detail": "too late"})


def interim(name: str, ticket: str) -> Reply:
    return Reply(name, "kiosk", ReplyStatus.ESCALATED, finish_reason="escalated", ticket=ticket)


def escalation(of: Request, ticket: str, *, expires_at: float = NOW + 3600) -> Escalation:
    return Escalation(ticket, of, NOW, expires_at)
