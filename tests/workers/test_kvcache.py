"""The cache's books against a llama.cpp that is pretended with lists: who holds which cells, what is evicted, what is free."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from edged.workers.kvcache import KvCache
from edged.workers.llama import Llama

A, B, C = list(range(40)), list(range(100, 140)), list(range(200, 240))


class Cells(Llama):
    """Sequences as lists of (token, cell); what is copied shares its cells. States are the tokens."""

    def __init__(self, cells: int = 100, slots: int = 3, sequences: int = 12, *, partial: bool = True) -> None:
        self.cells, self.slots, self.sequences, self.partial = cells, slots, sequences, partial
        self.held: list[list[tuple[int, int]]] = [[] for _ in range(sequences)]
        self._made = 0

    def compute(self, sequence: int, tokens: Sequence[int]) -> None:
        self.held[sequence] = self.held[sequence] + [(token, self._made + i) for i, token in enumerate(tokens)]
        self._made += len(tokens)
        assert self.used <= self.cells

    @property
    def used(self) -> int:
        return len({cell for held in self.held for _, cell in held})

    def tokens(self, sequence: int) -> list[int]:
        return [token for token, _ in self.held[sequence]]

    def cut(self, sequence: int, length: int) -> None:
        assert self.partial or length == 0
        self.held[sequence] = self.held[sequence][:length]

    def copy(self, source: int, target: int, length: int) -> None:
        assert not self.held[target]
        assert self.partial or length == len(self.held[source])
        self.held[target] = self.held[source][:length]

    def state(self, sequence: int) -> bytes:
        return bytes(self.tokens(sequence))

    def restore(self, sequence: int, state: bytes) -> bool:
        assert not self.held[sequence]
        if state == b"no":
            return False
        self.compute(sequence, state)
        return True


@dataclass
class Books:
    llama: Cells = field(default_factory=Cells)
    cache: KvCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = KvCache(self.llama)

    def compute(self, tokens: Sequence[int], lane: str | None = None) -> int:
        """A request that computes its prompt; its slot."""
        slot, length = self.cache.start(tokens, lane)
        assert self.llama.tokens(slot) == list(tokens[:length])
        assert self.cache.make_room(len(tokens) - length)
        self.llama.compute(slot, tokens[length:])
        self.cache.computed(slot, tokens[length:])
        return slot

    def past(self, tokens: Sequence[int], lane: str | None = None) -> None:
        self.cache.keep(self.compute(tokens, lane))

    def pinned(self, name: str, tokens: Sequence[int], lane: str | None = None) -> int:
        """An agent's prefix, and nothing else of the request."""
        slot = self.compute(tokens, lane)
        number = self.cache.pin(name, slot, len(tokens), lane)
        self.cache.keep(slot)
        return number

    def known(self, tokens: Sequence[int], lane: str | None = None) -> int:
        return self.cache.known([*tokens, 0], lane)


def books(cells: int = 100, slots: int = 3, sequences: int = 12, *, partial: bool = True) -> Books:
    return Books(Cells(cells, slots, sequences, partial=partial))


def test_what_was_computed_is_known_but_never_all_of_it() -> None:
    b = books()
    b.past(A)
    assert b.cache.known(A, None) == 39  # the last token's logits are not kept
    assert b.cache.known([*A, 1], None) == 40
    assert b.cache.known([*A[:10], 99, 98], None) == 10
    assert b.cache.known(A, "x") == 0
    slot, length = b.cache.start([*A[:20], 5, 5], None)
    assert (length, b.cache.length(slot), b.llama.tokens(slot), b.cache.used) == (20, 20, A[:20], 40)


def test_a_request_that_adds_nothing_is_not_kept_twice() -> None:
    b = books()
    b.past(A)
    b.cache.keep(b.cache.start([*A, 7], None)[0])
    assert len(b.cache._kept) == 1
    assert b.cache.used == 40


def test_a_pause_loses_nothing() -> None:
    b = books()
    slot = b.compute(A)
    parked = b.cache.park(slot)
    assert (b.cache.slots, parked >= b.llama.slots, b.llama.tokens(slot), b.cache.length(parked)) == (3, True, [], 40)
    again = b.cache.resume(parked)
    assert (b.cache.slots, b.llama.tokens(again), b.cache.used) == (2, A, 40)


def test_free_counts_what_nobody_works_on() -> None:
    b = books()
    b.past(A)
    slot = b.compute([*A[:10], *B[:5]])
    assert (b.cache.used, b.cache.free) == (45, 100 - 15)
    assert not b.cache.make_room(86)
    assert b.cache.make_room(60)
    assert b.llama.tokens(slot) == [*A[:10], *B[:5]]


@pytest.mark.parametrize("missing", [0, 1, 15, 30, 39, 40])
def test_room_is_made_as_asked_and_the_end_goes_first(missing: int) -> None:
    b = books(cells=40)
    b.past(A)
    assert b.cache.make_room(missing)
    assert (b.cache.used, b.known(A)) == (40 - missing, 40 - missing)
    assert not b.cache.make_room(41)


def test_room_that_cannot_be_had_costs_nothing() -> None:
    # Once: all that is cached is thrown away before it is seen that it is not enough.
    b = books()
    b.past(A)
    slot = b.compute(B)
    assert (b.cache.used, b.cache.free) == (80, 60)
    assert not b.cache.make_room(61)
    assert not b.cache.adopt("a", list(range(61)), None, bytes(61))
    assert (b.known(A), b.llama.tokens(slot)) == (40, B)


def test_whole_states_go_whole() -> None:
    b = books(cells=40, partial=False)
    b.past(A)
    assert (b.known(A), b.known(A[:20])) == (40, 0)
    assert b.cache.make_room(1)
    assert b.cache.used == 0


@pytest.mark.parametrize(
    ("uses", "left"),
    [
        ("", "B"),  # equally deep and never used again: the older goes
        ("A", "A"),
        ("B", "B"),
        ("AAB", "A"),
    ],
)
def test_what_is_used_stays(uses: str, left: str) -> None:
    b = books()
    prefixes = {"A": A, "B": B}
    b.past(A)
    b.past(B)
    for name in uses:
        b.cache.keep(b.cache.start([*prefixes[name], 1], None)[0])
    assert b.cache.make_room(60)
    assert {name for name, tokens in prefixes.items() if b.known(tokens) == 40} == {left}


def test_the_deep_one_is_worth_more() -> None:
    for first, second in ((A, B[:20]), (B[:20], A)):
        b = books(cells=60)
        b.past(first)
        b.past(second)
        assert b.cache.make_room(20)
        assert (b.known(A), b.known(B)) == (40, 0)


def test_what_was_of_use_long_ago_goes_some_day() -> None:
    """However often it was used then."""
    b = books(cells=100)
    b.past(A)
    for _ in range(10):
        b.cache.keep(b.cache.start([*A, 1], None)[0])
    for i in range(40):
        b.past(list(range(1000 + 100 * i, 1040 + 100 * i)))
    assert b.known(A) == 0


def test_pins_go_last_and_one_an_agent() -> None:
    b = books()
    b.pinned("a", A)
    b.past(B)
    for _ in range(5):
        b.cache.keep(b.cache.start([*B, 1], None)[0])
    assert b.cache.make_room(60)
    assert (b.known(A), b.known(B)) == (40, 0)
    assert b.cache.pinned("a", A, None)
    assert not b.cache.pinned("a", A[:9], None)
    assert not b.cache.pinned("b", A, None)
    b.pinned("a", C)
    assert b.cache.pinned("a", C, None)
    b.past(B[:20])  # what was pinned before is pinned no more
    assert b.cache.make_room(41)
    assert b.known(C) == 40
    assert b.cache.make_room(100)
    assert b.cache.used == 0


def test_a_pin_may_be_a_part_of_a_request_and_outlives_it() -> None:
    b = books()
    slot = b.compute([*A, *B[:10]])
    number = b.cache.pin("a", slot, 40, None)
    assert (b.cache.used, b.cache.own(slot), b.llama.tokens(number)) == (50, 10, A)
    b.cache.drop(slot)
    assert (b.cache.used, b.known(A)) == (40, 40)


def test_pins_and_numbers_are_bounded() -> None:
    b = books(cells=1000, slots=1, sequences=80)
    for i in range(60):
        b.pinned(f"agent {i}", [1000 + i, 1, 2])
    assert len(b.cache._pins) == 32
    few = books(cells=1000, slots=1, sequences=4)
    for i in range(30):
        few.past([1000 + i, 1, 2])
        few.pinned(f"agent {i}", [2000 + i, 1, 2])
    assert len(few.cache._kept) == 3
    assert few.cache.used == few.llama.used == 9


def test_a_state_is_adopted_as_a_pin_or_not_at_all() -> None:
    b = books()
    assert b.cache.adopt("a", A, None, bytes(A))
    assert (b.known(A), b.cache.pinned("a", A, None), b.cache.used, b.llama.used) == (40, True, 40, 40)
    assert not b.cache.adopt("b", B, None, b"no")
    assert (b.cache.used, b.llama.used, b.cache.pinned("b", B, None)) == (40, 40, False)
    numbers = [*b.cache._kept, *b.cache._slots, *b.cache._parked]
    assert sorted(numbers) == list(range(12))


def test_cached_twins_do_not_hide_each_other() -> None:
    """Two agents with the same prefix: neither owns a cell, yet all can be had."""
    b = books(cells=40)
    b.pinned("a", A)
    slot, _ = b.cache.start([*A, 1], None)
    b.cache.pin("b", slot, 40, None)
    b.cache.drop(slot)
    assert b.cache.free == 40
    assert b.cache.make_room(25)
    assert b.known(A) == 15


def test_clear_leaves_those_who_work() -> None:
    b = books()
    b.pinned("a", A)
    slot = b.compute([*A[:10], *B[:5]])
    b.cache.clear()
    assert (b.cache.used, b.llama.tokens(slot)) == (15, [*A[:10], *B[:5]])
    assert not b.cache.pinned("a", A, None)


@dataclass
class Fate:
    """Requests at random, and the books after each step of theirs."""

    rng: random.Random
    books: Books
    working: dict[int, list[int]] = field(default_factory=dict)  # in slots
    paused: dict[int, list[int]] = field(default_factory=dict)

    def tokens(self) -> list[int]:
        return [self.rng.randrange(2) for _ in range(self.rng.randrange(1, 40))]

    def start(self) -> None:
        cache = self.books.cache
        if cache.slots:
            tokens, lane = self.tokens(), self.rng.choice([None, "x"])
            known = cache.known(tokens, lane)
            slot, length = cache.start(tokens, lane)
            assert known == length < len(tokens)
            self.working[slot] = tokens[:length]

    def extend(self) -> None:
        if self.working:
            slot, more = self.rng.choice(list(self.working)), self.tokens()[: self.rng.randrange(1, 12)]
            if self.room(len(more)):
                self.books.llama.compute(slot, more)
                self.books.cache.computed(slot, more)
                self.working[slot] = self.working[slot] + more

    def room(self, cells: int) -> bool:
        cache, llama = self.books.cache, self.books.llama
        pins = [s for s, kept in cache._kept.items() if kept.pin is not None]
        before = {s: llama.held[s] for s in pins}
        promised = cells <= cache.free
        assert cache.make_room(cells) == promised
        assert not promised or llama.cells - llama.used >= cells
        if any(llama.held[s] != before[s] for s in pins):
            assert not any(cache.own(s) for s, kept in cache._kept.items() if kept.pin is None)
        return promised

    def cut(self) -> None:
        if self.working and self.books.llama.partial:
            slot = self.rng.choice(list(self.working))
            length = self.rng.randrange(len(self.working[slot]) + 1)
            self.books.cache.cut(slot, length)
            self.working[slot] = self.working[slot][:length]

    def pause(self) -> None:
        if self.working and len(self.paused) < 3:
            slot = self.rng.choice(list(self.working))
            self.paused[self.books.cache.park(slot)] = self.working.pop(slot)

    def resume(self) -> None:
        if self.paused and self.books.cache.slots:
            number = self.rng.choice(list(self.paused))
            self.working[self.books.cache.resume(number)] = self.paused.pop(number)

    def pin(self) -> None:
        if self.working:
            slot = self.rng.choice(list(self.working))
            tokens = self.working[slot]
            length = self.rng.randrange(len(tokens) + 1) if self.books.llama.partial else len(tokens)
            lane = next(lane for lane in (None, "x") if self.books.cache.is_exactly(slot, tokens, lane))
            name = self.rng.choice("abc")
            number = self.books.cache.pin(name, slot, length, lane)
            assert self.books.cache.is_exactly(number, tokens[:length], lane)
            assert self.books.cache.pinned(name, tokens[:length], lane)

    def adopt(self) -> None:
        tokens = self.tokens()
        fits = len(tokens) <= self.books.cache.free
        assert self.books.cache.adopt(self.rng.choice("abc"), tokens, None, bytes(tokens)) == fits

    def end(self) -> None:
        if self.working:
            slot = self.rng.choice(list(self.working))
            del self.working[slot]
            self.rng.choice([self.books.cache.keep, self.books.cache.drop])(slot)

    def check(self) -> None:
        cache, llama = self.books.cache, self.books.llama
        assert cache.used == llama.used <= llama.cells
        for s, tokens in (self.working | self.paused).items():
            assert llama.tokens(s) == tokens
        for s in range(llama.sequences):
            assert (cache.length(s) if s in cache._tree else 0) == len(llama.held[s])
        busy = {cell for s in self.working | self.paused for _, cell in llama.held[s]}
        assert cache.free == llama.cells - len(busy)
        assert sorted([*self.working, *cache._slots]) == list(range(llama.slots))
        assert sorted([*self.paused, *cache._kept, *cache._parked]) == list(range(llama.slots, llama.sequences))
        assert {s: kept.pin for s, kept in cache._kept.items() if kept.pin} == {
            s: name for name, s in cache._pins.items()
        }


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_books_are_right_whatever_happens(seed: int, partial: bool) -> None:
    for trial in range(8):
        rng = random.Random(100 * seed + trial)
        fate = Fate(rng, books(rng.choice([60, 90, 150]), 3, rng.choice([9, 20]), partial=partial))
        deeds = (
            fate.start, fate.start, fate.extend, fate.extend, fate.extend, fate.cut, fate.pause, fate.resume, fate.pin,
            fate.adopt, fate.end, fate.end,
        )  # fmt: skip
        for _ in range(150):
            rng.choice(deeds)()
            fate.check()
        for s in (*fate.working, *fate.paused):
            fate.books.cache.drop(s)
        fate.books.cache.clear()
        assert fate.books.llama.used == fate.books.cache.used == 0
