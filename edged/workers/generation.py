"""One request's generation: its tokens, how far they are computed, and what was said of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edged.domain.errors import EdgedError
from edged.workers.lookup import Lookup
from edged.workers.sampling import Choice, Sampler
from edged.workers.speaking import Speech
from edged.workers.vocabulary import Vocabulary

__all__ = ["Ask", "Generation"]

_FLUSH_SECONDS = 0.06  # pieces of text closer together than this travel as one frame: each costs the daemon a wake-up


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked. `rank` 0 is the most urgent, `deadline` monotonic seconds. The first `fixed` tokens of the prompt are the same
    in all requests of `agent`. `lane` names the adapter."""

    prompt: list[int]
    max_tokens: int
    rank: int = 1
    deadline: float = float("inf")
    agent: str = ""
    fixed: int = 0
    lane: str | None = None
    speculate: bool = True


@dataclass(slots=True)
class Generation:
    """`tokens` are the prompt and all that was chosen; the first `computed` are in the cache under `sequence`.

    `finish` ends it: called once, with the result or the error. `on_text` gets pieces of text.
    """

    id: int
    ask: Ask
    sampler: Sampler
    speech: Speech
    vocabulary: Vocabulary
    cancelled: Callable[[], bool]
    on_text: Callable[[str], None]
    finish: Callable[[dict[str, Any] | EdgedError], None]
    arrived: float = field(default_factory=time.monotonic)
    tokens: list[int] = field(default_factory=list)
    computed: int = 0
    sequence: int | None = None
    parked: bool = False
    recalled: bool = False
    decoding: bool = False
    draft: list[int] = field(default_factory=list)
    cached: int | None = None
    began: float | None = None
    first: float | None = None
    ended: str | None = None
    lookup: Lookup | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    _unsent: str = ""
    _sent: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = list(self.ask.prompt)

    @property
    def made(self) -> int:
        return len(self.tokens) - len(self.ask.prompt)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    def take(self, choice: Choice, room: int) -> None:
        """The next token was chosen; the grammar may add more. `room` is how many tokens the context has left."""
        room = min(self.ask.max_tokens - self.made, room)
        new = [choice.token, *self.sampler.forced(room - 1)]
        ends = [i for i, token in enumerate(new) if self.vocabulary.is_end(token)]
        kept = new[: ends[0]] if ends else new
        self.tokens += kept
        if self.lookup is not None:
            self.lookup.feed(kept)
        if choice.logprob is not None and kept:
            self._tell(choice)
        self._say(b"".join(map(self.vocabulary.piece, kept)))
        if self.first is None:
            self.first = time.monotonic()
        if self.speech.stopped is not None or ends or self.sampler.finished:
            self.ended = "stop"
        elif len(kept) >= room:
            self.ended = "length"

    def _tell(self, choice: Choice) -> None:
        def named(token: int, logprob: float) -> dict[str, Any]:
            piece = self.vocabulary.piece(token)
            return {"token": piece.decode(errors="replace"), "bytes": list(piece), "logprob": logprob}

        assert choice.logprob is not None
        self.logprobs.append(
            {**named(choice.token, choice.logprob), "top_logprobs": [named(*one) for one in choice.likeliest]}
        )

    def _say(self, data: bytes, *, final: bool = False) -> None:
        self._unsent += self.speech.push(data, final=final)
        now = time.monotonic()
        if self._unsent and (final or now - self._sent >= _FLUSH_SECONDS):
            self.on_text(self._unsent)
            self._unsent, self._sent = "", now

    def result(self) -> dict[str, Any]:
        """What the daemon is told in the end. Seconds: waiting for a place, reading the prompt, writing the answer."""
        self._say(b"", final=True)
        now = time.monotonic()
        began = self.began or now
        first = self.first or now
        return {
            "text": self.speech.text,
            "finish_reason": self.ended,
            "stop": self.speech.stopped,
            "prompt_tokens": len(self.ask.prompt),
            "cached_tokens": self.cached or 0,
            "completion_tokens": self.made,
            "queued_seconds": began - self.arrived,
            "prefill_seconds": first - began,
            "decode_seconds": now - first,
            "first_token_seconds": first - self.arrived,
            **({"logprobs": self.logprobs} if self.logprobs else {}),
        }
