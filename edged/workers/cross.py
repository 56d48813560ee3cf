"""The reader: a cross-encoder over a sentence and a tool's card, in two halves.

Most tools that look alike are not meant, and half of the layers already see that (`glance`). Only what is worth it gets the other
half (`read`), which also points at the arguments. Cards of one run are padded to the longest, so a run has few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from edged.workers.encoding import Floats, session
from edged.workers.reading import options, spans
from edged.workers.values import Reading, wanted
from edged.workers.wordpieces import CardTokens, SentenceTokens

__all__ = ["CrossEncoder", "Glance", "Row", "Tool"]

_AT_ONCE = 2  # rows of a run
_HEADS = ["act", "part", "start", "end", "inside", "absent", "option"]


class Tool:
    """A taught tool: its card's states, and of its parameters what values they take."""

    def __init__(self, tokens: CardTokens, states: Floats, slots: Sequence[dict[str, Any]] = ()) -> None:
        self.tokens, self.states, self.slots = tokens, states, wanted(slots)


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
        said, length = Reading(text, self.tool.slots, now), len(tokens.ids)
        found: list[dict[str, Any]] = []
        for at, choices in enumerate(self.tool.tokens.choices):
            absent = float(self.absent[at])
            if choices:
                found.append({"options": options(self.option[length:], choices, absent)})
                continue
            heads = self.start[at, :length], self.end[at, :length], self.inside[at, :length]
            places, missing = spans(text, tokens.offsets, *heads, absent)
            found.append({"spans": said.spans(at, places), "absent": missing, "stated": said.stated(at)})
        return found


class CrossEncoder:
    """Both halves. Raises ModelBroken."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._first, self._second = (session(folder / name, threads) for name in ("glance.onnx", "reader.onnx"))

    def glance(self, sentence: Floats, tools: Sequence[Tool]) -> list[Glance]:
        """`sentence` are its states (S, width)."""
        found: list[Glance] = []
        for at in range(0, len(tools), _AT_ONCE):
            chunk = tools[at : at + _AT_ONCE]
            rows = [np.concatenate([sentence, tool.states]) for tool in chunk]
            states, mask = _padded(rows)
            said = np.zeros_like(mask)
            said[:, : len(sentence)] = 1
            read, act, part = self._first.run(["read", "act", "part"], {"states": states, "mask": mask, "said": said})
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
            markers = np.zeros((len(chunk), max(1, *(len(g.tool.tokens.slots) for g in chunk))), np.int64)
            for row, glance in enumerate(chunk):
                markers[row, : len(glance.tool.tokens.slots)] = np.asarray(glance.tool.tokens.slots, np.int64) + length
            heads = self._second.run(_HEADS, {"states": states, "mask": mask, "markers": markers})
            act, part, *rest = heads
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
