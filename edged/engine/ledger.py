"""Bytes that resident models hold, against a budget. The one place where they are added up."""

from __future__ import annotations

from edged.domain.errors import ModelWontFit
from edged.domain.resources import Budget

__all__ = ["Ledger"]


class Ledger:
    """Reservations by name, in bytes. Reserve before a child starts, release when it has ended."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget.memory_bytes
        self._held: dict[str, int] = {}

    @property
    def held(self) -> int:
        return sum(self._held.values())

    @property
    def free(self) -> int:
        return self.budget - self.held

    def reserve(self, name: str, size: int) -> None:
        """Raises `ModelWontFit` when it does not; a name is reserved once."""
        if name in self._held:
            raise ValueError(f"{name} is reserved already")
        if size > self.free:
            raise ModelWontFit(f"{name} needs {size} bytes; {self.free} are free", needed=size, free=self.free)
        self._held[name] = size

    def release(self, name: str) -> None:
        self._held.pop(name, None)
