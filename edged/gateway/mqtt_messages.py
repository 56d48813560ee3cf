"""What MQTT topics, properties and payloads mean. Pure: bytes in, a `Request` or a `BadRequest` out; no broker, no clock.

A subscriber cannot know who published. The client's name is the last level of the topic, and the broker's ACL
(`pattern write edged/+/agents/+/request/%u`) is what vouches for it.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, Final

from edged.domain.errors import BadRequest, EdgedError, TooLarge
from edged.domain.messages import Caller, Priority, Reply, ReplyStatus, Request

__all__ = ["DOOR", "Address", "Properties", "Route", "Topics", "decode", "encode", "failed", "read_request", "read_route"]

DOOR: Final = "mqtt"
_JSON: Final = "application/json"
_MSGPACK: Final = "application/msgpack"
_KINDS: Final = {
    _JSON: "json",
    "text/json": "json",
    _MSGPACK: "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    "text/plain": "text",
}
_LONGEST_ID: Final = 128
_LONGEST_TOPIC: Final = 1024
_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "text": (str,),
    "id": (str,),
    "session": (str,),
    "priority": (str,),
    "deadline_seconds": (int, float),
    "escalate": (bool,),
}


@dataclass(frozen=True, slots=True)
class Properties:
    """The MQTT 5 properties of a request; `expiry` is in seconds, as the broker counted it down."""

    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry: int | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Who asks which agent, as the topic says it."""

    agent: str
    client: str

    @property
    def caller(self) -> Caller:
        """Colons part the fields of a request's key, so they are written differently: clients named by a MAC have them."""
        return Caller(id=self.client.replace("%", "%25").replace(":", "%3A"), door=DOOR)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a reply goes and how it is written; it travels with the request as a plain map."""

    topic: str
    correlation: bytes | None = None
    kind: str = "json"

    def to_wire(self) -> dict[str, Any]:
        correlation = None if self.correlation is None else self.correlation.hex()
        return {"topic": self.topic, "correlation": correlation, "kind": self.kind}

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Route:
        correlation = wire.get("correlation")
        known = None if correlation is None else bytes.fromhex(correlation)
        return cls(wire["topic"], known, wire.get("kind", "json"))

    @property
    def content_type(self) -> str:
        return _MSGPACK if self.kind == "msgpack" else _JSON


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device."""

    device: str

    @property
    def requests(self) -> str:
        """The filter to subscribe to."""
        return f"edged/{self.device}/agents/+/request/+"

    @property
    def status(self) -> str:
        return f"edged/{self.device}/status"

    def events(self, source: str) -> str:
        """A source is a plugin's word and must not add levels or wildcards."""
        return f"edged/{self.device}/events/{source.translate({ord(c): '_' for c in '/+#' + chr(0)})}"

    def reply(self, address: Address) -> str:
        """Where replies go that name no response topic."""
        return f"edged/{self.device}/agents/{address.agent}/reply/{address.client}"

    def parse(self, topic: str) -> Address | None:
        """None for a topic that is no request of this device."""
        match topic.split("/"):
            case ["edged", self.device, "agents", agent, "request", client] if agent and client:
                return Address(agent, client)
        return None


def read_route(topics: Topics, address: Address, properties: Properties) -> Route:
    """Raises `BadRequest` for a response topic that the caller may not choose.

    We publish with our rights, not the caller's: a caller who could name any topic below edged/ could have a reply sent
    as a request of somebody else, or as a status.
    """
    own, topic = topics.reply(address), properties.response_topic
    kind = _KINDS.get(_media_type(properties), "json")
    if topic is None or topic == own or topic.startswith(f"{own}/"):
        topic = own if topic is None else topic
    elif topic.split("/", 1)[0] == "edged" or topic.startswith("$") or not topic or set("+#\0") & set(topic):
        raise BadRequest(f"the response topic may not be that one; leave it out to be answered at {own}", topic=topic[:80])
    if len(topic.encode()) > _LONGEST_TOPIC:
        raise TooLarge("the response topic is too long", limit=_LONGEST_TOPIC)
    return Route(topic, properties.correlation, "msgpack" if kind == "msgpack" else "json")


def read_request(
    address: Address, payload: bytes, properties: Properties, route: Route, *, now: float, limit: int, durable: bool
) -> Request:
    """The request in a message. `now` is Unix seconds, `limit` bytes of payload. Raises `BadRequest`, `TooLarge`."""
    if len(payload) > limit:
        raise TooLarge("the payload is too large", bytes=len(payload), limit=limit)
    body = decode(payload, _media_type(properties))
    _check(body)
    text = body.get("text", "")
    if not text.strip():
        raise BadRequest("the request has no text; send {\"text\": \"...\"}")
    return Request(
        id=_request_id(body, properties),
        agent=address.agent,
        text=text,
        caller=address.caller,
        accepted_at=now,
        deadline=_deadline(body, properties, now),
        priority=Priority(body.get("priority", Priority.NORMAL)),
        session=body.get("session"),
        durable=durable,
        escalate=body.get("escalate", False),
        route=route.to_wire(),
    )


def decode(payload: bytes, media_type: str) -> dict[str, Any]:
    """The map in a payload. Without a content type, what begins with a brace is JSON and the rest is text."""
    kind = _KINDS.get(media_type)
    if media_type and kind is None:
        raise BadRequest("unknown content type; use application/json, text/plain or application/msgpack", got=media_type)
    if kind == "msgpack":
        return _map(_unpack(payload))
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the payload is not UTF-8") from error
    if kind == "text" or (kind is None and not text.lstrip().startswith("{")):
        return {"text": text}
    try:
        return _map(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise BadRequest("the payload is not valid JSON") from error


def encode(body: dict[str, Any], kind: str) -> bytes:
    """A reply's payload."""
    if kind == "msgpack":
        import msgpack  # late: few use it

        return bytes(msgpack.packb(body))
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def failed(error: EdgedError, request_id: str, agent: str) -> dict[str, Any]:
    """The answer to what could not even be queued, in the form of a `Reply`."""
    wire = error.to_wire()
    return Reply(request_id, agent, ReplyStatus.FAILED, finish_reason="error", error=wire).to_wire()


def _media_type(properties: Properties) -> str:
    return (properties.content_type or "").split(";", 1)[0].strip().lower()


def _unpack(payload: bytes) -> Any:
    import msgpack  # late: few use it

    try:
        return msgpack.unpackb(payload)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise BadRequest("the payload is not valid msgpack") from error


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("the payload must be an object")
    return value


def _check(body: dict[str, Any]) -> None:
    for name, value in body.items():
        kinds = _FIELDS.get(name) if isinstance(name, str) else None
        if kinds is None:
            raise BadRequest(f"unknown field {str(name)[:40]!r}; known are {', '.join(_FIELDS)}", field=str(name)[:40])
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadRequest(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}", field=name)
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            raise BadRequest(f"{name} is not valid Unicode", field=name)
    if body.get("priority", "normal") not in tuple(Priority):
        raise BadRequest(f"priority must be one of {', '.join(Priority)}", field="priority")
    if not 0 < body.get("deadline_seconds", 1) <= 1e9:
        raise BadRequest("deadline_seconds must be greater than 0", field="deadline_seconds")


def _request_id(body: dict[str, Any], properties: Properties) -> str:
    """The payload's, else the correlation data, else a random one, with which a redelivery cannot be told."""
    chosen = body.get("id")
    if chosen is None:
        chosen = properties.correlation.hex() if properties.correlation else secrets.token_hex(16)
    if not 0 < len(chosen) <= 2 * _LONGEST_ID:
        raise TooLarge("an id has 1 to 256 characters, correlation data at most 128 bytes", limit=2 * _LONGEST_ID)
    return str(chosen)


def _deadline(body: dict[str, Any], properties: Properties, now: float) -> float | None:
    """The earlier of the two that a caller can state."""
    stated = [float(s) for s in (body.get("deadline_seconds"), properties.expiry) if s is not None]
    return now + min(stated) if stated else None
