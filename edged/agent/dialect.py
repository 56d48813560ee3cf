"""Reading back what a model of some family wrote: text, then tool calls; whole or piece by piece. Pure.

The rule: text is given out as soon as it cannot be the beginning of a mark, a call when its last mark stands there, and however an
output is cut, the same comes out. From the first mark on there are only calls: the grammar could have made nothing else, so
anything else is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from edged.agent.bodies import Item
from edged.agent.dialects import DIALECTS, Dialect
from edged.domain.messages import ToolCall

__all__ = ["DIALECTS", "Dialect", "Parsed", "Reader", "parse"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a generation says: text, calls, a tool that it wanted but could not ground, or "no tool fits".

    A `malformed` output may hold text and calls that came before the place where it went wrong.
    """

    calls: tuple[ToolCall, ...] = ()
    wanted: str | None = None
    missing: tuple[str, ...] = ()
    escalate: bool = False
    text: str = ""
    malformed: bool = False


def parse(text: str, id_prefix: str, dialect: Dialect) -> Parsed:
    """Read one generation. Calls get ids `{id_prefix}-0`, `-1`, ..."""
    reader = Reader(dialect, id_prefix)
    reader.feed(text)
    reader.end()
    return reader.parsed


@cache
def _words(marks: str) -> tuple[str, ...]:
    return tuple(word for part in re.split("[⟦⟧]", marks) for word in part.split())


def _stands(marks: str, text: str) -> int | None:
    """The place behind `marks` where they stand at the beginning of `text`, with any white space between them; None where they may
    yet come to stand there, -1 where not."""
    at = 0
    for word in _words(marks):
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith(word, at):
            return None if word.startswith(text[at:]) else -1
        at += len(word)
    return at


class Reader:
    """Reads one generation as it comes: `feed` and `end` return what has become certain, in order; then `parsed` is the whole."""

    def __init__(self, dialect: Dialect, id_prefix: str) -> None:
        self._dialect = dialect
        self._prefix = id_prefix
        self._held = ""  # read, but not certain
        self._out: list[str | ToolCall] = []
        self._said: list[str] = []
        self._calls: list[ToolCall] = []
        self._item: Item | None = None
        self._wanted: Item | None = None
        self._extent = dialect.body.extent()
        self._escalate = self._malformed = False
        # a state takes from what is held; True: go on with the (next) state, False: wait for more
        self._state: Callable[[bool], bool] = self._beginning

    @property
    def parsed(self) -> Parsed:
        wanted = self._wanted
        return Parsed(
            tuple(self._calls),
            wanted.name if wanted else None,
            wanted.missing if wanted else (),
            self._escalate,
            "".join(self._said),
            self._malformed,
        )

    def feed(self, piece: str) -> list[str | ToolCall]:
        """Takes the next piece of the output."""
        self._held += piece
        return self._go(ended=False)

    def end(self) -> list[str | ToolCall]:
        """The output is over."""
        out = self._go(ended=True)
        if self._state not in (self._talking, self._over, self._lost):
            self._malformed = True
        return out

    def _go(self, *, ended: bool) -> list[str | ToolCall]:
        while self._state(ended):
            pass
        out, self._out = self._out, []
        return out

    def _beginning(self, ended: bool) -> bool:
        """Nothing was said yet: white space is dropped, and the whole may be the mark for "no tool fits"."""
        self._held = self._held.lstrip()
        behind = _stands(self._dialect.escalate, self._held)
        rest = "" if behind is None or behind < 0 else self._held[behind:].strip()
        if behind is None or (behind >= 0 and not rest):
            if not ended:
                return False
            if behind is not None:
                self._escalate = True
                return self._become(self._over, behind)
        return self._become(self._talking)

    def _talking(self, ended: bool) -> bool:
        begun = [at for at in map(self._held.find, self._dialect.triggers) if at >= 0]
        if begun:
            self._say(self._held[: min(begun)].rstrip())
            return self._become(self._opening, min(begun))
        keep = 0 if ended else self._beginning_of_mark()
        said = self._held[: len(self._held) - keep].rstrip()
        self._say(said)
        self._held = self._held[len(said) :]
        return False

    def _beginning_of_mark(self) -> int:
        """The length of the longest end of what is held that begins a mark."""
        longest = max(map(len, self._dialect.triggers))
        for size in range(min(longest - 1, len(self._held)), 0, -1):
            if any(trigger.startswith(self._held[-size:]) for trigger in self._dialect.triggers):
                return size
        return 0

    def _opening(self, ended: bool) -> bool:
        dialect = self._dialect
        for marks in (dialect.lead, ""):
            behind = _stands(marks + dialect.first + dialect.open, self._held)
            if behind is None:
                return False
            if behind >= 0:
                return self._become(self._reading, behind)
        return self._fail()

    def _reading(self, ended: bool) -> bool:
        end = self._extent.end(self._held)
        if end is None:
            return False
        try:
            self._item = self._dialect.body.read(self._held[:end])
        except (ValueError, RecursionError):
            return self._fail()
        self._extent = self._dialect.body.extent()
        return self._become(self._closing, end)

    def _closing(self, ended: bool) -> bool:
        behind = _stands(self._dialect.close, self._held)
        if behind is None:
            return False
        if behind < 0 or self._item is None or not self._take(self._item):
            return self._fail()
        return self._become(self._following, behind)

    def _take(self, item: Item) -> bool:
        """A tool that is wanted and lacks something stands alone."""
        if self._wanted is not None or (item.missing and self._calls):
            return False
        if item.missing:
            self._wanted = item
            return True
        call = ToolCall(f"{self._prefix}-{len(self._calls)}", item.name, item.arguments)
        self._calls.append(call)
        self._out.append(call)
        return True

    def _following(self, ended: bool) -> bool:
        """Behind a call: another one, or what ends them all."""
        dialect = self._dialect
        last = _stands(dialect.last, self._held)
        if last is not None and last >= 0 and (dialect.last or not self._held.strip()):
            return self._become(self._over, last) if dialect.last or ended else False
        again = -1 if dialect.between is None else _stands(dialect.between + dialect.open, self._held)
        if again is not None and again >= 0:
            return self._become(self._reading, again)
        return self._fail() if again == -1 and last is not None else False

    def _over(self, ended: bool) -> bool:
        return self._fail() if self._held.strip() else False

    def _lost(self, ended: bool) -> bool:
        self._held = ""
        return False

    def _become(self, state: Callable[[bool], bool], taken: int = 0) -> bool:
        self._held = self._held[taken:]
        self._state = state
        return True

    def _fail(self) -> bool:
        self._malformed = True
        return self._become(self._lost)

    def _say(self, text: str) -> None:
        if text:
            self._said.append(text)
            self._out.append(text)
