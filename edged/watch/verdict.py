"""Healthy, degraded or unhealthy, each with its reasons. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["verdict"]


def verdict(
    models: Sequence[Mapping[str, Any]],
    plugins: Sequence[Mapping[str, Any]],
    *,
    store_lean: bool,
    set_aside: str | None,
    broker: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """`broker` is None where MQTT is off, else the door's status. A corrupt store that was set aside is told until the next
    start. No broker is no fault of a device that is driven over its socket, so it degrades and no more."""
    reasons = [f"model {m['name']} is quarantined" for m in models if m.get("state") == "quarantined"]
    reasons += [
        f"plugin {p['name']} will not run: {p.get('last_error')}" for p in plugins if p.get("state") == "resting"
    ]
    if broker is not None and broker.get("connected_since") is None:
        reasons.append(f"mqtt: not connected to {broker.get('broker')}: {broker.get('last_error') or 'connecting'}")
    if set_aside:
        reasons.append(f"the store was corrupt and was set aside as {set_aside}")
    bad = ["the disk is full: new work is refused"] if store_lean else []
    state = "unhealthy" if bad else "degraded" if reasons else "healthy"
    return {"state": state, "reasons": bad + reasons}
