"""What is known of the device's power: sensors, readings, named states, energy, and the plan that an operator makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

__all__ = ["Energy", "Heat", "PowerPlan", "PowerReading", "PowerState", "Sensor"]

Quality = Literal["good", "doubtful", "unreadable"]
EnergySource = Literal["measured", "estimated"]


class PowerState(StrEnum):
    """How the device stands, the easiest first."""

    MAINS = "mains"
    BATTERY = "battery"
    SAVER = "saver"
    HOT = "hot"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return tuple(PowerState).index(self)


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of one request. "measured" is its share of what a meter counted, "estimated" is made of CPU time."""

    joules: float
    source: EnergySource


@dataclass(frozen=True, slots=True)
class Sensor:
    """One thing that tells something. `source` is its path below the sysfs root; a unit ends the name of each of the `values`.

    "doubtful" is shown and decides nothing; "unreadable" has no value now. `note` says why.
    """

    name: str
    kind: Literal["battery", "mains", "temperature", "power", "energy", "frequency", "flags"]
    source: str
    quality: Quality
    values: Mapping[str, float | str | bool] = field(default_factory=dict)
    note: str = ""

    def to_wire(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in ("", {})}


@dataclass(frozen=True, slots=True)
class Heat:
    """A temperature of the processor or the board, with the device's own limits where it states them; degrees Celsius."""

    name: str
    celsius: float
    passive: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True)
class PowerReading:
    """All sensors at one moment, and what they say together.

    `mains` is None where nothing tells. `percent` is that of all batteries together, `watts` what they give while they discharge.
    `blind` is a battery that is there and tells nothing. `undervolted` and `throttled` are what the firmware says of now.
    """

    mains: bool | None = None
    battery: bool = False
    discharging: bool = False
    blind: bool = False
    percent: float | None = None
    watts: float | None = None
    heats: tuple[Heat, ...] = ()
    undervolted: bool = False
    throttled: bool = False
    flags: bool = False
    sensors: tuple[Sensor, ...] = ()

    @property
    def telling(self) -> bool:
        """Whether another look can change the state."""
        return self.mains is not None or self.battery or bool(self.heats) or self.flags


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """The operator's thresholds and levers. In the states of `refuse_low` a request of low priority gets no model, in those of
    `refuse_normal` only one of high priority does; on a device without a battery only `without_battery`.
    """

    sysfs: str = "/sys"
    saver_percent: float = 30.0
    critical_percent: float = 10.0
    hysteresis_percent: float = 5.0
    hot_celsius: float = 85.0
    critical_celsius: float = 105.0
    hysteresis_celsius: float = 5.0
    dwell_seconds: float = 60.0
    refuse_low: tuple[PowerState, ...] = (PowerState.SAVER, PowerState.HOT)
    refuse_normal: tuple[PowerState, ...] = (PowerState.CRITICAL,)
    without_battery: bool = False
    account: bool = False
    watts_per_core: float = 1.5
    idle_watts: float = 0.0
