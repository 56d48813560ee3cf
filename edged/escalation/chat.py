"""The chat completions API as data: generation -> body, body -> completion, Retry-After -> seconds. Pure.

What a cloud sends is as untrusted as what a caller sends: each field is checked before it is used, and an answer that
breaks the API is the cloud's fault (`CloudUnreachable`, so time may heal it), never a crash of the daemon.
"""

from __future__ import annotations

import hashlib
import json
import re
from email.utils import parsedate_to_datetime
from typing import Any

from edged.domain.errors import CloudUnreachable
from edged.domain.messages import FinishReason, Message, ToolCall, Usage
from edged.domain.ports import Completion, Generation
from edged.escalation.redact import Redactor

__all__ = [
    "BadToolArguments",
    "encode",
    "error_sentence",
    "idempotency_key",
    "parse",
    "redactor_for",
    "retry_after_seconds",
]

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "error",
}


class BadToolArguments(Exception):
    """The cloud wrote a tool call whose arguments are no JSON object; asking again with a fresh key may mend it.

    Not an `EdgedError`: it never leaves this room.
    """


def redactor_for(generation: Generation, kinds: tuple[str, ...]) -> Redactor:
    """A redactor that knows every text of this conversation."""
    texts = [message.content for message in generation.messages]
    texts += [json.dumps(call.arguments) for message in generation.messages for call in message.tool_calls]
    return Redactor(kinds, texts)


def encode(generation: Generation, model: str, redactor: Redactor, limit_key: str = "max_tokens") -> bytes:
    """The request body. Deterministic, so that the same step of the same request has the same idempotency key.

    `grammar` is not sent: the API has none, and a cloud model needs no crutch to write a call.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, redactor) for message in generation.messages],
        limit_key: generation.max_tokens,
        "temperature": generation.sampling.temperature,
        "seed": generation.sampling.seed,
        "stream": False,
    }
    if generation.tools:
        body["tools"] = [tool.to_openai() for tool in generation.tools]
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _message(message: Message, redactor: Redactor) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": redactor.hide(message.content)}
    if message.tool_calls:
        wire["content"] = wire["content"] or None
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(redactor.hide_in(call.arguments), ensure_ascii=False),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def idempotency_key(request_id: str, body: bytes, again: int = 0) -> str:
    """One key for one step of one request: the request's digest, then the body's.

    The id alone would not do: the second step of a tool loop would be given the first one's stored answer. Digests,
    because an id is a caller's text and a header is not. `again` > 0 asks for a new answer to the same body.
    """
    parts = [hashlib.sha256(part).hexdigest()[:24] for part in (request_id.encode("utf-8", "replace"), body)]
    return "-".join(["edged", *parts, *([str(again)] if again else [])])


def parse(data: bytes, redactor: Redactor, seconds: float, fallback_model: str) -> Completion:
    """The completion in a 200's body. Raises CloudUnreachable for what is no chat completion, BadToolArguments."""
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        message = choice["message"]
        text = _text(message)
        calls = _calls(message.get("tool_calls") or (), redactor)
        usage = _usage(body.get("usage"))
        finish = _finish(choice.get("finish_reason"), bool(calls))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _garbage(f"the answer is no chat completion ({type(error).__name__})") from error
    if finish == "tool_calls" and not calls:
        raise _garbage("the answer announces tool calls and has none")
    model = body.get("model")
    return Completion(
        text=redactor.restore(text),
        finish_reason=finish,
        usage=usage,
        tool_calls=calls,
        decode_seconds=seconds,
        model=model if isinstance(model, str) else fallback_model,
    )


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if content is None:
        content = message.get("refusal") or ""
    if not isinstance(content, str):
        raise TypeError("content")
    return content


def _calls(wire: Any, redactor: Redactor) -> tuple[ToolCall, ...]:
    calls: list[ToolCall] = []
    for index, entry in enumerate(wire):
        function = entry["function"]
        call_id, name = entry.get("id") or f"call_{index}", function["name"]
        if not isinstance(name, str) or not isinstance(call_id, str) or not name:
            raise TypeError("tool call")
        if any(call.id == call_id for call in calls):
            call_id = f"{call_id}_{index}"
        calls.append(ToolCall(call_id, name, redactor.restore_in(_arguments(name, function.get("arguments")))))
    return tuple(calls)


def _arguments(name: str, wire: Any) -> dict[str, Any]:
    try:
        # Servers write "no arguments" as an empty string, null or {}; some send the object itself.
        value = (json.loads(wire) if wire.strip() else {}) if isinstance(wire, str) else wire or {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadToolArguments(f"the cloud called {name[:80]!r} with arguments that are no JSON object")
    return value


def _usage(wire: Any) -> Usage:
    if not isinstance(wire, dict):
        return Usage()
    details = wire.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(int(wire.get("prompt_tokens") or 0), int(cached or 0), int(wire.get("completion_tokens") or 0))


def _finish(reason: Any, has_calls: bool) -> FinishReason:
    # Several servers say "stop" beside tool calls; the calls are what counts.
    if has_calls:
        return "tool_calls"
    return _FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"


def _garbage(detail: str) -> CloudUnreachable:
    return CloudUnreachable(detail, reason="malformed", reached=True)


def error_sentence(data: bytes, secret: str | None) -> str:
    """ ": why" from an error body, shortened, or "". Providers quote the key back in a 401, so `secret` is cut out."""
    try:
        said = json.loads(data)["error"]
        said = said["message"] if isinstance(said, dict) else said
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    if not isinstance(said, str) or not said:
        return ""
    if secret:
        said = said.replace(secret, "***")
    # OpenAI's own 401 shows the key's first and last characters around stars.
    said = re.sub(r"\b(?:sk|pk)-\S+", "***", said)
    return f": {said[:200]}"


def retry_after_seconds(header: str | None, now: float, most: float = 3600.0) -> float | None:
    """Retry-After as seconds within [0, most]; None where it is absent or unreadable. `now` is Unix seconds."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, OverflowError, TypeError):
            return None
    if seconds != seconds:  # NaN
        return None
    return min(max(seconds, 0.0), most)
