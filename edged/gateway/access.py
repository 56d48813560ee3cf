"""Who is calling, and how often. The kernel vouches for a caller on the socket, the broker's ACL for one over MQTT."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from edged.domain.errors import RateLimited
from edged.domain.messages import Caller

__all__ = ["Access", "peer_uid", "uid_roles"]

_UCRED = struct.Struct("3i")
_KNOWN_CALLERS: Final = 1024


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end of a Unix socket, as of its connect."""
    _pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def uid_roles() -> dict[str, str]:
    """Root and the daemon's own user are operators on the socket; everybody else is a user."""
    return {f"uid:{uid}": "operator" for uid in (0, os.geteuid())}


class Access:
    """Callers by door, with a token bucket each: `rate` a second, `burst` at once. `roles` maps a caller's id to its role.

    `clock` is monotonic seconds. The callers seen longest ago are forgotten first: their buckets are full again anyway.
    """

    def __init__(
        self,
        door: str,
        *,
        rate: float,
        burst: int,
        roles: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._rate = rate
        self._burst = float(burst)
        self._roles = dict(roles or {})
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def caller(self, name: str) -> Caller:
        return Caller(id=name, role=self._roles.get(name, "user"), door=self._door)

    def spend(self, caller: Caller) -> None:
        """Take one token. Raises `RateLimited` with the time until there is one."""
        now = self._clock()
        tokens, since = self._buckets.pop(caller.id, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        short = tokens < 1.0
        self._buckets[caller.id] = (tokens if short else tokens - 1.0, now)
        if len(self._buckets) > _KNOWN_CALLERS:
            self._buckets.popitem(last=False)
        if short:
            raise RateLimited(
                f"{caller.id} asks more than {self._rate:g} times a second", retry_after=(1.0 - tokens) / self._rate
            )
