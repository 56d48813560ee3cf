"""The time, and timers that survive restarts.

One thread sleeps exactly until the next timer is due. A timer that fires is announced through `emit` under its own key and
kept for an hour: after a crash it is emitted again, and the key makes the second one silent. What fell due while nothing
ran is announced at the start.

A timer remembers when it is due twice: on the clock since boot, which nobody sets, and on the wall. The first counts until
the device reboots. After that only the wall clock is left; since it may not be set yet, a timer never waits longer than
it was set for.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from edged.plugin import Choice, Number, Span, ToolError, emit, on_start, state_dir, tool

Result = dict[str, object]
Timer = dict[str, Any]
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
_LONGEST = 7 * 86400
_MOST = 50
_KEEP_FIRED = 3600.0


class Timers:
    """The timers in `timers.json` and the thread that fires them. Seconds; `due` is on the clock since boot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._timers: list[Timer] = []
        self._save([self._rebased(timer) for timer in self._load()])

    def start(self) -> None:
        threading.Thread(target=self._run, name="timers", daemon=True).start()

    def running(self) -> list[Timer]:
        with self._changed:
            return sorted((t for t in self._timers if not t["fired"]), key=lambda t: float(t["due"]))

    def add(self, seconds: float, label: str) -> Timer:
        """Raises ToolError when there are too many. A label that is in use gets a number."""
        with self._changed:
            taken = {t["label"].casefold() for t in self._timers if not t["fired"]}
            if len(taken) >= _MOST:
                raise ToolError(f"There are already {_MOST} timers running.")
            names = [label, *(f"{label} {n}" for n in range(2, _MOST + 2))]
            name = next(n for n in names if n.casefold() not in taken)
            timer = {"key": os.urandom(8).hex(), "label": name, "seconds": seconds, "boot": self._boot, "fired": False}
            timer |= {"due": _since_boot() + seconds, "wall": time.time() + seconds}
            self._save([*self._timers, timer])
            self._changed.notify()
            return timer

    def cancel(self, label: str) -> Timer:
        with self._changed:
            for timer in self._timers:
                if timer["label"] == label and not timer["fired"]:
                    self._save([t for t in self._timers if t is not timer])
                    self._changed.notify()
                    return timer
        raise ToolError(f"There is no timer called {label}.")

    def _run(self) -> None:
        with self._changed:
            for timer in self._timers:
                if timer["fired"]:  # its first announcement may have died with the daemon
                    _announce(timer)
            while True:
                self._fire()
                pending = [t["due"] for t in self._timers if not t["fired"]]
                self._changed.wait(max(0.0, min(pending) - _since_boot()) if pending else None)

    def _fire(self) -> None:
        now = _since_boot()
        due = sorted((t for t in self._timers if not t["fired"] and t["due"] <= now), key=lambda t: float(t["due"]))
        for timer in due:
            timer["fired"] = True
            _announce(timer)
        if due:
            with contextlib.suppress(OSError):  # a full disk must not end the thread that keeps the time
                self._save([t for t in self._timers if not t["fired"] or now - t["due"] < _KEEP_FIRED])

    def _rebased(self, timer: Timer) -> Timer:
        if timer["boot"] == self._boot:
            return timer
        left = min(timer["wall"] - time.time(), timer["seconds"])
        return {**timer, "boot": self._boot, "due": _since_boot() + left}

    def _load(self) -> list[Timer]:
        try:
            timers: list[Timer] = json.loads(self._path.read_text(encoding="utf-8"))
            return [t for t in timers if {"key", "label", "seconds", "boot", "due", "wall", "fired"} <= t.keys()]
        except FileNotFoundError:
            return []
        except (ValueError, AttributeError, TypeError):
            self._path.replace(self._path.with_suffix(".corrupt"))
            return []

    def _save(self, timers: list[Timer]) -> None:
        """On disk first: a timer that was confirmed has to outlive the plug."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(timers, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._timers = timers


_timers: list[Timers] = []


@on_start
def open_timers() -> None:
    _timers[:] = [Timers(state_dir() / "timers.json")]
    _timers[0].start()


def labels() -> list[str]:
    return [timer["label"] for timer in _timers[0].running()]


@tool(say="It is {time} on {date}.", say_error="{error}", examples=["what time is it", "which day is it today"])
def get_time() -> Result:
    """Tell the current time and date"""
    now = time.localtime()
    date = f"{time.strftime('%A', now)}, {now.tm_mday} {time.strftime('%B %Y', now)}"
    return {"time": time.strftime("%H:%M", now), "date": date}


@tool(
    say="{summary}",
    say_error="{error}",
    idempotent=False,
    examples=["set a timer for 10 minutes", "wake me in 2 hours", "start a 90 seconds timer called eggs"],
)
def set_timer(
    amount: Annotated[float, Number(0, _LONGEST)],
    unit: Literal["seconds", "minutes", "hours"],
    label: Annotated[str, Span()] | None = None,
) -> Result:
    """Start a timer"""
    seconds = amount * _SECONDS[unit]
    if not 1 <= seconds <= _LONGEST:
        raise ToolError("A timer runs from one second to seven days.")
    duration = _spoken(seconds)
    wanted = " ".join((label or "").split())[:60]
    timer = _timers[0].add(seconds, wanted or _spoken(seconds, plural=""))
    summary = f"The {timer['label']} timer is set for {duration}." if wanted else f"The timer is set for {duration}."
    return {"label": timer["label"], "duration": duration, "seconds": seconds, "summary": summary}


@tool(say="{summary}", say_error="{error}", examples=["which timers are running", "how long is left on my timer"])
def list_timers() -> Result:
    """List the running timers"""
    now = _since_boot()
    running = [f"{t['label']}, {_spoken(max(1.0, t['due'] - now))} left" for t in _timers[0].running()]
    summary = "No timers are running."
    if running:
        summary = f"{len(running)} timer{'s' if len(running) > 1 else ''}: {'; '.join(running)}."
    return {"count": len(running), "timers": "; ".join(running), "summary": summary}


@tool(
    say="The {label} timer is stopped.",
    say_error="{error}",
    idempotent=False,
    examples=["cancel the eggs timer", "stop the 10 minute timer"],
)
def cancel_timer(label: Annotated[str, Choice(labels)]) -> Result:
    """Stop a running timer"""
    timer = _timers[0].cancel(label)
    return {"label": timer["label"], "left": _spoken(max(1.0, timer["due"] - _since_boot()))}


def _announce(timer: Timer) -> None:
    late = time.time() - timer["wall"]
    missed = f", {_spoken(late)} ago" if late > 60 else ""
    emit("timer", timer["key"], f"The {timer['label']} timer is done{missed}.", label=timer["label"], due=timer["wall"])


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _spoken(seconds: float, plural: str = "s") -> str:
    """90 -> "1 minute and 30 seconds"; hours drop the seconds. `plural=""` makes a name: "30 second"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "hour"), (minutes, "minute"), (0 if hours else rest, "second")]
    said = [f"{n} {unit}{plural if n > 1 else ''}" for n, unit in parts if n]
    return " and ".join(said) or "0 seconds"
