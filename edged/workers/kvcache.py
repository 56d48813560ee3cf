"""The KV cache as one store of prefixes: what is being computed, what is paused, and what was computed and may be
wanted again.

The rule: every change of a sequence goes through here, so that the tree and llama.cpp's cells never differ. A
sequence in a slot can be decoded; a parked one is only held. What is evicted first is worth least: uses and the price
of a cell against age (GreedyDual), where a deep cell costs more to compute than a shallow one. Pinned prefixes, one
an agent, go last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edged.workers.llama import Llama
from edged.workers.prefix import PrefixTree

__all__ = ["KvCache"]

_PINS_MAX = 32


@dataclass(slots=True)
class _Kept:
    """A cached sequence. `pin` is the agent whose prefix it is, or None."""

    uses: int
    worth: float
    pin: str | None = None


class KvCache:
    """`used` and `free` are cells. Sequences are numbers of llama.cpp's."""

    def __init__(self, llama: Llama) -> None:
        self._llama = llama
        self._tree = PrefixTree()
        self._slots = list(range(llama.slots))
        self._parked = list(range(llama.slots, llama.sequences))
        self._kept: dict[int, _Kept] = {}
        self._pins: dict[str, int] = {}
        self._floor = 0.0

    @property
    def used(self) -> int:
        return self._tree.cells

    @property
    def free(self) -> int:
        """Cells that hold nothing, or nothing that somebody works on."""
        return self._llama.cells - self._tree.cells + self._tree.idle(self._kept.keys())

    @property
    def slots(self) -> int:
        """How many more sequences can be decoded now."""
        return len(self._slots)

    def length(self, sequence: int) -> int:
        return self._tree.length(sequence)

    def own(self, sequence: int) -> int:
        """Cells that nobody else holds."""
        return self._tree.own(sequence)

    def yields(self, sequence: int) -> int:
        """Cells that nobody else works on: others can have them when this one lets go."""
        return self._tree.own(sequence, self._kept.keys())

    def waking(self, tokens: Sequence[int], lane: str | None) -> int:
        """The cells of what is known of `tokens` that nobody works on yet: they are free no more once this is started."""
        length, source = self._match(tokens, lane)
        return 0 if source is None else self._tree.sleeping(source, length, self._kept.keys())

    def known(self, tokens: Sequence[int], lane: str | None) -> int:
        """How many of `tokens` need not be computed; never all, for the last one's logits are not kept."""
        return self._match(tokens, lane)[0]

    def _match(self, tokens: Sequence[int], lane: str | None) -> tuple[int, int | None]:
        return self._tree.match(tokens[:-1], lane, whole=not self._llama.partial)

    def start(self, tokens: Sequence[int], lane: str | None) -> tuple[int, int]:
        """(slot, length): a sequence that holds as many of `tokens` as were computed before."""
        slot = self._slots.pop()
        self._tree.open(slot, lane)
        length, source = self._match(tokens, lane)
        if source is not None:
            self._share(source, slot, length)
        return slot, length

    def _share(self, source: int, target: int, length: int) -> None:
        self._tree.share(source, target, length)
        self._llama.copy(source, target, length)
        kept = self._kept.get(source)
        if kept is not None:
            kept.uses += 1
            self._appraise(source)

    def computed(self, sequence: int, tokens: Sequence[int]) -> None:
        """llama.cpp has computed `tokens` at the end of the sequence."""
        self._tree.extend(sequence, tokens)

    def cut(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self._llama.cut(sequence, length)
        self._tree.cut(sequence, length)

    def drop(self, sequence: int) -> None:
        """Forget the sequence and give its number back."""
        self._llama.cut(sequence, 0)
        self._tree.close(sequence)
        kept = self._kept.pop(sequence, None)
        if kept is not None and kept.pin is not None:
            del self._pins[kept.pin]
        (self._slots if sequence < self._llama.slots else self._parked).append(sequence)

    @property
    def can_park(self) -> bool:
        return bool(self._parked or self._kept)

    def park(self, slot: int) -> int:
        """The sequence under a number that needs no slot."""
        return self._renamed(slot, self._spare())

    def resume(self, parked: int) -> int:
        return self._renamed(parked, self._slots.pop())

    def _renamed(self, old: int, new: int) -> int:
        self._llama.copy(old, new, self._tree.length(old))
        self._llama.cut(old, 0)
        self._tree.rename(old, new)
        (self._slots if old < self._llama.slots else self._parked).append(old)
        return new

    def keep(self, slot: int) -> None:
        """Nobody works on the sequence any longer; what it computed may be of use to others."""
        if self._tree.covered(slot) or not self.can_park:
            self.drop(slot)
            return
        self._cache(self.park(slot))

    def _cache(self, parked: int, pin: str | None = None) -> None:
        self._kept[parked] = _Kept(1, 0.0, pin)
        self._appraise(parked)

    def _appraise(self, sequence: int) -> None:
        kept = self._kept[sequence]
        kept.worth = self._floor + kept.uses * (1 + self._tree.length(sequence) / self._llama.cells)

    def pinned(self, name: str, tokens: Sequence[int], lane: str | None) -> bool:
        """Whether `tokens` are what is pinned under this name, in full."""
        sequence = self._pins.get(name)
        return sequence is not None and self._tree.holds(sequence, tokens, lane)

    def pin(self, name: str, source: int, length: int, lane: str | None) -> int:
        """Keep the first `length` tokens of a sequence, in the place of what was pinned under this name. Returns the number."""
        parked = self._spare()
        self._tree.open(parked, lane)
        self._share(source, parked, length)
        return self._pin(name, parked)

    def adopt(self, name: str, tokens: Sequence[int], lane: str | None, state: bytes) -> bool:
        """Pin `tokens` from a saved state; false when there is no room for it, or llama.cpp does not take it."""
        if not self.make_room(len(tokens)):
            return False
        parked = self._spare()
        if not self._llama.restore(parked, state):
            self._parked.append(parked)
            return False
        self._tree.open(parked, lane)
        self._tree.extend(parked, tokens)
        self._pin(name, parked)
        return True

    def _pin(self, name: str, parked: int) -> int:
        old = self._pins.pop(name, None)
        if old is not None:
            self._kept[old].pin = None
            if self._tree.covered(old):
                self.drop(old)
        if len(self._pins) >= _PINS_MAX:
            oldest = next(iter(self._pins))
            self._kept[self._pins.pop(oldest)].pin = None
        self._cache(parked, name)
        self._pins[name] = parked
        return parked

    def is_exactly(self, sequence: int, tokens: Sequence[int], lane: str | None) -> bool:
        """Whether the sequence is still there and holds exactly these tokens."""
        return sequence in self._tree and self._tree.holds(sequence, tokens, lane)

    def state(self, parked: int) -> bytes:
        """What llama.cpp holds of it, to be saved. There must be a free slot: llama.cpp writes no other sequences."""
        slot = self._slots[-1]
        self._llama.copy(parked, slot, self._tree.length(parked))
        try:
            return self._llama.state(slot)
        finally:
            self._llama.cut(slot, 0)

    def _spare(self) -> int:
        if not self._parked:
            self.drop(min(self._kept, key=self._rank))
        return self._parked.pop()

    def _rank(self, sequence: int) -> tuple[bool, float]:
        kept = self._kept[sequence]
        return kept.pin is not None, kept.worth

    def make_room(self, cells: int) -> bool:
        """Evict until `cells` are free."""
        if cells > self.free:
            return False
        while (missing := cells - (self._llama.cells - self._tree.cells)) > 0:
            useful = [s for s in self._kept if self._tree.own(s)]
            if not useful:
                if not self._release_covered():
                    return False
                continue
            self._evict(min(useful, key=self._rank), missing)
        return True

    def _evict(self, sequence: int, missing: int) -> None:
        """The end of a sequence goes first: its beginning is likelier to be asked for again."""
        self._floor = max(self._floor, self._kept[sequence].worth)
        own, length = self._tree.own(sequence), self._tree.length(sequence)
        shared = length - own
        if self._llama.partial and own > missing and length - missing > shared:
            self.cut(sequence, length - missing)
        else:
            self.drop(sequence)

    def _release_covered(self) -> bool:
        """Cached sequences that hold the same cells keep each other from being anybody's own: let one go."""
        covered = [s for s in self._kept if self._tree.covered(s) and self._tree.idle(self._kept.keys())]
        if not covered:
            return False
        self.drop(min(covered, key=self._rank))
        return True

    def clear(self) -> None:
        """Forget all that nobody works on, pins too."""
        for sequence in list(self._kept):
            self.drop(sequence)
