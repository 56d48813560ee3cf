"""A scripted child that the daemon's end can start by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> str:
    """The child's module name, importable in children."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    return "echo_worker"
