"""Exact search over int8 rows: the right ones, in order, through every way that rows come and go."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edged.domain.errors import BadRequest
from edged.workers import nearest
from edged.workers.nearest import Nearest

WIDTH = 32


def rows(count: int, seed: int = 1) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-127, 128, (count, WIDTH), np.int8)


def ids(*numbers: int) -> bytes:
    return np.array(numbers, np.int64).tobytes()


def held(count: int, singly_from: int = 0) -> tuple[Nearest, NDArray[np.int8]]:
    """A set "a" with ids from 1, whose first rows came at once and the others one by one."""
    near, some = Nearest(), rows(count)
    first = singly_from or count
    near.hold("a", 0, ids(*range(1, first + 1)), some[:first].tobytes())
    for at in range(first, count):
        assert near.hold("a", at, ids(at + 1), some[at].tobytes()) == {"stamp": [at + 1, at + 1]}
    return near, some


def cosines(some: NDArray[np.int8], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = some.astype(np.float64)
    return np.asarray(exact @ wanted / np.linalg.norm(exact, axis=1) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("count", "first"), [(1, 1), (7, 3), (1024, 1024), (2500, 1000), (3000, 2990)])
def test_the_nearest_are_found_in_order(count: int, first: int) -> None:
    near, some = held(count, first)
    wanted = np.random.default_rng(2).standard_normal(WIDTH, np.float32)
    answer = near.search("a", [count, count], (wanted * 5).tobytes(), 10)
    exact = cosines(some, wanted)
    order = np.argsort(-exact)[:10]
    assert [id for id, _ in answer["found"]] == [at + 1 for at in order]
    assert [cosine for _, cosine in answer["found"]] == pytest.approx(exact[order].tolist(), abs=1e-5)


def test_another_stamp_is_not_known_and_told() -> None:
    near, some = held(5)
    query = some[0].astype("<f4").tobytes()
    assert near.search("a", [6, 6], query, 1) == {"known": False, "stamp": [5, 5]}
    assert near.search("b", [5, 5], query, 1) == {"known": False, "stamp": [0, 0]}
    assert near.search("a", None, query, 1)["found"] == [[1, pytest.approx(1.0, abs=1e-6)]]


def test_what_is_not_kept_is_gone() -> None:
    near, some = held(2500, 2400)
    live = [n for n in range(1, 2501) if n % 3]
    assert near.hold("a", 2500, b"", b"", keep=ids(*live)) == {"stamp": [2500, len(live)]}
    for wanted in (1, 2, 1025, 2500):
        [[found, _]] = near.search("a", [2500, len(live)], some[wanted - 1].astype("<f4").tobytes(), 1)["found"]
        assert found == wanted
    [[found, cosine]] = near.search("a", None, some[2].astype("<f4").tobytes(), 1)["found"]
    assert found != 3 and cosine < 0.999
    assert near.hold("a", 2500, b"", b"", keep=b"") == {"stamp": [0, 0]}
    assert near.search("a", [0, 0], some[0].astype("<f4").tobytes(), 1) == {"known": False, "stamp": [0, 0]}


def test_rows_out_of_turn_change_nothing() -> None:
    near, some = held(5)
    assert near.hold("a", 3, ids(6), some[0].tobytes()) == {"stamp": [5, 5]}
    assert near.hold("b", 3, ids(6), some[0].tobytes()) == {"stamp": [0, 0]}
    assert near.hold("a", 0, ids(9), some[0].tobytes()) == {"stamp": [9, 1]}  # anew


def test_a_row_of_zeros_is_near_to_nothing() -> None:
    near = Nearest()
    near.hold("a", 0, ids(1, 2), np.array([[0] * WIDTH, [1] * WIDTH], np.int8).tobytes())
    assert near.search("a", None, np.ones(WIDTH, "<f4").tobytes(), 2)["found"] == [[2, pytest.approx(1)], [1, 0.0]]


def test_a_query_that_does_not_fit_is_refused() -> None:
    near, _ = held(3)
    with pytest.raises(BadRequest):
        near.search("a", None, np.ones(WIDTH + 1, "<f4").tobytes(), 1)
    with pytest.raises(BadRequest):
        near.search("a", None, np.full(WIDTH, np.nan, "<f4").tobytes(), 1)


def test_too_much_drops_what_was_searched_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_MOST_BYTES", 25 * (WIDTH + 12))
    near, some = Nearest(), rows(26)
    query = some[0].astype("<f4").tobytes()
    for key in ("a", "b"):
        near.hold(key, 0, ids(*range(1, 11)), some[:10].tobytes())
    assert near.search("a", None, query, 1)["known"]
    near.hold("c", 0, ids(*range(1, 11)), some[:10].tobytes())
    assert [near.search(key, None, query, 1)["known"] for key in "abc"] == [True, False, True]
    with pytest.raises(BadRequest):
        near.hold("d", 0, ids(*range(1, 27)), some.tobytes())
