"""What the doctor says of the power. It imports little, since it also runs where packages are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edged.device.governor import judge
from edged.device.power import read_power
from edged.domain.power import PowerPlan

__all__ = ["found"]


def found(plan: PowerPlan) -> tuple[Literal["ok", "warn"], str, str]:
    """For the doctor: whether all is well, what is there, and what to do."""
    reading = read_power(Path(plan.sysfs))
    standing = judge(reading, None, plan, 0.0)
    text = f"{standing.state}: {standing.why}"
    if reading.sensors:
        text += f"; sensors: {', '.join(sensor.name for sensor in reading.sensors)}"
    shut = [sensor for sensor in reading.sensors if sensor.kind == "energy" and sensor.quality == "unreadable"]
    if reading.undervolted:
        return "warn", text, "use a stronger supply or a shorter cable"
    if plan.account and shut:
        return (
            "warn",
            f"{text}; {shut[0].source}: {shut[0].note}",
            "let the daemon's user read energy_uj: docs/power.md",
        )
    return "ok", text, ""
