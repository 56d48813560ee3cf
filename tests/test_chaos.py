"""A seeded handful of the chaos bench's rounds; `python -m bench.chaos --rounds 200` is the bar."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = 25


@pytest.mark.timeout(150)
def test_nothing_is_lost_and_nothing_answered_twice() -> None:
    command = [sys.executable, "-m", "bench.chaos", "--rounds", str(ROUNDS), "--seed", "1", "--json"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=140, check=True
    )
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert all(bar["holds"] for bar in outcome["bars"]), done.stdout
    assert outcome["reported"]["kills"] == ROUNDS
    assert outcome["reported"]["acknowledged"] > ROUNDS  # the rounds did work before they died
