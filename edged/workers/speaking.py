"""From tokens to the text that a caller gets: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

__all__ = ["Speech"]


class Speech:
    """One generation's text. `text` is all that was given out; `stopped` is the stop string that ended it, or None."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [s for s in stops if s]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._parts: list[str] = []
        self.stopped: str | None = None

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def push(self, data: bytes, *, final: bool = False) -> str:
        """What can be said after these bytes; the beginning of what may become a stop string is held back."""
        if self.stopped is not None:
            return ""
        self._held += self._decoder.decode(data, final)
        found = [(at + len(s), at, s) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:  # the first that is complete, however the text came in pieces
            _, at, self.stopped = min(found)
            said, self._held = self._held[:at], ""
        else:
            keep = 0 if final else self._begun()
            cut = len(self._held) - keep
            said, self._held = self._held[:cut], self._held[cut:]
        if said:
            self._parts.append(said)
        return said

    def _begun(self) -> int:
        """The length of the longest end of what is held that begins a stop string."""
        longest = max(map(len, self._stops), default=0)
        for size in range(min(longest - 1, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-size:]) for s in self._stops):
                return size
        return 0
