"""Asks the encoder what a sentence means: teaches it an agent's tools once, and reads sentences against them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edged.agent.cards import Card, Slot, card
from edged.agent.intent import Decision, NoTool, decide
from edged.domain.resources import ToolSpec

__all__ = ["Infer", "Reader", "plain", "taught"]

_MOST_READ = 6  # tools a sentence is read against, likeliest first; with more, more are mistaken than found
_MOST_EXAMPLES = 64
_TAUGHT = 20.0  # what it adds to a tool's score that a person said that this very sentence means it


class Infer(Protocol):
    """One call of an encoder: the pool."""

    def __call__(
        self, model: str, verb: str, params: dict[str, Any], deadline_monotonic: float | None = None
    ) -> Awaitable[Any]: ...


@dataclass(frozen=True, slots=True)
class _Shown:
    """The tools of an agent as the worker is taught them, and the `key` by which it knows them. `lessons` are the confirmed
    sentences, with the number of the tool."""

    specs: list[ToolSpec]
    confirmed: list[tuple[str, ...]]
    cards: list[Card]
    tools: list[dict[str, Any]]
    key: str
    lessons: dict[str, int]


class Reader:
    """`model` is the encoder's name. `examples` gives confirmed sentences of an agent's tool, the newest first."""

    def __init__(
        self, infer: Infer, model: str, examples: Callable[[str, str], Sequence[str]] = lambda agent, tool: ()
    ) -> None:
        self._infer = infer
        self._model = model
        self._examples = examples
        self._shown: dict[str, _Shown] = {}

    async def read(self, agent: str, specs: Sequence[ToolSpec], text: str, deadline: float | None) -> Decision:
        """What `text` asks of these tools. Raises `Unavailable` kinds and ModelBroken."""
        if not specs:
            return NoTool(1.0)
        shown = self._show(agent, specs)
        asked = {"text": text, "key": shown.key, "most": _MOST_READ}
        seen = await self._infer(self._model, "understand", asked, deadline)
        while not seen["known"]:  # a new worker, or new tools; another agent's teaching may push ours out in between
            await self._infer(self._model, "teach", {"key": shown.key, "tools": shown.tools}, deadline)
            seen = await self._infer(self._model, "understand", asked, deadline)
        meant = shown.lessons.get(plain(text))
        tools = [tool | {"act": tool["act"] + _TAUGHT} if tool["index"] == meant else tool for tool in seen["tools"]]
        return decide(tools, shown.cards, specs, cut=seen["cut"])

    def _show(self, agent: str, specs: Sequence[ToolSpec]) -> _Shown:
        """Made anew only where a tool or what was confirmed of it is not what it was: it takes longer than the asking."""
        confirmed = [tuple(self._examples(agent, spec.name)) for spec in specs]
        known = self._shown.get(agent)
        if known is None or known.specs != list(specs) or known.confirmed != confirmed:
            cards = [card(spec) for spec in specs]
            tools = [taught(*each) for each in zip(cards, specs, confirmed, strict=True)]
            key = hashlib.blake2b(repr(tools).encode(), digest_size=12).hexdigest()
            lessons = {plain(text): at for at, texts in enumerate(confirmed) for text in texts}
            known = self._shown[agent] = _Shown(list(specs), confirmed, cards, tools, key, lessons)
        return known


def plain(text: str) -> str:
    """Without letter case and punctuation."""
    return " ".join(re.findall(r"[\w']+", text.casefold()))


def taught(shown: Card, spec: ToolSpec, confirmed: Sequence[str] = ()) -> dict[str, Any]:
    """A tool as the worker's `teach` takes it."""
    examples = [*confirmed, *spec.examples][:_MOST_EXAMPLES]
    return {
        "head": shown.head,
        "slots": [_slot(slot) for slot in shown.slots],
        "about": shown.text,
        "examples": examples,
    }


def _slot(slot: Slot) -> dict[str, Any]:
    return {
        "text": slot.text,
        "choices": list(slot.choices),
        "kind": slot.kind,
        "values": list(slot.values),
        "most": slot.most,
    }
