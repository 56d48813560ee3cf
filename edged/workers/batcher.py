"""The heart of the GGUF worker: many generations in one batch after another.

The rule: `planner.plan` decides who computes what, `step` does it, and one generation's error is its own. A
generation leaves between two steps; a step that only reads prompts is aborted when all who are in it have been taken
back. Time: a step beside running streams is kept to `_BESIDE` seconds of prompt and any step to `_ALONE`, by the
measured speed of this device; a little longer where that fills the tile of a kernel that is half as fast again with it.
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections.abc import Sequence

from edged.domain.errors import Cancelled, DeadlineExceeded, EdgedError, GenerationFailed, ModelBroken
from edged.workers.aborting import Abort, over
from edged.workers.generation import Generation
from edged.workers.kvcache import KvCache
from edged.workers.llama import Llama, Row, Status
from edged.workers.planner import Limits, Plan, View, plan
from edged.workers.prefix import common
from edged.workers.snapshots import Snapshots

__all__ = ["Batcher"]

_BESIDE, _ALONE = 0.25, 1.0  # seconds
_TILE, _TILE_SECONDS = 64, 0.6  # rows from which on flash attention computes in tiles, and how long those may take
_FIRST_PART = 64  # tokens of prompt in a step while the speed is not known
_LEAST_PART = 16
_WORTH_SHARING = 16  # tokens of common prefix for which it pays to wait for another generation
_WORTH_SAVING = 64  # tokens of an agent's prefix
_DRAFT = 6


class Batcher:
    """Give it generations (`add`), call `step` as long as it is `busy`. One thread; `poke` may be called from any."""

    def __init__(self, llama: Llama, snapshots: Snapshots | None = None) -> None:
        self._llama = llama
        self.cache = KvCache(llama)
        self._snapshots = snapshots
        self._live: dict[int, Generation] = {}
        self._ids = itertools.count(1)
        self._lane: str | None = None
        self._most = llama.batch_size  # rows of a batch: fewer after llama.cpp found no room
        self._seconds_a_token = 0.0
        self._unsaved: list[tuple[list[int], str | None, int]] = []
        self._abort = Abort(llama)

    @property
    def busy(self) -> bool:
        return bool(self._live)

    def add(self, generation: Generation) -> None:
        """Its prompt must be shorter than the model's context."""
        assert 0 < len(generation.tokens) < self._llama.context_length
        generation.id = next(self._ids)
        self._live[generation.id] = generation

    def poke(self) -> None:
        """Somebody was taken back: end a step in which nobody else computes."""
        self._abort.poke()

    def step(self) -> None:
        """One batch. Raises `ModelBroken` when llama.cpp fails: then nothing in the cache is to be trusted."""
        for generation in [g for g in self._live.values() if over(g)]:
            self._end(generation, _reason(generation))
        if not self._live:
            return
        decided = plan([self._view(g) for g in self._live.values()], self._limits(), self._lane)
        self._lane = decided.lane
        for generation in map(self._live.__getitem__, decided.aside):
            self._set_aside(generation)
        for generation in map(self._live.__getitem__, decided.pause):
            self._park(generation)
        self._compute(decided)

    def idle(self) -> None:
        """Nothing is asked: save what should survive a restart."""
        for tokens, lane, sequence in self._unsaved:
            if self._snapshots is not None and self.cache.is_exactly(sequence, tokens, lane):
                self._snapshots.save(tokens, lane, self.cache.state(sequence))
        self._unsaved.clear()

    # who is there

    def _view(self, g: Generation) -> View:
        known, follows, stop = g.computed, None, None
        if g.sequence is None:
            self._recall(g)
            known = self.cache.known(g.tokens, g.ask.lane)
            follows = self._leader(g, known)
        if not self._llama.partial and known < g.ask.fixed:
            stop = g.ask.fixed - known  # whole states only: there must be one that ends where the agent's prefix does
        return View(
            g.id,
            g.ask.rank,
            g.ask.deadline,
            g.arrived,
            pending=len(g.tokens) - known,
            drafts=len(g.draft),
            decoding=g.decoding,
            started=g.sequence is not None and not g.parked,
            holds=0 if g.sequence is None else self.cache.yields(g.sequence),
            wakes=self.cache.waking(g.tokens, g.ask.lane) if g.sequence is None else 0,
            follows=follows,
            lane=g.ask.lane,
            stop=stop,
        )

    def _leader(self, g: Generation, known: int) -> int | None:
        """Another generation that is about to compute more of this prompt than is known."""
        for other in self._live.values():
            if other is g or other.decoding or other.ask.lane != g.ask.lane:
                continue
            ahead = other.sequence is not None or (other.ask.rank, other.ask.deadline, other.id) < (
                g.ask.rank, g.ask.deadline, g.id,
            )  # fmt: skip
            alike = common(other.tokens, g.tokens)
            if ahead and other.computed < alike and alike >= known + _WORTH_SHARING:
                return other.id
        return None

    def _recall(self, g: Generation) -> None:
        """Have the agent's prefix in the cache if it is on disk."""
        if self._snapshots is None or g.ask.fixed < _WORTH_SAVING or g.cached is not None or g.recalled:
            return
        prefix = g.tokens[: g.ask.fixed]
        if self.cache.known([*prefix, 0], g.ask.lane) == len(prefix) or not self._snapshots.has(prefix, g.ask.lane):
            return
        if len(prefix) > self.cache.free:
            return
        g.recalled = True
        state = self._snapshots.load(prefix, g.ask.lane)
        if state is not None and not self.cache.adopt(g.ask.agent, prefix, g.ask.lane, state):
            self._snapshots.discard(prefix, g.ask.lane)

    def _limits(self) -> Limits:
        streams = sum(g.decoding for g in self._live.values())
        seconds = _BESIDE if streams else _ALONE
        part = int(seconds / self._seconds_a_token) if self._seconds_a_token else _FIRST_PART
        if part < _TILE - streams <= _TILE_SECONDS / (self._seconds_a_token or 1.0):
            part = _TILE - streams
        batch = self._most
        return Limits(self._llama.slots, batch, max(_LEAST_PART, min(part, batch)), self.cache.free)

    # a step

    def _compute(self, decided: Plan) -> None:
        work = [(self._live[key], count, drafts) for key, count, drafts in decided.rows]
        for g, _, _ in work:
            self._start(g)
        rows: list[Row] = []
        places: list[tuple[Generation, int, int]] = []
        for g, count, drafts in work:
            assert g.sequence is not None
            count = min(count, g.pending)
            whole = count == g.pending
            tokens = g.tokens[g.computed : g.computed + count] + (g.draft[:drafts] if whole else [])
            g.draft = g.draft[:drafts] if whole else []
            last = len(rows) + count - 1
            rows += [Row(token, g.computed + i, g.sequence, whole and i >= count - 1) for i, token in enumerate(tokens)]
            places.append((g, count, last))
        if not rows or not self.cache.make_room(len(rows)):
            return
        status = self._decode(rows, [g for g, _, _ in places], decided.lane)
        if status is Status.NO_ROOM:
            self._shrink(rows, places)
        elif status is Status.DONE:
            self._most = self._llama.batch_size
            for g, count, last in places:
                self._advance(g, count, last)
        elif not self._llama.partial:  # a state that was being changed is neither the old one nor the new one
            for g, _, _ in places:
                self._set_aside(g)

    def _decode(self, rows: Sequence[Row], who: list[Generation], lane: str | None) -> Status:
        alone = not any(g.decoding for g in who)
        began = time.monotonic()
        with self._abort.during(who if alone else []):
            status = self._llama.decode(rows, lane)
        if status is Status.DONE and len(rows) >= _LEAST_PART:
            took = (time.monotonic() - began) / len(rows)
            known = self._seconds_a_token or took
            self._seconds_a_token = min(took, 0.5 * (known + took))  # a worker's first step is slow: forget that soon
        return status

    def _shrink(self, rows: Sequence[Row], places: Sequence[tuple[Generation, int, int]]) -> None:
        """llama.cpp found no cells although there should be some: give up what is cached, then the least urgent."""
        held = self.cache.used
        self.cache.clear()
        if self.cache.used < held:
            return
        if len(rows) > 1:
            self._most = len(rows) // 2
            return
        self._most = self._llama.batch_size
        last = max((g for g in self._live.values() if g.sequence is not None), key=_order)
        if len(places) == 1 and places[0][0] is last:
            raise ModelBroken(f"the KV cache takes no {len(rows)} tokens beside {held} of {self._llama.cells}")
        self._set_aside(last)

    def _start(self, g: Generation) -> None:
        """Give it a slot, and what is known of its tokens."""
        if g.parked:
            assert g.sequence is not None
            g.sequence, g.parked = self.cache.resume(g.sequence), False
        elif g.sequence is None:
            g.sequence, g.computed = self.cache.start(g.tokens, g.ask.lane)
            if g.cached is None:
                g.cached, g.began = g.computed, time.monotonic()

    def _set_aside(self, g: Generation) -> None:
        """It loses its cells and goes on later: all that it has chosen is kept."""
        if g.sequence is not None:
            self.cache.drop(g.sequence)
        g.sequence, g.computed, g.parked, g.decoding, g.draft = None, 0, False, False, []

    def _park(self, g: Generation) -> None:
        if not self.cache.can_park:
            self._set_aside(g)
        elif g.sequence is not None and not g.parked:
            g.sequence, g.parked = self.cache.park(g.sequence), True

    def _advance(self, g: Generation, count: int, last: int) -> None:
        """Its rows are computed: choose the next token, and check what was guessed."""
        assert g.sequence is not None
        self.cache.computed(g.sequence, g.tokens[g.computed : g.computed + count] + g.draft)
        g.computed += count
        self._pin(g)
        if g.computed < len(g.tokens):
            return
        try:
            self._choose(g, last)
        except EdgedError as error:
            self._end(g, error)
        except Exception as error:  # its own: the others go on
            traceback.print_exc()
            self._end(g, GenerationFailed(f"{type(error).__name__}: {error}"))
        else:
            if g.ended is not None:
                self._end(g, None)

    def _choose(self, g: Generation, row: int) -> None:
        """Take the model's token, and go on through the draft as long as it says the same."""
        assert g.sequence is not None
        draft, g.draft, right = g.draft, [], 0
        g.decoding = True
        while True:
            g.take(g.sampler.choose(self._llama.logits(row)), self._llama.context_length - len(g.tokens))
            if g.ended is not None or right == len(draft) or g.tokens[g.computed :] != [draft[right]]:
                break
            g.computed, right, row = g.computed + 1, right + 1, row + 1
        if draft:
            self.cache.cut(g.sequence, g.computed)
            if g.lookup is not None:
                g.lookup.learn(len(draft), right)
        if g.lookup is not None and self._llama.partial and len(self._live) == 1 and g.ended is None:
            g.draft = g.lookup.guess(
                min(_DRAFT, g.ask.max_tokens - g.made - 1, self._llama.context_length - len(g.tokens) - 1)
            )

    def _pin(self, g: Generation) -> None:
        """Hold on to the agent's prefix as soon as it is computed."""
        fixed, lane = g.ask.fixed, g.ask.lane
        if not fixed or g.computed < fixed or g.sequence is None or g.made:
            return
        if not self._llama.partial and g.computed != fixed:
            return
        prefix = g.tokens[:fixed]
        if not self.cache.can_park or self.cache.pinned(g.ask.agent, prefix, lane):
            return
        sequence = self.cache.pin(g.ask.agent, g.sequence, fixed, lane)
        if self._snapshots is not None and fixed >= _WORTH_SAVING and not self._snapshots.has(prefix, lane):
            self._unsaved.append((prefix, lane, sequence))

    def _end(self, g: Generation, error: EdgedError | None) -> None:
        del self._live[g.id]
        if g.sequence is not None:
            if g.parked:
                self.cache.drop(g.sequence)
            else:
                self.cache.keep(g.sequence)
        g.finish(g.result() if error is None else error)


def _order(g: Generation) -> tuple[int, float, float, int]:
    return g.ask.rank, g.ask.deadline, g.arrived, g.id


def _reason(g: Generation) -> EdgedError:
    if g.cancelled():
        return Cancelled("the generation was cancelled")
    return DeadlineExceeded("the deadline passed while the model computed")
