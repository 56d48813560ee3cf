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

_AT_ONCE = 1  # rows of a run: int8 activations have the scales of a run, and with two a tool depends on its neighbour
PARTS = ("ground.onnx", "glance.onnx", "reader.onnx")
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
        said = Reading(text, self.tool.slots, now, self._units(chances))
        found: list[dict[str, Any]] = []
        for at, choices in enumerate(self.tool.tokens.choices):
            absent = float(self.absent[at])
            if choices:
                found.append({"options": chances[at]})
                continue
            heads = self.start[at, :length], self.end[at, :length], self.inside[at, :length]
            places, missing = spans(text, tokens.offsets, *heads, absent)
            found.append({"spans": said.spans(at, places), "absent": missing, "stated": said.stated(at)})
        return found

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

    def glance(self, sentence: Floats, ids: Sequence[int], tools: Sequence[Tool]) -> list[Glance]:
        """`sentence` is its ground (S, width), and `ids` are its tokens."""
        found: list[Glance] = []
        for at in range(0, len(tools), _AT_ONCE):
            chunk = tools[at : at + _AT_ONCE]
            rows = [np.concatenate([sentence, tool.ground]) for tool in chunk]
            ground, mask = _padded(rows)
            said, same = np.zeros_like(mask), np.zeros_like(mask)
            said[:, : len(ids)] = 1
            for row, tool in zip(same, chunk, strict=True):
                here, there = self._pieces.same(ids, tool.tokens.ids)
                row[: len(here) + len(there)] = [*here, *there]
            inputs = {"ground": ground, "mask": mask, "said": said, "same": same}
            read, act, part = self._first.run(["states", "act", "part"], inputs)
            found += [
                Glance(tool, float(act[i]), float(part[i]), read[i, : len(row)])
                for i, (tool, row) in enumerate(zip(chunk, rows, strict=True))
            ]
        return found

    def read(self, glances: Sequence[Glance], length: int) -> list[Row]:
        """`length` is the sentence's, in tokens."""
        found: list[Row] = []
        for at in range(0, len(glances), _AT_ONCE):
            chunk = glances[at : at + _AT_ONCE]
            states, mask = _padded([glance.states for glance in chunk])
            slots = max(1, *(len(glance.tool.tokens.slots) for glance in chunk))
            places = np.zeros((len(chunk), length + max(slots, *(len(g.tool.marks) for g in chunk))), np.int64)
            places[:, :length] = np.arange(length)
            for row, glance in zip(places, chunk, strict=True):
                row[length : length + len(glance.tool.marks)] = np.asarray(glance.tool.marks, np.int64) + length
            markers = np.broadcast_to(np.arange(length, length + slots), (len(chunk), slots))
            inputs = {"states": states, "mask": mask, "markers": markers, "places": places}
            act, part, *rest = self._second.run(_HEADS, inputs)
            found += [
                Row(glance.tool, float(act[i]), float(part[i]), *(head[i] for head in rest))
                for i, glance in enumerate(chunk)
            ]
        return found


def _padded(rows: Sequence[Floats]) -> tuple[Floats, Any]:
    """Rows (L, width) -> (N, longest, width) and a mask (N, longest)."""
    states = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
    mask = np.zeros(states.shape[:2], np.int64)
    for at, row in enumerate(rows):
        states[at, : len(row)], mask[at, : len(row)] = row, 1
    return states, mask
