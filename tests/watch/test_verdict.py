"""The verdict as a table."""

from __future__ import annotations

from typing import Any

import pytest

from edged.watch.verdict import verdict

FINE: dict[str, Any] = {"models": [], "plugins": [], "store_lean": False, "set_aside": None, "broker": None}
READY = [{"name": "bundled", "state": "ready"}, {"name": "big", "state": "cold"}]
UP = {"broker": "127.0.0.1:1883", "connected_since": 5.0}
DOWN = {"broker": "127.0.0.1:1883", "connected_since": None}


@pytest.mark.parametrize(
    ("case", "state", "words"),
    [
        ({}, "healthy", []),
        ({"models": READY, "plugins": [{"name": "kiosk", "state": "ready"}], "broker": UP}, "healthy", []),
        ({"models": [*READY, {"name": "bad", "state": "quarantined"}]}, "degraded", ["model bad"]),
        (
            {"plugins": [{"name": "home", "state": "resting", "last_error": "SIGSEGV"}]},
            "degraded",
            ["plugin home will not run: SIGSEGV"],
        ),
        ({"broker": DOWN}, "degraded", ["not connected to 127.0.0.1:1883: connecting"]),
        ({"broker": {**DOWN, "last_error": "refused"}}, "degraded", ["127.0.0.1:1883: refused"]),
        ({"set_aside": "edged.db.corrupt-1"}, "degraded", ["set aside as edged.db.corrupt-1"]),
        ({"store_lean": True}, "unhealthy", ["disk is full"]),
        ({"store_lean": True, "broker": DOWN, "set_aside": "x"}, "unhealthy", ["disk is full", "mqtt", "set aside"]),
    ],
)
def test_verdict(case: dict[str, Any], state: str, words: list[str]) -> None:
    told = verdict(**{**FINE, **case})
    assert told["state"] == state
    assert len(told["reasons"]) == len(words)
    assert all(word in reason for word, reason in zip(words, told["reasons"], strict=True))
