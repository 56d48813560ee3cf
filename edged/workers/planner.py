"""What goes into the next batch: a pure function from who is there to who computes what, and who has to make room.

The rules, in this order. Requests go by priority, then deadline, then arrival; the first `slots` of them run. Running
ones that decode come first in a batch, and what is left of it (`chunk`) is for prompts, so a long prompt never
freezes a stream. Cells are given in order of urgency: whoever lacks some takes those of the least urgent one behind
it, which computes them again later. Nobody starts a prompt that does not fit beside those who decode, but for the
first in the order, so cells are not taken back and forth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Limits", "Plan", "View", "plan"]

_HEADROOM = 16  # cells that each running request should still find when another prompt starts


@dataclass(frozen=True, slots=True)
class View:
    """A request as the planner sees it. Times are seconds of one clock, counts are tokens or cells.

    `pending` tokens must be computed before its next token can be chosen; `drafts` may be checked along with them.
    `decoding` says that it has chosen a token since it was last started. `holds` are the cells that it alone keeps. A
    request that `follows` another waits for the prefix that the other is computing. Requests of one batch have the
    same `lane`. `stop` is where a prompt's next part has to end, if it matters. Starting it `wakes`
    cells that count as free until then.
    """

    id: int
    rank: int = 1
    deadline: float = float("inf")
    arrived: float = 0.0
    pending: int = 1
    drafts: int = 0
    decoding: bool = False
    started: bool = False
    holds: int = 0
    follows: int | None = None
    lane: str | None = None
    stop: int | None = None
    wakes: int = 0

    @property
    def order(self) -> tuple[int, float, float, int]:
        return self.rank, self.deadline, self.arrived, self.id


@dataclass(frozen=True, slots=True)
class Limits:
    """`slots` run at once; a batch has `batch` rows, of which `chunk` are for prompts. `cells` are free or can be made free."""

    slots: int
    batch: int
    chunk: int
    cells: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`rows` are (id, tokens, drafts). Those set `aside` lose their cells first, those to `pause` only their slots."""

    rows: tuple[tuple[int, int, int], ...] = ()
    lane: str | None = None
    aside: tuple[int, ...] = ()
    pause: tuple[int, ...] = ()


@dataclass(slots=True)
class _Cells:
    """What is left to give, and who can be made to give more: the least urgent first."""

    free: int
    holders: list[View]
    aside: list[int] = field(default_factory=list)

    def take(self, wanted: int, view: View) -> int:
        """How many of `wanted` cells there are for `view`."""
        while self.free < wanted and self.holders and self.holders[-1].order > view.order:
            last = self.holders.pop()
            if last.holds > 0:
                self.aside.append(last.id)
                self.free += last.holds
        given = min(wanted, self.free)
        self.free -= given
        return given


def plan(views: Sequence[View], limits: Limits, last_lane: str | None = None) -> Plan:
    """The next batch. `last_lane` is the one before it: lanes take turns."""
    ordered = sorted(views, key=lambda v: v.order)
    running = _running(ordered, limits)
    pause = tuple(v.id for v in ordered if v.started and v not in running)
    lane = _lane(running, last_lane)
    mates = [v for v in running if v.lane == lane]
    cells = _Cells(limits.cells, list(ordered))
    rows = _next_tokens(mates, limits)
    room = limits.batch - sum(map(sum, rows.values()))
    forced = sum(count - 1 for count, _ in rows.values())
    rows |= _parts(mates, min(room, limits.chunk - forced))
    granted = []
    for view in mates:
        if view.id not in rows or view.id in cells.aside:
            continue
        pending, drafts = rows[view.id]
        given = max(0, cells.take(pending + drafts + view.wakes, view) - view.wakes)
        if given < pending and view.decoding:
            cells.free += given
        elif given:
            granted.append((view.id, min(given, pending), max(0, given - pending)))
    aside = tuple(cells.aside)
    if not granted and not aside:  # nobody has anything to give, yet somebody is in the way
        aside = tuple(v.id for v in ordered[:0:-1] if v.started or v.holds)[:1]
    return Plan(tuple(row for row in granted if row[0] not in aside), lane, aside, pause)


def _running(ordered: Sequence[View], limits: Limits) -> list[View]:
    """The first `slots` that can do something, less those whose prompt does not fit yet."""
    running: list[View] = []
    leaders: set[int] = set()
    free = limits.cells
    for view in ordered:
        if len(running) == limits.slots:
            break
        if view.follows in leaders:
            continue
        behind = sum(v.holds for v in ordered if v.order > view.order)
        needed = view.pending + view.wakes + _HEADROOM * (1 + len(running))
        if running and not view.started and needed > free + behind:
            continue
        running.append(view)
        leaders.add(view.id)
        if not view.decoding:
            free -= view.pending + view.wakes
    return running


def _lane(running: Sequence[View], last: str | None) -> str | None:
    """The lane after the last one, among those that run."""
    lanes = sorted({v.lane or "" for v in running})
    if not lanes:
        return None
    later = [lane for lane in lanes if lane > (last or "")]
    return (later or lanes)[0] or None


def _next_tokens(mates: Sequence[View], limits: Limits) -> dict[int, tuple[int, int]]:
    """One row for each that decodes; what a grammar has forced on them beyond that is like a prompt. Drafts are a bet, and bets are
    off when there is no room."""
    decoding = [v for v in mates if v.decoding][: limits.batch]
    room = limits.batch - len(decoding)
    chunk, rows = min(room, limits.chunk), {}
    for view in decoding:
        more = min(view.pending - 1, chunk)
        rows[view.id] = (1 + more, 0)
        chunk, room = chunk - more, room - more
    whole = [v for v in decoding if rows[v.id][0] == v.pending]
    if sum(v.drafts for v in whole) <= room:
        rows |= {v.id: (v.pending, v.drafts) for v in whole}
    return rows


def _parts(mates: Sequence[View], room: int) -> dict[int, tuple[int, int]]:
    """Parts of prompts, the most urgent first."""
    rows = {}
    for view in mates:
        if view.decoding:
            continue
        if room <= 0:
            break
        part = min(view.pending, room, view.stop or view.pending)
        rows[view.id] = (part, 0)
        room -= part
    return rows
