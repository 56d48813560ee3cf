"""Words are shared out once."""

from __future__ import annotations

import itertools
import random

from edged.agent.places import Place, assign


def test_the_better_whole_beats_the_better_first() -> None:
    patron = [Place(5, 14, 0.39), Place(19, 35, 0.20)]
    garment = [Place(5, 35, 0.29), Place(5, 14, 0.24)]
    assert assign([patron, garment], [0.01, 0.01]) == [1, 1]


def test_what_is_not_stated_takes_no_place() -> None:
    assert assign([[Place(0, 4, 0.9)], [Place(0, 4, 0.2)]], [0.1, 0.8]) == [0, None]
    assert assign([], []) == []
    assert assign([[]], [0.3]) == [None]


def test_against_all_ways_there_are() -> None:
    rng = random.Random(4)
    for _ in range(200):
        wishes = [
            [
                Place(begin := rng.randint(0, 20), begin + rng.randint(1, 8), rng.random())
                for _ in range(rng.randint(0, 4))
            ]
            for _ in range(3)
        ]
        absent = [rng.uniform(0.01, 1) for _ in range(3)]

        def worth(
            choice: tuple[int | None, ...], wishes: list[list[Place]] = wishes, absent: list[float] = absent
        ) -> float:
            places = [w[c] for w, c in zip(wishes, choice, strict=True) if c is not None]
            if any(a.overlaps(b) for a, b in itertools.combinations(places, 2)):
                return -1.0
            product = 1.0
            for w, c, none in zip(wishes, choice, absent, strict=True):
                product *= none if c is None else w[c].chance
            return product

        every = itertools.product(*([None, *range(len(w))] for w in wishes))
        assert worth(tuple(assign(wishes, absent))) == max(map(worth, every))
