"""The reader: a cross-encoder over a sentence and a tool's card, in two halves.

Most tools that look alike are not meant, and half of the layers already see that (`glance`). Only what is worth it gets the other
half (`read`), which also points at the arguments. Cards of one run are padded to the longest, so a run has few rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from edged.workers.encoding import Floats, session
from edged.workers.reading import options, spans
from edged.workers.values import Reading, time_unit, wanted
from edged.workers.wordpieces import CardTokens, Pieces, SentenceTokens

__all__ = ["PARTS", "CrossEncoder", "Glance", "Row", "Tool"]

PARTS = ("ground.onnx", "glance.onnx", "reader.onnx")
_SURELY = 0.5
_HEADS = ["act", "part", "start", "end", "inside", "absent", "option"]


class Tool:
    """A taught tool: its card's ground (C, width), and of its parameters what values they take."""

    def __init__(self, tokens: CardTokens, ground: Floats, slots: Sequence[dict[str, Any]] = ()) -> None:
        self.tokens, self.ground, self.slots = tokens, ground, wanted(slots)
        self.choices: list[Sequence[str]] = [slot["choices"] for slot in slots]
        self.marks = (*tokens.slots, *chain.from_iterable(tokens.choices))  # where the heads point besides the sentence


@dataclass(frozen=True, slots=True)
class Glance:
    """What half of the layers say: scores against 0, "no tool is meant", and the states (S + C, width) to go on from."""

    tool: Tool
    act: float
    part: float
    states: Floats


@dataclass(frozen=True, slots=True)
class Row:
    """What all layers say of a sentence and one tool; see `training/intent/network.py` for the heads."""

    tool: Tool
    act: float
    part: float
    start: Floats
    end: Floats
    inside: Floats
    absent: Floats
    option: Floats

    def slots(self, text: str, tokens: SentenceTokens, now: datetime) -> list[dict[str, Any]]:
        """Of each parameter that the card has: {options}, or {spans, absent, stated}."""
        length, chances = len(tokens.ids), self._options(len(tokens.ids))
        start, end, inside = (head[:, :length] for head in (self.start, self.end, self.inside))
        pointed = {
            at: spans(text, tokens.offsets, start[at], end[at], inside[at], float(self.absent[at]))
            for at, choices in enumerate(self.tool.tokens.choices)
            if not choices
        }
        names = [
            places[0][:2]
            for at, (places, _) in pointed.items()
            if self.tool.slots[at].kind == "text" and places and places[0][2] > _SURELY
        ]
        said = Reading(text, self.tool.slots, now, self._units(chances), names)
        return [
            {"spans": said.spans(at, pointed[at][0]), "absent": pointed[at][1], "stated": said.stated(at)}
            if at in pointed
            else {"options": chances[at]}
            for at in range(len(self.tool.tokens.choices))
        ]

    def _options(self, length: int) -> dict[int, list[float]]:
        """Of each parameter with choices their chances; the sentence has `length` tokens."""
        told = iter(self.option[length + len(self.tool.tokens.slots) :])
        return {
            at: options(list(islice(told, len(choices))), float(self.absent[at]))
            for at, choices in enumerate(self.tool.tokens.choices)
            if choices
        }

    def _units(self, chances: Mapping[int, Sequence[float]]) -> dict[int, str]:
        """What each number counts whose unit of time is the likeliest of some choices."""
        found: dict[int, str] = {}
        for at, slot in enumerate(self.tool.slots):
            by = slot.measured
            if by is not None and by in chances:
                *choices, _ = chances[by]
                best = max(range(len(choices)), key=choices.__getitem__)
                if unit := time_unit(self.tool.choices[by][best]):
                    found[at] = unit
        return found


class CrossEncoder:
    """Both halves. Raises ModelBroken."""

    def __init__(self, folder: Path, threads: int, pieces: Pieces) -> None:
        self._ground, self._first, self._second = (session(folder / name, threads) for name in PARTS)
        self._pieces = pieces

    def ground(self, states: Floats, tops: Floats) -> Floats:
        """What reading begins from: of one text's states and tops (S, width) one likewise."""
        [found] = self._ground.run(["ground"], {"states": states[None], "tops": tops[None]})
        result: Floats = found[0]
        return result

    def glance(self, sentence: Floats, ids: Sequence[int], tool: Tool) -> Glance:
        """`sentence` is its ground (S, width), and `ids` are its tokens.

        One tool a run: int8 activations have the scales of a run, so beside another one its score would depend on that.
        """
        ground = np.concatenate([sentence, tool.ground])
        said, same = np.zeros((2, 1, len(ground)), np.int64)
        said[0, : len(ids)] = 1
        here, there = self._pieces.same(ids, tool.tokens.ids)
        same[0, : len(here) + len(there)] = [*here, *there]
        inputs = {"ground": ground[None], "mask": np.ones_like(said), "said": said, "same": same}
        [states], [act], [part] = self._first.run(["states", "act", "part"], inputs)
        return Glance(tool, float(act), float(part), states)

    def read(self, glance: Glance, length: int) -> Row:
        """`length` is the sentence's, in tokens."""
        marks, slots = glance.tool.marks, max(1, len(glance.tool.tokens.slots))
        places = np.zeros((1, length + max(slots, len(marks))), np.int64)
        places[0, :length] = np.arange(length)
        places[0, length : length + len(marks)] = np.asarray(marks, np.int64) + length
        markers = np.arange(length, length + slots)[None]
        mask = np.ones((1, len(glance.states)), np.int64)
        inputs = {"states": glance.states[None], "mask": mask, "markers": markers, "places": places}
        [act], [part], *rest = self._second.run(_HEADS, inputs)
        return Row(glance.tool, float(act), float(part), *(head[0] for head in rest))
