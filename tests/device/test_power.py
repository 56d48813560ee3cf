"""What is read of recorded trees of real machines, and that no file, whatever it holds, is an error."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sysfs_trees import FANLESS, LAPTOP, MACHINES, NUC, PI, PI_UPS, VM, grow

from edged.device.power import read_power
from edged.device.sysfs import folders
from edged.domain.power import PowerReading, Sensor

BAT = "class/power_supply/BAT0/"


def named(reading: PowerReading) -> dict[str, Sensor]:
    return {sensor.name: sensor for sensor in reading.sensors}


def test_a_laptop_on_battery(tmp_path: Path) -> None:
    reading = read_power(grow(tmp_path, LAPTOP))
    assert (reading.mains, reading.battery, reading.discharging, reading.percent) == (False, True, True, 84)
    assert reading.watts == pytest.approx(8.4)
    assert [(heat.name, heat.celsius) for heat in reading.heats] == [
        ("x86_pkg_temp", 61.0),
        ("coretemp Package id 0", 60.0),
    ]
    sensors = named(reading)
    assert "hidpp_battery_0" not in sensors  # a mouse
    assert not any(name.startswith("nvme") for name in sensors)  # asking it would wake it
    assert sensors["INT3400 Thermal"].quality == "doubtful"
    assert sensors["BAT0"].values == {"status": "Discharging", "percent": 84, "watts": 8.4, "watt_hours": 42}
    assert sensors["policy0"].values == {"now_mhz": 1800, "most_mhz": 4200}
    assert sensors["BAT0"].source == "class/power_supply/BAT0"


def test_a_laptop_that_is_plugged_in(tmp_path: Path) -> None:
    root = grow(tmp_path, LAPTOP, class__power_supply__AC__online=1, class__power_supply__BAT0__status="Charging")
    reading = read_power(root)
    assert (reading.mains, reading.discharging, reading.watts) == (True, False, None)


def test_a_pi_and_its_flags(tmp_path: Path) -> None:
    flags = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
    reading = read_power(grow(tmp_path, PI))
    assert (reading.mains, reading.battery, reading.undervolted, reading.throttled) == (None, False, False, False)
    assert reading.heats[0].critical == 110.0
    assert reading.heats[0].passive is None  # a fan's trip point is none of that
    (tmp_path / flags).write_text("50005\n")
    reading = read_power(tmp_path)
    assert (reading.undervolted, reading.throttled) == (True, True)
    assert named(reading)["firmware"].values["throttled_since_start"] is True
    (tmp_path / flags).write_text("0x50000\n")
    assert not read_power(tmp_path).undervolted  # it was, and is no longer
    (tmp_path / "class/hwmon/hwmon1/in0_lcrit_alarm").write_text("1")
    assert read_power(tmp_path).undervolted


def test_a_pi_on_its_ups(tmp_path: Path) -> None:
    reading = read_power(grow(tmp_path, PI_UPS))
    assert (reading.mains, reading.discharging, reading.percent) == (True, False, 71)
    reading = read_power(grow(tmp_path, {}, class__power_supply__charger__online=0))
    assert (reading.mains, reading.discharging, reading.watts) == (False, True, None)


def test_a_nuc_with_counters_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = read_power(grow(tmp_path, NUC))
    sensors = named(reading)
    assert [name for name in sensors if sensors[name].kind == "energy"] == ["package-0", "dram"]
    assert sensors["ina219 power1"].values == {"watts": 7.25}
    assert [heat.name for heat in reading.heats] == ["acpitz", "k10temp Tctl"]
    fail(monkeypatch, "energy_uj", errno.EACCES)
    shut = named(read_power(tmp_path))["package-0"]
    assert (shut.quality, shut.note, shut.values) == ("unreadable", "energy_uj: no permission to read it", {})


def test_a_zone_that_always_says_the_same_decides_nothing(tmp_path: Path) -> None:
    reading = read_power(grow(tmp_path, FANLESS))
    [sensor] = reading.sensors
    assert (sensor.quality, sensor.values["celsius"], reading.heats) == ("doubtful", 27.8, ())
    assert not reading.telling


def test_a_machine_with_nothing(tmp_path: Path) -> None:
    assert read_power(grow(tmp_path, VM)) == PowerReading()
    assert read_power(tmp_path / "absent") == PowerReading()
    assert not PowerReading().telling


@pytest.mark.parametrize(
    ("changes", "percent", "watts"),
    [
        ({"capacity": None}, 84.0, 8.4),  # from energy_now and energy_full
        ({"capacity": "lots", "energy_full": None}, None, 8.4),
        ({"capacity": 104}, 100.0, 8.4),
        ({"capacity": -1, "energy_now": ""}, None, 8.4),
        ({"capacity": 500, "energy_full": 0}, None, 8.4),
        ({"power_now": None, "current_now": -700_000}, 84.0, 8.33),  # its sign is the driver's taste
        ({"power_now": 0}, 84.0, None),
        ({"power_now": 10**15}, 84.0, None),
        ({"power_now": None, "current_now": "?"}, 84.0, None),
        ({"power_now": b"\xff\x00"}, 84.0, None),
    ],
)
def test_batteries_that_tell_less_or_nonsense(
    tmp_path: Path, changes: dict[str, object], percent: float | None, watts: float | None
) -> None:
    root = grow(tmp_path, {**LAPTOP, **{f"{BAT}{name}": value for name, value in changes.items()}})
    reading = read_power(root)
    assert (reading.percent, reading.discharging) == (percent, True)
    assert reading.watts == (None if watts is None else pytest.approx(watts))


def test_two_batteries_count_by_their_size(tmp_path: Path) -> None:
    second = {
        f"class/power_supply/BAT1/{name.removeprefix(BAT)}": v for name, v in LAPTOP.items() if name.startswith(BAT)
    }
    grow(tmp_path, {**LAPTOP, **second})
    grow(tmp_path, {"class/power_supply/BAT1/capacity": 0, "class/power_supply/BAT1/energy_full": 150_000_000})
    assert read_power(tmp_path).percent == pytest.approx(21.0)
    (tmp_path / "class/power_supply/BAT1/present").write_text("0")
    assert read_power(tmp_path).percent == 84


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Reading files of this name fails as a driver makes it fail, which files of ours cannot (nor does a mode stop root)."""
    real: Callable[..., int] = os.open

    def opening(path: Path, *rest: int) -> int:
        if Path(path).name == name:
            raise OSError(number, os.strerror(number))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", opening)


def test_a_battery_that_fails_to_answer_is_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, LAPTOP)
    for name in ("status", "capacity", "energy_now", "power_now", "voltage_now"):
        fail(monkeypatch, name, errno.EIO)
    reading = read_power(tmp_path)
    assert (reading.battery, reading.blind, reading.percent) == (True, True, None)
    assert named(reading)["BAT0"].quality == "unreadable"
    assert "Input/output error" in named(reading)["BAT0"].note


def test_what_is_pulled_between_listing_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(tmp_path, LAPTOP)
    monkeypatch.setattr("edged.device.supplies.folders", lambda path: [*folders(path), path / "BAT9"])
    assert "BAT9" not in named(read_power(tmp_path))
    fail(monkeypatch, "temp", errno.ENODEV)
    assert named(read_power(tmp_path))["x86_pkg_temp"].quality == "unreadable"


@pytest.mark.parametrize("machine", MACHINES)
def test_no_content_of_any_file_is_an_error(tmp_path: Path, machine: str) -> None:
    grow(tmp_path, MACHINES[machine])
    chance = random.Random(7)
    contents = [b"", b"\n", b"-1", b"\xff\xfe", b"9" * 5000, b"1e3", b"nan", b"0x", b"Discharging", b"-274000", None]
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    for _ in range(150):
        file, content = chance.choice(files), chance.choice(contents)
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(content)
        for sensor in read_power(tmp_path).sensors:
            assert sensor.quality != "good" or sensor.values
            assert sensor.quality == "good" or sensor.note
