"""Batteries and chargers, from class/power_supply.

Drivers differ in what they give: a percentage or two charges, watts or a current whose sign means nothing. A mouse's battery says
so in its `scope` and is none of the device's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edged.device.sysfs import Folder, folders
from edged.domain.power import Sensor

__all__ = ["Supplies", "read_supplies"]

_CLASS: Final = "class/power_supply"
_MICRO: Final = 1e-6
_BATTERIES: Final = ("Battery", "UPS")
_IDLE: Final = ("Charging", "Full", "Not charging")  # states in which a battery gives nothing
_MOST_WATTS: Final = 1000.0
_MOST_HOURS: Final = 100_000.0  # watt hours or ampere hours

Flow = Literal["out", "idle", "unknown"]


@dataclass(frozen=True, slots=True)
class _Battery:
    sensor: Sensor
    flow: Flow
    percent: float | None
    full: float | None
    watts: float | None


@dataclass(frozen=True, slots=True)
class Supplies:
    """What all of them say together; the fields are those of `PowerReading`."""

    mains: bool | None
    battery: bool
    discharging: bool
    blind: bool
    percent: float | None
    watts: float | None
    sensors: tuple[Sensor, ...]


def read_supplies(root: Path) -> Supplies:
    """Look at each supply once. Never raises."""
    batteries: list[_Battery] = []
    mains: list[Sensor] = []
    for path in folders(root / _CLASS):
        folder = Folder(path)
        kind = folder.text("type")
        if kind is None or folder.text("scope") == "Device" or folder.text("present") == "0":
            continue
        if kind in _BATTERIES:
            batteries.append(_battery(folder))
        elif (sensor := _charger(folder, kind)) is not None:
            mains.append(sensor)
    return _together(batteries, mains)


def _together(batteries: list[_Battery], mains: list[Sensor]) -> Supplies:
    told = [bool(sensor.values["online"]) for sensor in mains if "online" in sensor.values]
    online = any(told) if told else None
    flows = {battery.flow for battery in batteries}
    # a battery that does not say what it does, and no charger that gives: where else should the power come from
    discharging = "out" in flows or ("unknown" in flows and "idle" not in flows and online is False)
    watts = [battery.watts for battery in batteries if battery.watts is not None and battery.flow != "idle"]
    return Supplies(
        mains=True if online is None and flows == {"idle"} else online,
        battery=bool(batteries),
        discharging=discharging,
        blind=bool(batteries) and all(b.flow == "unknown" and b.percent is None for b in batteries),
        percent=_percent(batteries),
        watts=sum(watts) if watts and discharging else None,
        sensors=(*(battery.sensor for battery in batteries), *mains),
    )


def _percent(batteries: Iterable[_Battery]) -> float | None:
    """By size where all tell theirs: the second of two may be full when the first is empty."""
    known = [(b.percent, b.full) for b in batteries if b.percent is not None]
    if not known:
        return None
    weights = [full or 0.0 for _, full in known]
    if not all(weights):
        weights = [1.0] * len(known)
    return sum(percent * weight for (percent, _), weight in zip(known, weights, strict=True)) / sum(weights)


def _battery(folder: Folder) -> _Battery:
    status = folder.text("status")
    full, now = _charge(folder)
    percent = _capacity(folder)
    if percent is None and full and now is not None:
        percent = min(100.0, 100.0 * now / full)
    watts = _watts(folder)
    values: dict[str, float | str | bool] = {} if status is None else {"status": status[:40]}
    for name, value in (("percent", percent), ("watts", watts), ("watt_hours", _watt_hours(folder))):
        if value is not None:
            values[name] = round(value, 3)
    flow: Flow = "out" if status == "Discharging" else "idle" if status in _IDLE else "unknown"
    quality: Literal["good", "doubtful", "unreadable"] = "good" if percent is not None else "doubtful"
    quality = quality if values else "unreadable"
    note = "; ".join(folder.faults) or ("" if quality == "good" else "it does not tell how full it is")
    sensor = Sensor(folder.path.name, "battery", f"{_CLASS}/{folder.path.name}", quality, values, note)
    return _Battery(sensor, flow, percent, full, watts)


def _capacity(folder: Folder) -> float | None:
    """Percent. A gauge that is not calibrated may say some more than 100."""
    percent = folder.number("capacity", low=0, high=120)
    return None if percent is None else min(percent, 100.0)


def _charge(folder: Folder) -> tuple[float | None, float | None]:
    """Full and now, in watt hours or ampere hours: good for a share, not for more."""
    for kind in ("energy", "charge"):
        full = folder.number(f"{kind}_full", _MICRO, 0, _MOST_HOURS)
        now = folder.number(f"{kind}_now", _MICRO, 0, _MOST_HOURS)
        if full and now is not None:
            return full, now
    return None, None


def _watt_hours(folder: Folder) -> float | None:
    energy = folder.number("energy_now", _MICRO, 0, _MOST_HOURS)
    if energy is not None:
        return energy
    charge, volts = (
        folder.number("charge_now", _MICRO, 0, _MOST_HOURS),
        folder.number("voltage_now", _MICRO, 0, _MOST_HOURS),
    )
    return None if charge is None or volts is None else charge * volts


def _watts(folder: Folder) -> float | None:
    """What flows, whichever way. Zero is what gauges say that do not know."""
    watts = folder.number("power_now", _MICRO, -_MOST_WATTS, _MOST_WATTS)
    if watts is None:
        amperes = folder.number("current_now", _MICRO, -_MOST_WATTS, _MOST_WATTS)
        volts = folder.number("voltage_now", _MICRO, 0, _MOST_WATTS)
        watts = None if amperes is None or volts is None else amperes * volts
    return abs(watts) if watts else None


def _charger(folder: Folder, kind: str) -> Sensor | None:
    online = folder.number("online", low=0, high=2)
    name, source = folder.path.name, f"{_CLASS}/{folder.path.name}"
    if online is None:
        note = "; ".join(folder.faults) or "it does not tell whether it gives power"
        return Sensor(name, "mains", source, "unreadable", {}, note)
    return Sensor(name, "mains", source, "good", {"online": online > 0, "type": kind[:40]})
