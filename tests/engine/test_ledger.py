"""Bytes held, and models that crash too often."""

from __future__ import annotations

import pytest

from edged.domain.errors import ModelWontFit
from edged.domain.resources import Budget
from edged.engine.ledger import Ledger
from edged.engine.quarantine import Quarantine


def test_reserve_and_release() -> None:
    ledger = Ledger(Budget(100))
    ledger.reserve("a", 60)
    assert (ledger.held, ledger.free) == (60, 40)
    with pytest.raises(ModelWontFit) as refused:
        ledger.reserve("b", 41)
    assert refused.value.fields == {"needed": 41, "free": 40}
    ledger.release("a")
    ledger.release("a")
    assert ledger.free == 100
    ledger.reserve("b", 100)


def test_a_name_is_reserved_once() -> None:
    ledger = Ledger(Budget(100))
    ledger.reserve("a", 1)
    with pytest.raises(ValueError, match="already"):
        ledger.reserve("a", 1)


def test_quarantine_backs_off_and_forgives() -> None:
    q = Quarantine(after=3, base=30.0, cap=100.0)
    assert [q.crashed("a", 0.0) for _ in range(2)] == [None, None]
    assert not q.holds("a", 0.0)
    assert [q.crashed("a", 1000.0) for _ in range(3)] == [1030.0, 1060.0, 1100.0]
    assert q.holds("a", 1099.0)
    assert not q.holds("a", 1100.0)
    assert not q.holds("b", 0.0)
    q.answered("a")
    assert not q.holds("a", 1000.0)
    assert q.crashed("a", 0.0) is None
