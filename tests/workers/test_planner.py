"""The planner as tables: who is there, what there is -> who computes what, and who makes room."""

from __future__ import annotations

import random
from typing import Any

import pytest

from edged.workers.planner import Limits, Plan, View, plan


def reads(number: int, pending: int, **more: Any) -> View:
    """A prompt that nobody has begun."""
    return View(number, pending=pending, **more)


def reading(number: int, pending: int, holds: int, **more: Any) -> View:
    return View(number, pending=pending, started=True, holds=holds, **more)


def writes(number: int, holds: int = 10, **more: Any) -> View:
    return View(number, **{"pending": 1, "decoding": True, "started": True, "holds": holds, **more})


def limits(slots: int = 4, batch: int = 64, chunk: int = 32, cells: int = 1000) -> Limits:
    return Limits(slots, batch, chunk, cells)


TABLE: list[tuple[str, list[View], Limits, Plan]] = [
    ("nobody", [], limits(), Plan()),
    ("a prompt", [reads(1, 20)], limits(), Plan(((1, 20, 0),))),
    ("a prompt in parts", [reads(1, 200)], limits(), Plan(((1, 32, 0),))),
    ("a prompt in parts that batches hold", [reads(1, 200)], limits(batch=20), Plan(((1, 20, 0),))),
    ("writers come first", [writes(1), reads(2, 200)], limits(), Plan(((1, 1, 0), (2, 32, 0)))),
    ("what writers leave of the batch", [writes(1), reads(3, 200)], limits(batch=8), Plan(((1, 1, 0), (3, 7, 0)))),
    ("several prompts share a part", [reads(1, 20), reads(2, 20), reads(3, 20)], limits(), Plan(((1, 20, 0), (2, 12, 0)))),
    ("the urgent prompt first", [reads(1, 20), reads(2, 20, rank=0)], limits(), Plan(((2, 20, 0), (1, 12, 0)))),
    ("the earlier deadline first", [reads(1, 20), reads(2, 20, deadline=5, arrived=9)], limits(), Plan(((2, 20, 0), (1, 12, 0)))),
    ("the rank before the deadline", [reads(1, 20, rank=0), reads(2, 20, deadline=5)], limits(), Plan(((1, 20, 0), (2, 12, 0)))),
    ("the earlier arrival first", [reads(1, 20, arrived=2), reads(2, 20, arrived=1)], limits(), Plan(((2, 20, 0), (1, 12, 0)))),
    ("no more than the slots", [reads(i, 5) for i in range(5)], limits(slots=2), Plan(((0, 5, 0), (1, 5, 0)))),
    (
        "a more urgent one takes a slot, and nothing of what is computed is lost",
        [writes(1), writes(2), reads(3, 5, rank=0)],
        limits(slots=2),
        Plan(((3, 5, 0), (1, 1, 0)), pause=(2,)),
    ),
    ("drafts go along", [writes(1, drafts=3), writes(2, drafts=2)], limits(), Plan(((1, 1, 3), (2, 1, 2)))),
    ("drafts need room in the batch", [writes(1, drafts=3), writes(2, drafts=2)], limits(batch=4), Plan(((1, 1, 0), (2, 1, 0)))),
    ("drafts need cells", [writes(1, drafts=3)], limits(cells=3), Plan(((1, 1, 2),))),
    ("tokens that are forced", [writes(1, pending=7)], limits(), Plan(((1, 7, 0),))),
    ("who follows waits", [reads(1, 20), reads(2, 60, follows=1)], limits(), Plan(((1, 20, 0),))),
    ("not for one who is not there", [reads(2, 60, follows=1)], limits(), Plan(((2, 32, 0),))),
    ("not for one who has no slot", [reads(1, 50, rank=2), reads(2, 60, follows=1)], limits(slots=1), Plan(((2, 32, 0),))),
    ("not for one who is less urgent", [reading(1, 50, 9, rank=2), reads(2, 60, follows=1)], limits(), Plan(((2, 32, 0),))),
    ("a part that has to end somewhere", [reads(1, 50, stop=7)], limits(), Plan(((1, 7, 0),))),
    ("a part that ends before it has to", [reads(1, 50, stop=40)], limits(), Plan(((1, 32, 0),))),
    ("the first may read what does not fit at once", [reads(1, 50)], limits(cells=20), Plan(((1, 20, 0),))),
    ("others do not start what does not fit", [writes(1), reads(2, 50)], limits(cells=81), Plan(((1, 1, 0),))),
    ("others start what fits with some to spare", [writes(1), reads(2, 30)], limits(cells=62), Plan(((1, 1, 0), (2, 30, 0)))),
    ("a smaller one behind it may", [writes(1), reads(2, 500), reads(3, 9)], limits(cells=99), Plan(((1, 1, 0), (3, 9, 0)))),
    ("no cells at all", [writes(1)], limits(cells=0), Plan()),
    (
        "the least urgent makes room",
        [writes(1, rank=0), writes(2, holds=30), writes(3, holds=40)],
        limits(cells=0),
        Plan(((1, 1, 0), (2, 1, 0)), aside=(3,)),
    ),
    (
        "as many as are needed make room",
        [reads(1, 32, rank=0), writes(2, holds=20), writes(3, holds=10)],
        limits(cells=5),
        Plan(((1, 32, 0),), aside=(3, 2)),
    ),
    (
        "nobody makes room for a less urgent one",
        [writes(1, rank=0, holds=90), reading(2, 32, 5)],
        limits(cells=1),
        Plan(((1, 1, 0),)),
    ),
    ("a writer gets all its tokens or none", [writes(1, pending=4), writes(2)], limits(cells=3), Plan(((1, 4, 0),), aside=(2,))),
    (
        "a paused one may be set aside",
        [writes(1), writes(2, started=False, holds=50, rank=2)],
        limits(cells=0, slots=1),
        Plan(((1, 1, 0),), aside=(2,)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("views", "given", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table(views: list[View], given: Limits, expected: Plan) -> None:
    for shuffled in (views, views[::-1]):
        assert plan(shuffled, given) == expected


def test_lanes_take_turns() -> None:
    views = [writes(1), writes(2, lane="x"), writes(3, lane="y"), writes(4, lane="x")]
    last, seen = None, []
    for _ in range(6):
        decided = plan(views, limits(), last)
        last = decided.lane
        seen.append((decided.lane, [row[0] for row in decided.rows]))
    assert seen == [("x", [2, 4]), ("y", [3]), (None, [1])] * 2
    assert plan([writes(2, lane="x")], limits(), "x").lane == "x"


def test_forced_tokens_never_exceed_a_batch() -> None:
    # Once: what a grammar forces on writers is planned whole, however long it is, and the batch breaks.
    for batch in (4, 30, 64):
        for views in (
            [writes(1, pending=100)],
            [writes(1, pending=40), writes(2, pending=40)],
            [writes(i, pending=9, drafts=2) for i in range(4)],
            [writes(1, pending=40), reads(2, 100)],
            [writes(1, pending=100, rank=2), reads(2, 100)],
        ):
            assert 0 < sum(count + drafts for _, count, drafts in plan(views, limits(batch=batch)).rows) <= batch


def view(rng: random.Random, number: int) -> View:
    decoding = rng.random() < 0.5
    started = decoding or rng.random() < 0.3
    return View(
        number,
        rank=rng.randrange(3),
        deadline=rng.choice([float("inf"), rng.random()]),
        arrived=float(number),
        pending=1 if decoding else rng.randrange(1, 99),
        drafts=rng.choice([0, 0, 4]) if decoding else 0,
        decoding=decoding,
        started=started and rng.random() < 0.9,
        holds=rng.randrange(1, 60) if started else 0,
        lane=rng.choice([None, None, "x", "y"]),
        follows=None if started else rng.choice([None, None, rng.randrange(8)]),
        stop=rng.choice([None, None, rng.randrange(1, 40)]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_there_is(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(400):
        views = [view(rng, number) for number in range(rng.randrange(9))]
        given = limits(rng.randrange(1, 5), rng.randrange(12, 80), rng.randrange(1, 64), rng.randrange(200))
        last = rng.choice([None, "x", "y"])
        check(views, given, plan(views, given, last))


def check(views: list[View], given: Limits, decided: Plan) -> None:
    by = {v.id: v for v in views}
    ids = [row[0] for row in decided.rows]
    assert len(set(ids)) == len(ids) <= given.slots
    assert not set(ids) & {*decided.aside, *decided.pause}
    assert {by[i].lane for i in ids} <= {decided.lane}
    assert sum(count + drafts for _, count, drafts in decided.rows) <= given.batch
    assert sum(count for i, count, _ in decided.rows if not by[i].decoding) <= given.chunk
    for i, count, drafts in decided.rows:
        assert 0 < count <= by[i].pending
        assert drafts <= by[i].drafts
        assert by[i].decoding or count <= (by[i].stop or count)
    freed = sum(by[i].holds for i in decided.aside)
    assert sum(count + drafts for _, count, drafts in decided.rows) <= given.cells + freed
    assert not decided.aside or min(by[i].order for i in decided.aside) > min((by[i].order for i in ids), default=(0,))
    going = [v for v in views if v.started and v.id not in decided.pause]
    assert len({*(v.id for v in going), *ids} - set(decided.aside)) <= given.slots
    if views:
        first = min(views, key=lambda v: v.order)
        assert first.id not in decided.aside
        room = given.cells + sum(v.holds for v in views if v is not first)
        if first.lane == decided.lane and room >= (first.pending if first.decoding else 1):
            assert first.id in ids
