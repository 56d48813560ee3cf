"""What a service manager is told, read from a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.device import clock
from edged.device.systemd import Systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listening


@pytest.fixture
def systemd(manager: socket.socket) -> Iterator[Systemd]:
    telling = Systemd()
    yield telling
    assert telling._notifier is not None
    telling._notifier.socket.close()  # the daemon never does: it tells to its last moment


def test_the_manager_hears_everything_in_order(manager: socket.socket, systemd: Systemd) -> None:
    systemd.ready("2 agents")
    systemd.status("busy")
    systemd.alive()
    systemd.stopping()
    heard = [manager.recv(4096).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=2 agents", "STATUS=busy", "WATCHDOG=1", "STOPPING=1\nSTATUS=draining"]


def test_a_status_in_any_script_does_not_swallow_ready(manager: socket.socket, systemd: Systemd) -> None:
    systemd.ready("Küche, 厨房")
    assert manager.recv(4096).decode() == "READY=1\nSTATUS=Küche, 厨房"


def test_a_manager_that_went_away_does_no_harm(manager: socket.socket, systemd: Systemd) -> None:
    manager.close()
    systemd.alive()


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd = Systemd()
    systemd.ready("x")
    systemd.stopping()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        (None, None, None),
        ("", None, None),
        ("30000000", None, 30.0),
        ("2500000", str(os.getpid()), 2.5),
        ("2500000", "1", None),  # meant for another process of the unit
    ],
)
def test_watchdog(monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, seconds: float | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Systemd().watchdog_seconds == seconds


@pytest.mark.parametrize(("now", "known"), [(0.0, False), (1_763_683_199.0, False), (1_763_683_200.0, True)])
def test_a_clock_from_before_the_release_is_not_set(monkeypatch: pytest.MonkeyPatch, now: float, known: bool) -> None:
    monkeypatch.setattr("time.time", lambda: now)
    assert clock.is_set() is known
