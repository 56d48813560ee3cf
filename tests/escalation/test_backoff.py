"""The back-off as a table: no dice, no clock."""

from __future__ import annotations

import pytest

from edged.escalation.backoff import Backoff


@pytest.mark.parametrize(
    ("attempt", "roll", "retry_after", "seconds"),
    [
        (1, 0.5, None, 0.5),
        (2, 0.5, None, 1.0),
        (4, 0.5, None, 4.0),
        (9, 1.0, None, 256.0),
        (10, 1.0, None, 300.0),
        (50, 0.5, None, 150.0),
        (5000, 0.5, None, 150.0),
        (0, 0.5, None, 0.5),
        (3, 0.0, None, 0.0),
        (1, 0.0, 30.0, 30.0),
        (1, 0.5, 30.0, 30.5),
        (10, 0.5, 30.0, 180.0),
        (1, 0.5, 86400.0, 3600.5),
        (1, 0.5, -5.0, 0.5),
        (1, 0.5, 0.0, 0.5),
    ],
)
def test_delay(attempt: int, roll: float, retry_after: float | None, seconds: float) -> None:
    assert Backoff().delay(attempt, roll, retry_after) == seconds


def test_no_delay_is_longer_than_longest() -> None:
    backoff = Backoff(base=2.0, cap=20.0, patience=100.0)
    assert backoff.delay(99, 1.0, 1e12) == backoff.longest == 120.0
