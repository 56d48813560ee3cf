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
    broker: str | None,
) -> dict[str, Any]:
    """`broker` is None where MQTT is off, else "online" or what is wrong. A corrupt store that was set aside is told until
    the next start."""
    reasons = [f"model {m['name']} is quarantined" for m in models if m.get("state") == "quarantined"]
    reasons += [
        f"plugin {p['name']} will not run: {p.get('last_error')}" for p in plugins if p.get("state") == "resting"
    ]
    if broker not in (None, "online"):
        reasons.append(f"mqtt: {broker}")
    if set_aside:
        reasons.append(f"the store was corrupt and was set aside as {set_aside}")
    bad = ["the disk is full: new work is refused"] if store_lean else []
    state = "unhealthy" if bad else "degraded" if reasons else "healthy"
    return {"state": state, "reasons": bad + reasons}
