"""Questions that are open: what a caller had said before being asked for what was missing. In memory, for a few minutes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Asked"]

_SECONDS = 180.0
_MOST = 256


class Asked:
    """One open question a conversation. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def note(self, conversation: str, text: str) -> None:
        """`text` was understood but for what it was asked back for."""
        self._open[conversation] = (text, self._clock())
        self._open.move_to_end(conversation)
        while len(self._open) > _MOST:
            self._open.popitem(last=False)

    def take(self, conversation: str) -> str | None:
        """What was said before, once, if that is not long ago."""
        text, at = self._open.pop(conversation, ("", float("-inf")))
        return text if self._clock() - at <= _SECONDS else None
