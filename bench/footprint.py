"""What edged costs before it does anything, and how soon it does: `python -m bench.footprint [--json]`.

The real daemon is started several times in a fresh state folder; READY is systemd's own notification, received on a socket.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench.process import DaemonProcess, Site
from bench.report import Bar, Reported, show
from edged.ipc.memory import resident_bytes

__all__ = ["main"]

# Nobody listens at that port; the door is loaded and waits. The till has its language model alone to understand with.
_OVERLAY = """
[mqtt]
enabled = true
port = 9

[agents.till]
tools = ["kiosk.*"]
tiers = ["model"]
"""
_QUESTION = "do you have the noise cancelling headphones in stock?"


def once(folder: Path) -> dict[str, float]:
    """One cold life of the daemon: seconds and bytes."""
    site = Site(folder, _OVERLAY)
    with DaemonProcess(site) as daemon:
        began = time.monotonic() - daemon.seconds_to_ready
        idle = resident_bytes(daemon.pid)
        status, reply = daemon.ask("till", _QUESTION)
        first = time.monotonic() - began
        if status != 200 or reply["tier"] != "model":
            raise RuntimeError(f"the bundled model did not answer: {reply}")
        _, again = daemon.call("GET", "/v1/status")
        workers = [m["rss_bytes"] for m in again["models"] if m.get("pid")]
        warm_began = time.monotonic()
        daemon.ask("till", _QUESTION)
        warm = time.monotonic() - warm_began
    with DaemonProcess(site) as daemon:  # what the first life proved about the model is remembered
        began = time.monotonic() - daemon.seconds_to_ready
        daemon.ask("till", _QUESTION)
        second = time.monotonic() - began
    with DaemonProcess(site) as daemon:
        began = time.monotonic() - daemon.seconds_to_ready
        _, reply = daemon.ask("kiosk", _QUESTION)
        understood = time.monotonic() - began
        if reply["tier"] != "intent":
            raise RuntimeError(f"the intent tier did not answer: {reply}")
    return {
        "ready": daemon.seconds_to_ready,
        "idle": idle / 1e6,
        "first": first,
        "second": second,
        "understood": understood,
        "warm": warm,
        "worker": sum(workers) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    lives = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory(prefix="edged-footprint-") as folder:
            lives.append(once(Path(folder)))
    middle = {key: statistics.median(life[key] for life in lives) for key in lives[0]}
    bars = [
        Bar("idle daemon, RSS in MB", middle["idle"], "<=", 60),
        Bar("exec to READY, seconds", middle["ready"], "<=", 0.7),
        Bar("exec to first answer of the model, seconds", middle["first"], "<=", 3.0),
    ]
    reported = [
        Reported("runs (medians are shown)", options.runs),
        Reported("idle daemon, largest RSS in MB", max(life["idle"] for life in lives)),
        Reported("exec to READY, slowest", max(life["ready"] for life in lives)),
        Reported("exec to first answer, slowest", max(life["first"] for life in lives)),
        Reported("exec to first answer, second start", middle["second"]),
        Reported("exec to first answer of the intent tier, seconds", middle["understood"]),
        Reported("the same question again, seconds", middle["warm"]),
        Reported("model worker, RSS in MB", middle["worker"]),
    ]
    show("footprint", bars, reported, as_json=options.json)


if __name__ == "__main__":
    main()
