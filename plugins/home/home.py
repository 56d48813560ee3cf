"""A house: devices to switch and dim, sensors to read. What exists is in `home.toml`; how it stands is in `devices.json`.

Sensor values are simulated (a slow wave per sensor and zone, the same at the same time on every run) unless a bridge
writes the real one to `sensors.json` in the state folder: {"temperature": {"kitchen": 21.4}}.
"""

from __future__ import annotations

import functools
import json
import math
import os
import threading
import time
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

from edged.plugin import Choice, Number, ToolError, state_dir, tool

Result = dict[str, object]
_lock = threading.Lock()


@functools.cache
def house() -> dict[str, Any]:
    import tomllib

    return tomllib.loads((Path(__file__).parent / "home.toml").read_text(encoding="utf-8"))


def devices() -> list[str]:
    return list(house()["devices"])


def levelled() -> list[str]:
    return [name for name, facts in house()["devices"].items() if "level" in facts]


def sensors() -> list[str]:
    return list(house()["sensors"])


def zones() -> list[str]:
    return list(house()["zones"])


@tool(
    say="The {device} is {state} now.",
    say_error="{error}",
    examples=["turn on the hallway light", "switch the coffee machine off", "ceiling fan on please"],
)
def switch_device(device: Annotated[str, Choice(devices)], state: Literal["on", "off"]) -> Result:
    """Turn a device on or off"""
    _change(device, on=state == "on")
    return {"device": device, "state": state}


@tool(
    say="The {device} is at {percent} percent now.",
    say_error="{error}",
    examples=[
        "dim the bedroom light to 30 percent",
        "set the radiator to 55",
        "close the bedroom blinds to 100 percent",
    ],
)
def set_level(device: Annotated[str, Choice(levelled)], percent: Annotated[int, Number(0, 100)]) -> Result:
    """Set a device to a level in percent"""
    _change(device, on=percent > 0, level=percent)
    return {"device": device, "percent": percent, "state": "on" if percent else "off"}


@tool(
    say="The {sensor} in the {zone} is {value} {unit}.",
    say_error="{error}",
    examples=["how warm is it in the kitchen", "humidity in the bathroom", "read the co2 of the bedroom"],
)
def read_sensor(sensor: Annotated[str, Choice(sensors)], zone: Annotated[str, Choice(zones)]) -> Result:
    """Read a sensor in a zone"""
    facts = house()["sensors"][sensor]
    written = _read("sensors.json").get(sensor, {}).get(zone)
    if written is None and zone not in facts["zones"]:
        raise ToolError(f"There is no {sensor} sensor in the {zone}.")
    value = _simulated(sensor, zone, facts, time.time()) if written is None else written
    return {"sensor": sensor, "zone": zone, "value": value, "unit": facts["unit"], "simulated": written is None}


@tool(say_error="{error}", examples=["is the garage door open", "how bright is the desk lamp", "is the radiator on"])
def device_state(device: Annotated[str, Choice(devices)]) -> Result:
    """Tell if a device is on and its level"""
    return {"device": device, **_state_of(device, _read("devices.json"))}


def _state_of(device: str, saved: dict[str, Any]) -> dict[str, Any]:
    facts = house()["devices"][device]
    now = saved.get(device, {})
    state: dict[str, Any] = {"state": "on" if now.get("on", False) else "off"}
    if "level" in facts:
        state["percent"] = now.get("level", facts["level"])
    return state


def _change(device: str, **changes: Any) -> None:
    with _lock:
        saved = _read("devices.json")
        saved[device] = {**saved.get(device, {}), **changes}
        path = state_dir() / "devices.json"
        fresh = path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(saved, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def _read(name: str) -> dict[str, Any]:
    """A state file; one that is missing or half-written by a bridge counts as empty."""
    try:
        content = json.loads((state_dir() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _simulated(sensor: str, zone: str, facts: dict[str, Any], now: float) -> float:
    phase = zlib.crc32(f"{sensor}/{zone}".encode()) / 2**32
    wave = math.sin(2 * math.pi * (now / (facts["period"] * 3600) + phase))
    value = float(facts["middle"] + facts["swing"] * wave)
    return round(value, 1) if facts["swing"] < 10 else round(value)
