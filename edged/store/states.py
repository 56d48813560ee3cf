"""The states of a request and of an escalation, as tables of moves. No row changes its state in any other way.

Each `UPDATE` takes its `SET` and its guard from here, so a move that the table does not allow matches no row; the one who
tried learns it from the empty `RETURNING`. `done` and `dead` are final: they are written in the transaction that writes the
reply, which is why there is never a second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["ESCALATION", "ESCALATION_OPEN", "INBOX", "INBOX_OPEN", "Move"]


class Move(NamedTuple):
    """From any of `sources` to `target`."""

    sources: tuple[str, ...]
    target: str

    @property
    def set(self) -> str:
        """SQL for the assignment."""
        return f"state = '{self.target}'"

    @property
    def guard(self) -> str:
        """SQL for the condition."""
        return _among(self.sources)


def _among(states: tuple[str, ...]) -> str:
    return f"state IN ({', '.join(repr(state) for state in states)})"


# A lease may be taken over when it has expired, hence leased -> leased; the time is part of the lease's own condition.
INBOX: Final[Mapping[str, Move]] = {
    "lease": Move(("queued", "leased"), "leased"),
    "release": Move(("leased",), "queued"),
    "recover": Move(("leased",), "queued"),
    "escalate": Move(("queued", "leased"), "escalated"),
    "finish": Move(("queued", "leased", "escalated"), "done"),
}

ESCALATION: Final[Mapping[str, Move]] = {
    "lease": Move(("waiting", "leased"), "leased"),
    "release": Move(("leased",), "waiting"),
    "recover": Move(("leased",), "waiting"),
    "hurry": Move(("waiting",), "waiting"),
    "finish": Move(("waiting", "leased"), "done"),
    "bury": Move(("waiting", "leased"), "dead"),
}

# The partial indices of the schema repeat these two conditions word for word; SQLite uses an index only then.
INBOX_OPEN: Final = INBOX["lease"].guard
ESCALATION_OPEN: Final = ESCALATION["lease"].guard
