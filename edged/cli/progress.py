"""How far a long copy is: a bar on a terminal, a line now and then elsewhere. On stderr, so that stdout stays the result's."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from edged.cli.screen import harmless, note

__all__ = ["Report", "progress", "size"]

_EVERY: Final = 5.0
Report = Callable[[int, int | None, str], None]  # bytes done, bytes in all, a remark or ""


@contextlib.contextmanager
def progress(what: str) -> Iterator[Report]:
    """Gives what to call with each piece."""
    if not sys.stderr.isatty():
        yield _lines(what, time.monotonic)
        return
    # Some ten milliseconds that the other commands need not wait.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(harmless(what), total=None)

        def report(done: int, whole: int | None, remark: str) -> None:
            bar.update(task, completed=done, total=whole)
            if remark:
                console.print(harmless(remark))

        yield report


def _lines(what: str, clock: Callable[[], float]) -> Report:
    last = clock()

    def report(done: int, whole: int | None, remark: str) -> None:
        nonlocal last
        if remark:
            note(f"{what}: {remark}")
        elif clock() - last >= _EVERY:
            last = clock()
            note(f"{what}: {size(done)} of {size(whole)}" if whole else f"{what}: {size(done)}")

    return report


def size(value: int) -> str:
    """Bytes for people."""
    if value < 1 << 20:
        return f"{value / (1 << 10):.0f} KiB"
    return f"{value / (1 << 20):.0f} MiB" if value < 10 << 30 else f"{value / (1 << 30):.1f} GiB"
