"""Can the wall clock be trusted? A device without a battery-backed clock wakes up in 1970."""

from __future__ import annotations

import time

__all__ = ["is_set"]

_RELEASED = 1_763_683_200.0  # 2025-11-21: no device that runs this release lives before it


def is_set() -> bool:
    return time.time() >= _RELEASED
