"""The daemon, made to die: `python -m bench.faulty before:7 --config DIR` kills itself with SIGKILL right before its 7th commit.

`after:N` kills right after it, `never` does not kill. It is the real daemon in every other way.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Literal

__all__ = ["Killer"]


class Killer:
    """Counts commits and kills this process at the chosen one."""

    def __init__(self, plan: str) -> None:
        self._when, _, number = plan.partition(":")
        self._left = int(number or 0)

    def __call__(self, when: Literal["before", "after"]) -> None:
        if when != self._when:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from edged.daemon import main

    raise SystemExit(main(Path(sys.argv[3]), on_commit=Killer(sys.argv[1])))
