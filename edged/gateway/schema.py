"""What callers may send, and the settings of the doors. Everything from outside passes through here before it is a `Request`.

The rule: whatever bytes come, the outcome is a `Request` or a `BadRequest`, never another exception.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edged.domain.errors import BadRequest, TooLarge
from edged.domain.messages import Caller, Priority, Request

__all__ = [
    "BODY_LIMIT",
    "Ask",
    "Example",
    "HttpAsk",
    "MqttSettings",
    "Said",
    "TlsSettings",
    "checked_id",
    "checked_name",
    "parse",
]

BODY_LIMIT: Final = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_.:~-]{1,128}", re.ASCII)

A = TypeVar("A", bound="Said")
_LONGEST_EXAMPLE: Final = 500


class Said(BaseModel):
    """Any body in which somebody says something."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str = Field(min_length=1)


class Example(Said):
    """A sentence and the tool that it asks for."""

    text: str = Field(min_length=1, max_length=_LONGEST_EXAMPLE)
    tool: str = Field(min_length=1, max_length=200)


class Ask(Said):
    """A request's body, as every door takes it."""

    id: str | None = None
    deadline_seconds: float | None = Field(default=None, gt=0, le=30 * 86400, strict=False, allow_inf_nan=False)
    priority: Literal["high", "normal", "low"] = "normal"
    session: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:~-]{1,128}$")
    escalate: bool = False

    def request(
        self,
        request_id: str,
        agent: str,
        caller: Caller,
        now: float,
        *,
        durable: bool,
        route: dict[str, Any] | None = None,
    ) -> Request:
        """The core's form of it; `now` is Unix seconds."""
        return Request(
            id=request_id,
            agent=agent,
            text=self.text,
            caller=caller,
            accepted_at=now,
            deadline=None if self.deadline_seconds is None else now + self.deadline_seconds,
            priority=Priority(self.priority),
            session=self.session,
            durable=durable,
            escalate=self.escalate,
            route=route or {},
        )


class HttpAsk(Ask):
    """Over HTTP the caller also says how it waits."""

    mode: Literal["wait", "stream", "ticket"] = "wait"


def parse(kind: type[A], body: bytes) -> A:
    """`body` as JSON of this kind. Raises `BadRequest` that names the first wrong key, or `TooLarge`."""
    if len(body) > BODY_LIMIT:
        raise TooLarge(f"a request may have {BODY_LIMIT} bytes", limit=BODY_LIMIT)
    try:
        ask = kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{where or 'the body'}: {first['msg']}", key=where) from None
    if not ask.text.strip():
        raise BadRequest("text: must not be blank", key="text")
    return ask


def checked_name(name: str, what: str) -> str:
    """The name of an agent or a client: it becomes part of topics and keys, so only harmless characters. Raises `BadRequest`."""
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{what}: a name has 1 to 64 of A-Z a-z 0-9 _ . -", key=what)
    return name


def checked_id(value: str) -> str:
    """A caller's idempotency key; it must survive a URL. Raises `BadRequest`."""
    if not _ID.fullmatch(value):
        raise BadRequest("id: an id has 1 to 128 of A-Z a-z 0-9 _ . : ~ -", key="id")
    return value


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How the broker is trusted; an empty `ca_file` means the system's own. A client certificate is optional."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """The MQTT door. `device` names this device in topics; times are seconds.

    `receive_maximum` bounds requests that are not acknowledged yet, `send_maximum` replies that the broker has not
    acknowledged, `loose_maximum` QoS 0 requests at work.
    """

    device: str
    host: str = "localhost"
    port: int = 1883
    client_id: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tls: TlsSettings | None = None
    keepalive: int = 60
    session_expiry: int = 7 * 86400
    receive_maximum: int = 32
    send_maximum: int = 16
    loose_maximum: int = 8
    rate: float = 50.0
    burst: int = 200
    roles: dict[str, str] = field(default_factory=dict)
    connect_timeout: float = 10.0
    backoff_base: float = 1.0
    backoff_cap: float = 60.0
