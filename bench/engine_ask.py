"""How the engine bench asks: one streamed request, a wave of them at once; and edged, daemon or worker, as a contender.

Every contender gets the same messages, temperature 0 and the same limit of tokens. Tokens are counted by what the server says it
made (several may come as one piece of text); times are the arrivals of pieces at the client, in `time.monotonic` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from bench.engine_model import Agent, Model
from bench.process import DaemonProcess, Site
from edged.ipc.process import Child

__all__ = [
    "Edged",
    "Engine",
    "OnPiece",
    "Stream",
    "Wave",
    "ask_openai",
    "client_threads",
    "generate_call",
    "kept_on_disk",
    "load_call",
    "wave",
    "worker_first",
]

# Told each piece's number, from 0; returns True when enough was heard, and the connection is cut.
OnPiece = Callable[[int], bool]
_TIMEOUT = 900.0
_CONTEXT = 4096
_SLOTS = 8
_PATIENCE = 120.0
_SNAPSHOTS = 1 << 30


@dataclass(slots=True)
class Stream:
    """One streamed answer. `prompt`, `cached` and `tokens` are the server's own counts; 0 where it was cut off before them."""

    began: float
    times: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    prompt: int = 0
    cached: int = 0
    tokens: int = 0

    @property
    def first_seconds(self) -> float:
        return self.times[0] - self.began

    @property
    def decode_rate(self) -> float:
        """Tokens a second after the first piece."""
        first, last = self.times[0], self.times[-1]
        return self.tokens_between(first, last) / (last - first)

    def heard(self, text: str, on_piece: OnPiece | None) -> bool:
        self.times.append(time.monotonic())
        self.pieces.append(text)
        return on_piece is not None and on_piece(len(self.times) - 1)

    def tokens_between(self, begin: float, end: float) -> float:
        """As many as the text's share says: pieces are of one token or of several."""
        heard = sum(len(piece) for at, piece in zip(self.times, self.pieces, strict=True) if begin < at <= end)
        return self.tokens * heard / sum(map(len, self.pieces))


class Engine(Protocol):
    """A server that is running and has its model in memory."""

    def ask(self, agent: Agent, text: str, on_piece: OnPiece | None = None) -> Stream: ...


@dataclass(frozen=True, slots=True)
class Wave:
    """Several clients that asked at the same moment."""

    streams: list[Stream]
    seconds: float

    @property
    def rate(self) -> float:
        """Output tokens of all clients over the wall time, prefill and all."""
        return sum(stream.tokens for stream in self.streams) / self.seconds

    @property
    def overlap(self) -> float:
        """Seconds in which all of them decoded: from the last first piece to the first last one; negative if there are none."""
        return min(s.times[-1] for s in self.streams) - max(s.times[0] for s in self.streams)

    @property
    def decode_rate(self) -> float:
        """Tokens a second while all of them decoded."""
        begin = max(stream.times[0] for stream in self.streams)
        return sum(s.tokens_between(begin, begin + self.overlap) for s in self.streams) / self.overlap


def wave(engine: Engine, agent: Agent, texts: Sequence[str]) -> Wave:
    """Ask all `texts` at once, a client each."""
    ready = threading.Barrier(len(texts))

    def one(text: str) -> Stream:
        ready.wait()
        return engine.ask(agent, text)

    with client_threads(len(texts)) as clients:
        began = time.monotonic()
        streams = list(clients.map(one, texts))
        return Wave(streams, time.monotonic() - began)


@contextlib.contextmanager
def client_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that nobody waits for where something fails: they end as soon as their server does."""
    clients = ThreadPoolExecutor(count)
    try:
        yield clients
    finally:
        clients.shutdown(wait=False, cancel_futures=True)


def _exchange(address: Path | int, path: str, body: dict[str, Any]) -> http.client.HTTPConnection:
    """A connection to a Unix socket or to a loopback port, with the request sent."""
    connection = http.client.HTTPConnection("127.0.0.1", address if isinstance(address, int) else None, _TIMEOUT)
    if isinstance(address, Path):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_TIMEOUT)
        connection.sock.connect(str(address))
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection


def _events(connection: http.client.HTTPConnection) -> Iterator[tuple[str, str]]:
    """Server-sent events: (event or "", data). Raises RuntimeError for any answer but 200."""
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {response.read(500)!r}")
    event = ""
    while line := response.readline().decode():
        key, _, value = line.rstrip("\n").partition(": ")
        if key == "event":
            event = value
        elif key == "data":
            yield event, value
            event = ""


def ask_openai(port: int, agent: Agent, text: str, on_piece: OnPiece | None = None) -> Stream:
    """llama-server's chat endpoint."""
    body = {
        "messages": agent.messages(text),
        "max_tokens": agent.max_tokens,
        "temperature": 0,
        "cache_prompt": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stream = Stream(time.monotonic())
    with contextlib.closing(_exchange(port, "/v1/chat/completions", body)) as connection:
        for _, data in _events(connection):
            if data == "[DONE]":
                break
            chunk = json.loads(data)
            if usage := chunk.get("usage"):
                stream.prompt, stream.tokens = usage["prompt_tokens"], usage["completion_tokens"]
                stream.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            piece = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            if piece and stream.heard(piece, on_piece):
                break
    return stream


class Edged:
    """The daemon with agents on the bench model, and a state folder that outlives it. A context manager: one life of it."""

    def __init__(self, folder: Path, model: Model, agents: Sequence[Agent], threads: int) -> None:
        self._daemon = DaemonProcess(Site(folder, _overlay(model, agents, threads)))
        self.began = 0.0

    def __enter__(self) -> Self:
        seconds = self._daemon.start()
        self.began = time.monotonic() - seconds
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._daemon.stop()

    def ask(self, agent: Agent, text: str, on_piece: OnPiece | None = None) -> Stream:
        stream = Stream(time.monotonic())
        body = {"text": text, "mode": "stream"}
        path = f"/v1/agents/{agent.name}/requests"
        with contextlib.closing(_exchange(self._daemon.site.socket, path, body)) as connection:
            for event, data in _events(connection):
                told = json.loads(data)
                if event == "token":
                    if stream.heard(told["text"], on_piece):
                        break
                elif event == "reply" and told["status"] == "done" and stream.times:
                    usage = told["usage"]
                    stream.prompt, stream.cached, stream.tokens = usage["prompt"], usage["cached"], usage["completion"]
                else:
                    raise RuntimeError(f"edged gave no streamed answer: {event} {data[:500]}")
        return stream


def _overlay(model: Model, agents: Sequence[Agent], threads: int) -> str:
    """No door but the socket, room for everything, and agents that answer freely."""
    parts = [
        '[mqtt]\nenabled = false\n\n[memory]\nbudget = "4GiB"\n\n[http]\nrequests_per_second = 10000.0\n',
        f'[models.bench]\npath = "{model.path}"\ncontext_length = {_CONTEXT}\nthreads = {threads}\n',
    ]
    for agent in agents:
        parts.append(
            f'[agents.{agent.name}]\nmodel = "bench"\ntiers = ["model"]\ndeadline = {_TIMEOUT}\n'
            f'max_tokens = {agent.max_tokens}\ninstructions = "{agent.instructions}"\n'
        )
    return "\n".join(parts)


def kept_on_disk(folder: Path) -> None:
    """Wait until a prefix is on disk: it is written when nobody asks anything any more."""
    end = time.monotonic() + _PATIENCE
    while not any(folder.rglob("*.kv")):
        if time.monotonic() > end:
            raise RuntimeError("the agent's prefix was not kept on disk")
        select.select([], [], [], 0.02)


async def worker_first(
    model: Model, threads: int, snapshots: Path, agent: Agent, text: str, *, prepare: bool = False
) -> float:
    """Seconds from the worker's spawn to its first piece of text. To `prepare`, wait until its prefix is on disk."""
    heard: list[float] = []
    began = time.monotonic()
    async with Child("edged.workers.gguf") as child:
        await child.call("load", load_call(model, threads, snapshots))
        asked = generate_call(agent, text, agent.max_tokens, None)
        await child.call("generate", asked, lambda _: heard.append(time.monotonic()))
        if prepare:
            await asyncio.to_thread(kept_on_disk, snapshots)
    return heard[0] - began


def load_call(model: Model, threads: int, snapshots: Path) -> dict[str, Any]:
    """The worker's `load`, with room for eight sequences as the daemon gives it."""
    return {
        "path": str(model.path),
        "context_length": _CONTEXT,
        "batch_size": 512,
        "slots": _SLOTS,
        "threads": threads,
        "mode": "default",
        "snapshots": {"directory": str(snapshots), "bytes": _SNAPSHOTS},
    }


def generate_call(agent: Agent, text: str, max_tokens: int, grammar: Any) -> dict[str, Any]:
    """Greedy, as it is where nothing is said of sampling. The first message is the agent's own."""
    shared = {"agent": agent.name, "fixed": 1, "tools": [], "deadline_monotonic": None}
    return {"messages": agent.messages(text), "grammar": grammar, "max_tokens": max_tokens, **shared}
