"""A stand-in for a cloud LLM: the OpenAI chat completions API, answered by rules. It is no model and says so.

It exists so that tests and benches can cut, slow and break "the cloud" with no network. Its output, its answers and its
answers' model name all say "stand-in". Same request, same answer, byte for byte.

    python -m bench.standin_cloud --port 0 [--fail-first N] [--status 401] [--hang] [--garbage] [--cut] [--slow SECONDS]

It prints one line of JSON when it listens: {"stand_in": true, "url": "http://127.0.0.1:PORT/v1"}.

A sentence that says "use the tool NAME" gets a call of NAME with no arguments if that tool was offered; "use the tool
NAME badly" gets one whose arguments are no JSON. The next turn reports what the tool returned. `GET /counts` tells how
many requests came, how many idempotency keys, and how many of the requests repeated one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import signal
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

__all__ = ["Faults", "StandIn", "main", "respond"]

MODEL = "stand-in"
_CALL = re.compile(r"\buse the tool ([\w.-]+?)( badly)?(?=[\s.,;!?]|$)", re.IGNORECASE)


@dataclass(slots=True)
class Faults:
    """What goes wrong. `fail_first` counts down; the others last until they are changed."""

    fail_first: int = 0
    retry_after: float = 1.0
    status: int | None = None
    hang: bool = False
    garbage: bool = False
    cut: bool = False
    slow: float = 0.0


@dataclass(slots=True)
class StandIn:
    """The server's state: its faults, what it answered for each key, and its counts. `bodies` are all requests, in order."""

    faults: Faults = field(default_factory=Faults)
    api_key: str | None = None
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    requests: int = 0
    duplicates: int = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/counts", self.counts)
        return app

    async def counts(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "stand_in": True,
                "requests": self.requests,
                "distinct": len(self.keys),
                "duplicates": self.duplicates,
                "answered": len(self.answers),
            }
        )

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": MODEL}]})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        key = request.headers.get("Idempotency-Key", f"none-{self.requests}")
        self.duplicates += key in self.keys
        self.keys.add(key)
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _problem(401, "the stand-in wants another key")
        if (broken := await self._break(request)) is not None:
            return broken
        if key not in self.answers:
            try:
                body = await request.json()
                self.answers[key] = respond(body)
            except (ValueError, KeyError, TypeError, AttributeError):
                return _problem(400, "the stand-in cannot read this request")
            self.bodies.append(body)
        return web.json_response(self.answers[key])

    async def _break(self, request: web.Request) -> web.StreamResponse | None:
        if self.faults.fail_first > 0:
            self.faults.fail_first -= 1
            return _problem(503, "the stand-in is told to fail", {"Retry-After": f"{self.faults.retry_after:g}"})
        if self.faults.status is not None:
            return _problem(self.faults.status, "the stand-in is told to refuse")
        if self.faults.hang:
            await asyncio.Event().wait()
        if self.faults.slow:
            await asyncio.sleep(self.faults.slow)
        if self.faults.garbage:
            return web.Response(text="<html>the stand-in is told to send garbage</html>", content_type="text/html")
        return await _cut(request) if self.faults.cut else None


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "4096", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"model": "stand-in", "choi')
    if request.transport is not None:
        request.transport.close()
    return response


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "stand_in"}}, status=status, headers=headers)


def respond(body: dict[str, Any]) -> dict[str, Any]:
    """The chat completion for a request body. Pure. Raises KeyError, TypeError for what is no request."""
    messages = body["messages"]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    message, finish = _turn(messages, [tool["function"]["name"] for tool in body.get("tools") or ()], digest)
    words = sum(len(str(m.get("content") or "").split()) for m in messages)
    said = len(str(message.get("content") or "").split())
    return {
        "id": f"chatcmpl-{digest}",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": words, "completion_tokens": said, "total_tokens": words + said},
    }


def _turn(messages: list[dict[str, Any]], tools: list[str], digest: str) -> tuple[dict[str, Any], str]:
    last = messages[-1]
    if last["role"] == "tool":
        results = "; ".join(str(m.get("content")) for m in messages[_last_assistant(messages) :] if m["role"] == "tool")
        return {
            "role": "assistant",
            "content": f"I am a stand-in for a cloud model. The tool returned: {results}",
        }, "stop"
    text = next((str(m.get("content") or "") for m in reversed(messages) if m["role"] == "user"), "")
    call = _CALL.search(text)
    if call is not None and call.group(1) in tools:
        arguments = "{broken" if call.group(2) else "{}"
        function = {"name": call.group(1), "arguments": arguments}
        wire = {"id": f"call_{digest}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [wire]}, "tool_calls"
    return {"role": "assistant", "content": _sentence(text)}, "stop"


def _last_assistant(messages: list[dict[str, Any]]) -> int:
    return max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=0)


def _sentence(text: str) -> str:
    words = text.split()
    kind = "question" if text.rstrip().endswith("?") else "request"
    quoted = " ".join(words[:40]) + (" ..." if len(words) > 40 else "")
    return (
        f'I am a stand-in for a cloud model, so this is no real answer: your {kind} "{quoted}" '
        f"({len(words)} words) reached the cloud tier and came back."
    )


async def _serve(port: int, state: StandIn) -> None:
    runner = web.AppRunner(state.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        bound = runner.addresses[0][1]
        print(json.dumps({"stand_in": True, "url": f"http://127.0.0.1:{bound}/v1"}), flush=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for a cloud LLM; answers by rules, is no model.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the first line of output names it")
    parser.add_argument("--api-key", help="refuse other keys with 401")
    parser.add_argument("--fail-first", type=int, default=0, metavar="N", help="503 with Retry-After, N times")
    parser.add_argument("--retry-after", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--status", type=int, help="answer everything with this status")
    parser.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="wait before each answer")
    for name, what in (("hang", "never answer"), ("garbage", "answer 200 with HTML"), ("cut", "close midway")):
        parser.add_argument(f"--{name}", action="store_true", help=what)
    args = vars(parser.parse_args())
    port, api_key = args.pop("port"), args.pop("api_key")
    asyncio.run(_serve(port, StandIn(Faults(**args), api_key)))


if __name__ == "__main__":
    main()
