"""The prefix tree against a model that forgets nothing: each sequence as its tokens and the cells that hold them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from edged.workers.prefix import PrefixTree, common

LANES = (None, "x")
NUMBERS = range(10)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1], [2], 0),
        ([1, 2, 3], [1, 2, 3], 3),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2, 3], [1, 9, 3], 1),
        ([7] * 1000 + [1], [7] * 1000 + [2], 1000),
    ],
)
def test_common(a: list[int], b: list[int], length: int) -> None:
    assert common(a, b) == common(b, a) == length
    assert common(a, b, length) == length


def test_common_of_random_lists() -> None:
    rng = random.Random(5)
    for _ in range(1000):
        a = [rng.randrange(2) for _ in range(rng.randrange(100))]
        b = a[: rng.randrange(len(a) + 1)] + [rng.randrange(2) for _ in range(rng.randrange(9))]
        slow = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        assert common(a, b) == slow
        assert common(a, b, slow // 2) == slow


def test_a_shared_prefix_is_held_once_and_free_when_the_last_lets_go() -> None:
    tree = PrefixTree()
    tree.open(1)
    tree.extend(1, [5, 6, 7, 8])
    tree.open(2)
    tree.share(1, 2, 3)
    assert (tree.cells, tree.own(1), tree.own(2), tree.covered(2), tree.covered(1)) == (4, 1, 0, True, False)
    tree.extend(2, [9])
    assert (tree.cells, tree.own(2), tree.covered(2), tree.shared(2)) == (5, 1, False, 3)
    assert tree.match([5, 6, 7, 9, 1]) == (4, 2)
    assert (tree.idle({1}), tree.idle({1, 2}), tree.idle(set())) == (1, 5, 0)
    tree.close(1)
    assert (tree.cells, tree.own(2)) == (4, 4)
    tree.close(2)
    assert (tree.cells, tree.match([5, 6]), 2 in tree) == (0, (0, None), False)


def test_a_whole_match_ends_where_a_sequence_ends() -> None:
    tree = PrefixTree()
    tree.open(1)
    tree.extend(1, [1, 2, 3])
    tree.open(2)
    tree.share(1, 2, 3)
    tree.extend(2, [4, 5])
    assert tree.match([1, 2, 3, 4, 9]) == (4, 2)
    assert tree.match([1, 2, 3, 4, 9], whole=True) == (3, 1)
    assert tree.match([1, 2, 9], whole=True) == (0, None)


def test_lanes_share_nothing() -> None:
    tree = PrefixTree()
    tree.open(1, "x")
    tree.extend(1, [1, 2])
    assert (tree.match([1, 2], "x"), tree.match([1, 2]), tree.match([1, 2], "y")) == ((2, 1), (0, None), (0, None))
    assert (tree.holds(1, [1, 2], "x"), tree.holds(1, [1, 2]), tree.holds(1, [1], "x")) == (True, False, False)


@dataclass
class Model:
    """Sequences as lists of (token, cell): what the tree has to agree with, whatever is done to both."""

    rng: random.Random
    tree: PrefixTree = field(default_factory=PrefixTree)
    held: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    lanes: dict[int, str | None] = field(default_factory=dict)
    cells: int = 0

    def tokens(self, most: int) -> list[int]:
        return [
            self.rng.randrange(2) for _ in range(self.rng.randrange(most))
        ]  # of two kinds only, so prefixes are shared

    def any(self) -> int | None:
        return self.rng.choice(list(self.held)) if self.held else None

    def spare(self) -> int | None:
        return next((n for n in NUMBERS if n not in self.held), None)

    def open(self) -> None:
        new = self.spare()
        if new is not None:
            self.lanes[new] = self.rng.choice(LANES)
            self.tree.open(new, self.lanes[new])
            self.held[new] = []

    def extend(self) -> None:
        one, tokens = self.any(), self.tokens(6)
        if one is not None:
            self.tree.extend(one, tokens)
            self.held[one] = self.held[one] + [(token, self.cells + i) for i, token in enumerate(tokens)]
            self.cells += len(tokens)

    def cut(self) -> None:
        one = self.any()
        if one is not None:
            length = self.rng.randrange(len(self.held[one]) + 1)
            self.tree.cut(one, length)
            self.held[one] = self.held[one][:length]

    def close(self) -> None:
        one = self.any()
        if one is not None:
            self.tree.close(one)
            del self.held[one], self.lanes[one]

    def rename(self) -> None:
        one, new = self.any(), self.spare()
        if one is not None and new is not None:
            self.tree.rename(one, new)
            self.held[new], self.lanes[new] = self.held.pop(one), self.lanes.pop(one)

    def match_and_share(self) -> None:
        lane, tokens = self.rng.choice(LANES), self.tokens(14)
        mine = {s: [token for token, _ in cells] for s, cells in self.held.items() if self.lanes[s] == lane}
        length, source = self.tree.match(tokens, lane)
        assert length == max([common(held, tokens) for held in mine.values()], default=0)
        whole, ending = self.tree.match(tokens, lane, whole=True)
        assert whole == max([len(held) for held in mine.values() if held == tokens[: len(held)]], default=0)
        assert ending is None or mine[ending] == tokens[:whole]
        new = self.spare()
        if source is not None and new is not None:
            assert mine[source][:length] == tokens[:length]
            self.tree.open(new, lane)
            self.tree.share(source, new, length)
            self.held[new], self.lanes[new] = self.held[source][:length], lane

    def check(self) -> None:
        tree = self.tree
        cells = {s: {cell for _, cell in held} for s, held in self.held.items()}
        assert tree.cells == len(set[int]().union(*cells.values()))
        cached = set(self.rng.sample(sorted(self.held), len(self.held) // 2))
        live = set[int]().union(*(cells[s] for s in cells if s not in cached))
        assert tree.idle(cached) == len(set[int]().union(*(cells[s] for s in cached)) - live)
        for s, held in self.held.items():
            others = set[int]().union(*(cells[o] for o in cells if o != s))
            tokens = [token for token, _ in held]
            assert tree.length(s) == len(held)
            assert tree.holds(s, tokens, self.lanes[s])
            assert not tree.holds(s, [*tokens, 0], self.lanes[s])
            assert tree.own(s) == len(cells[s] - others)
            assert tree.covered(s) == (cells[s] <= others)
            assert tree.shared(s) == max([i + 1 for i, (_, cell) in enumerate(held) if cell in others], default=0)


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_agrees_with_the_model(seed: int) -> None:
    for trial in range(12):
        model = Model(random.Random(100 * seed + trial))
        deeds: Sequence[Callable[[], None]] = (
            model.open, model.extend, model.extend, model.cut, model.close, model.rename, model.match_and_share,
        )  # fmt: skip
        for _ in range(120):
            model.rng.choice(deeds)()
            model.check()
        for one in list(model.held):
            model.tree.close(one)
        assert model.tree.cells == 0
