"""How long to wait before the next attempt. Pure: the roll of the dice is an argument.

Full jitter (Brooker, "Exponential Backoff And Jitter"): a fleet that lost the same uplink must not come back in step.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds: `base` doubles with each attempt up to `cap`; `patience` is the longest Retry-After that is believed."""

    base: float = 1.0
    cap: float = 300.0
    patience: float = 3600.0

    @property
    def longest(self) -> float:
        """No delay is ever longer than this, so a row due later than this was written under another clock."""
        return self.patience + self.cap

    def delay(self, attempt: int, roll: float, retry_after: float | None = None) -> float:
        """Seconds before the attempt after number `attempt` (from 1). `roll` is uniform in [0, 1).

        A `retry_after` is a floor and the jitter comes on top: nobody asks earlier than told, and not all at once.
        """
        # The exponent is bounded before the power: 2.0 ** 1100 overflows.
        jitter = roll * min(self.cap, self.base * 2.0 ** min(max(attempt, 1) - 1, 60))
        floor = min(max(retry_after or 0.0, 0.0), self.patience)
        return floor + jitter
