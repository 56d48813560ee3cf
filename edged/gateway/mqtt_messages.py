"""What MQTT topics, properties and payloads mean. Pure: bytes in, a `Request` or a `BadRequest` out; no broker, no clock.

A subscriber cannot know who published. The client's name is the last level of the topic, and the broker's ACL
(`pattern write edged/+/agents/+/request/%u`) is what vouches for it.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from edged.domain.errors import BadRequest, EdgedError, TooLarge
from edged.domain.messages import Caller, Reply, ReplyStatus, Request
from edged.gateway.schema import BODY_LIMIT, Ask, checked_id, parse

__all__ = ["DOOR", "Address", "Properties", "Route", "Topics", "encode", "failed", "read_request", "read_route"]

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
_LONGEST_TOPIC: Final = 1024
_LONGEST_CORRELATION: Final = 64


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
    def caller_id(self) -> str:
        """Colons part the fields of a request's key, so they are written differently: clients named by a MAC have them."""
        return self.client.replace("%", "%25").replace(":", "%3A")


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
        raise BadRequest(
            f"the response topic may not be that one; leave it out to be answered at {own}", topic=topic[:80]
        )
    if len(topic.encode()) > _LONGEST_TOPIC:
        raise TooLarge("the response topic is too long", limit=_LONGEST_TOPIC)
    return Route(topic, properties.correlation, "msgpack" if kind == "msgpack" else "json")


def read_request(
    agent: str, caller: Caller, payload: bytes, properties: Properties, route: Route, *, now: float, durable: bool
) -> Request:
    """The request in a message. `now` is Unix seconds. Raises `BadRequest` kinds."""
    if len(payload) > BODY_LIMIT:
        raise TooLarge(f"a request may have {BODY_LIMIT} bytes", limit=BODY_LIMIT)
    ask = parse(Ask, _as_json(payload, _media_type(properties)))
    request_id = _request_id(ask, properties)
    request = ask.request(request_id, agent, caller, now, durable=durable, route=route.to_wire())
    if properties.expiry is None:
        return request
    expiry = now + properties.expiry
    return replace(request, deadline=expiry if request.deadline is None else min(expiry, request.deadline))


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


def _as_json(payload: bytes, media_type: str) -> bytes:
    """The payload as the schema reads it. Without a content type, what begins with a brace is JSON and the rest is text."""
    kind = _KINDS.get(media_type)
    if media_type and kind is None:
        raise BadRequest(
            "unknown content type; use application/json, text/plain or application/msgpack", got=media_type
        )
    if kind == "msgpack":
        return _unpacked(payload)
    if kind == "json" or (kind is None and payload.lstrip().startswith(b"{")):
        return payload
    try:
        return json.dumps({"text": payload.decode()}, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise BadRequest("the payload is not UTF-8") from error


def _unpacked(payload: bytes) -> bytes:
    import msgpack  # late: few use it

    try:
        return json.dumps(msgpack.unpackb(payload)).encode()
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadRequest("the payload is not msgpack of what JSON can hold") from error


def _request_id(ask: Ask, properties: Properties) -> str:
    """The payload's, else the correlation data, else a random one, with which a redelivery cannot be told."""
    if ask.id is not None:
        return checked_id(ask.id)
    if not properties.correlation:
        return secrets.token_hex(16)
    if len(properties.correlation) > _LONGEST_CORRELATION:
        raise TooLarge(f"without an id, correlation data may have {_LONGEST_CORRELATION} bytes")
    return properties.correlation.hex()
