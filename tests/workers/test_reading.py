"""From scores to words."""

from __future__ import annotations

import numpy as np
import pytest

from edged.workers.reading import options, spans

FLAT = np.zeros(7, np.float32)
TEXT = "wake me at half past"
OFFSETS = [(0, 0), (0, 4), (5, 7), (8, 10), (11, 15), (16, 20), (0, 0)]


def scores(at: int, high: float = 8.0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    row = np.full(len(OFFSETS), -8.0, np.float32)
    row[at] = high
    return row


def test_a_run_of_words() -> None:
    found, absent = spans(TEXT, OFFSETS, scores(4), scores(5), FLAT, -8.0)
    begin, end, chance = found[0]
    assert TEXT[begin:end] == "half past"
    assert chance > 0.99 and absent < 0.01


def test_ends_that_belong_together() -> None:
    """Two starts and two ends: without the words between them, four runs are as likely."""
    start, end = np.maximum(scores(1), scores(4)), np.maximum(scores(1), scores(5))
    inside = np.array([0, 1, -6, -6, 6, 6, 0], np.float32)
    found, _ = spans(TEXT, OFFSETS, start, end, inside, -8.0)
    assert TEXT[slice(*found[0][:2])] == "half past" and found[0][2] > 0.9
    unsure, _ = spans(TEXT, OFFSETS, start, end, FLAT, -8.0)
    assert unsure[0][2] < 0.4


def test_nothing_said() -> None:
    found, absent = spans(TEXT, OFFSETS, scores(4, -8.0), scores(5, -8.0), FLAT, 8.0)
    assert found == [] and absent > 0.99


def test_an_end_before_its_start_is_no_span() -> None:
    found, _ = spans(TEXT, OFFSETS, scores(5), scores(4), FLAT, -2.0)
    assert all(begin < end for begin, end, _ in found)


def test_the_frame_is_never_pointed_at() -> None:
    found, absent = spans(TEXT, OFFSETS, scores(0), scores(6), FLAT, 1.0)
    assert absent > 0.9 and not [f for f in found if f[2] > 0.1]


def test_pieces_grow_to_words() -> None:
    offsets = [(0, 0), (0, 4), (4, 6), (0, 0)]  # "play" "##er" of "player"
    row = np.array([-9, 9, -9, -9], np.float32)
    assert spans("player", offsets, row, row, row * 0, -9.0)[0][0][:2] == (0, 6)


def test_an_empty_sentence() -> None:
    assert spans("", [(0, 0), (0, 0)], FLAT[:2], FLAT[:2], FLAT[:2], 0.0) == ([], 1.0)


@pytest.mark.parametrize(("absent", "best"), [(-5.0, 1), (9.0, 2)])
def test_choices(absent: float, best: int) -> None:
    chances = options([1.0, 6.0], absent)
    assert len(chances) == 3 and sum(chances) == pytest.approx(1.0)
    assert max(range(3), key=chances.__getitem__) == best
