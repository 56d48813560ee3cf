"""One look at all that sysfs tells of power and heat. Nothing is kept between two looks, so what is plugged or pulled is seen.

A look is some dozens of short reads, and a battery's controller or a slow bus may take its time for one: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final, Literal

from edged.device.rapl import zones
from edged.device.supplies import Supplies, read_supplies
from edged.device.sysfs import Folder, folders
from edged.domain.power import Heat, PowerReading, Sensor

__all__ = ["read_power"]

Kind = Literal["temperature", "power", "flags", "frequency"]

_MILLI: Final = 1e-3
_COLDEST: Final = -40.0
_HOTTEST: Final = 150.0
# What firmware answers that measures nothing: (type of the zone, degrees)
_STUCK: Final = {("acpitz", 27.8), ("acpitz", 29.8), ("INT3400 Thermal", 20.0)}
# Chips whose temperature is that of the processor; the others are shown and decide nothing.
_PROCESSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal")
_NO_BOARD: Final = ("iwlwifi", "nvme", "BAT")  # zones of things that may be hot alone
_SLEEPERS: Final = ("drivetemp", "nvme")  # asking them may wake a disk
_TRIPS: Final = 16
# The Raspberry Pi's firmware, by bit of `get_throttled`: what holds now, and what was since the start.
_NOW: Final = {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "soft_limit"}
_THROTTLED: Final = ("throttled", "soft_limit")


def read_power(root: Path) -> PowerReading:
    """`root` is where sysfs is mounted. Never raises; what cannot be read is told by the sensors' quality."""
    supplies = read_supplies(root)
    heats: list[Heat] = []
    flags: dict[str, bool] = {}
    sensors = [
        *supplies.sensors,
        *_thermal(root, heats),
        *_hwmon(root, heats, flags),
        *_firmware(root, flags),
        *(zone.sensor() for zone in zones(root)),
        *_frequencies(root),
    ]
    return PowerReading(
        **{field.name: getattr(supplies, field.name) for field in fields(Supplies) if field.name != "sensors"},
        heats=tuple(heats),
        undervolted=flags.get("under_voltage", False),
        throttled=any(flags.get(name, False) for name in _THROTTLED),
        flags=bool(flags),
        sensors=tuple(sensors),
    )


def _thermal(root: Path, heats: list[Heat]) -> Iterator[Sensor]:
    for path in folders(root / "class/thermal", "thermal_zone"):
        folder = Folder(path)
        kind = folder.text("type") or "unknown"
        celsius = folder.number("temp", _MILLI, _COLDEST, _HOTTEST)
        source = f"class/thermal/{path.name}"
        if celsius is None:
            yield _unreadable(kind, source, folder)
            continue
        values = {"celsius": round(celsius, 1), **_trips(folder)}
        if (kind, round(celsius, 1)) in _STUCK:
            yield Sensor(kind, "temperature", source, "doubtful", values, "a known fixed value, not a measurement")
            continue
        if not kind.startswith(_NO_BOARD):
            heats.append(Heat(kind, celsius, values.get("passive_celsius"), values.get("critical_celsius")))
        yield Sensor(kind, "temperature", source, "good", values)


def _trips(folder: Folder) -> dict[str, float]:
    """The lowest of each kind that means something: at "passive" the kernel slows down, at "critical" it switches off."""
    found: dict[str, float] = {}
    for number in range(_TRIPS):
        kind = folder.text(f"trip_point_{number}_type")
        if kind is None:
            break
        celsius = Folder(folder.path).number(
            f"trip_point_{number}_temp", _MILLI, 30.0, _HOTTEST
        )  # unset ones lie below
        if celsius is not None and kind in ("passive", "hot", "critical"):
            name = "critical_celsius" if kind == "critical" else "passive_celsius"
            found[name] = min(found.get(name, _HOTTEST), celsius)
    return found


def _hwmon(root: Path, heats: list[Heat], flags: dict[str, bool]) -> Iterator[Sensor]:
    for path in folders(root / "class/hwmon", "hwmon"):
        folder = Folder(path)
        chip = folder.text("name") or path.name
        if chip in _SLEEPERS:
            continue
        alarm = folder.number("in0_lcrit_alarm", low=0, high=1) if chip == "rpi_volt" else None
        if alarm is not None:
            flags["under_voltage"] = alarm > 0
            source = f"class/hwmon/{path.name}/in0_lcrit_alarm"
            yield Sensor(chip, "flags", source, "good", {"under_voltage": alarm > 0})
        for file in folders(path):
            if file.name.endswith("_input") and file.name.startswith(("temp", "power")):
                yield _input(path, chip, file.name, heats)


def _input(path: Path, chip: str, file: str, heats: list[Heat]) -> Sensor:
    """One channel of a chip: millidegrees or microwatts."""
    folder, channel = Folder(path), file.removesuffix("_input")
    name = f"{chip} {Folder(path).text(f'{channel}_label') or channel}"
    source = f"class/hwmon/{path.name}/{file}"
    if file.startswith("power"):
        watts = folder.number(file, 1e-6, 0, 10_000)
        if watts is None:
            return _unreadable(name, source, folder, "power")
        return Sensor(name, "power", source, "good", {"watts": round(watts, 3)})
    celsius = folder.number(file, _MILLI, _COLDEST, _HOTTEST)
    if celsius is None:
        return _unreadable(name, source, folder)
    if chip in _PROCESSORS:
        heats.append(Heat(name, celsius))
    return Sensor(name, "temperature", source, "good", {"celsius": round(celsius, 1)})


def _firmware(root: Path, flags: dict[str, bool]) -> Iterator[Sensor]:
    """What a Raspberry Pi's firmware says: hexadecimal, with the bits of now below those of ever."""
    for path in folders(root / "devices/platform", "soc"):
        for node in folders(path, "soc"):
            folder, source = Folder(node), f"devices/platform/{path.name}/{node.name}/get_throttled"
            text = folder.text("get_throttled")
            if text is None and not folder.faults:
                continue
            try:
                bits = int(text or "", 16)
            except ValueError:
                bits = -1
            if not 0 <= bits < 1 << 32:
                yield _unreadable("firmware", source, folder, "flags")
                continue
            now = {name: bool(bits >> bit & 1) for bit, name in _NOW.items()}
            since = {f"{name}_since_start": True for bit, name in _NOW.items() if bits >> (bit + 16) & 1}
            flags |= {name: on or flags.get(name, False) for name, on in now.items()}
            yield Sensor("firmware", "flags", source, "good", {**now, **since})


def _frequencies(root: Path) -> Iterator[Sensor]:
    for path in folders(root / "devices/system/cpu/cpufreq", "policy"):
        folder, source = Folder(path), f"devices/system/cpu/cpufreq/{path.name}"
        now = folder.number("scaling_cur_freq", _MILLI, 0, 100_000)
        most = folder.number("cpuinfo_max_freq", _MILLI, 0, 100_000)
        values = {f"{name}_mhz": round(mhz) for name, mhz in (("now", now), ("most", most)) if mhz is not None}
        if values:
            yield Sensor(path.name, "frequency", source, "good", values, "; ".join(folder.faults))
        else:
            yield _unreadable(path.name, source, folder, "frequency")


def _unreadable(name: str, source: str, folder: Folder, kind: Kind = "temperature") -> Sensor:
    return Sensor(name, kind, source, "unreadable", {}, "; ".join(folder.faults) or "nothing to read")
