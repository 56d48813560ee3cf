"""Trees of sysfs files as real machines have them, written into a folder: batteries and hot zones cannot be had where tests run.

The layouts follow the kernel's drivers (ACPI, thermal, hwmon, intel-rapl, the Raspberry Pi's firmware); tests change the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["FANLESS", "LAPTOP", "MACHINES", "NUC", "PI", "PI_UPS", "VM", "grow"]

Tree = Mapping[str, object]

_BAT0 = "class/power_supply/BAT0"
_ZONE0 = "class/thermal/thermal_zone0"
_ZONE1 = "class/thermal/thermal_zone1"

VM: Tree = {"class/thermal/cooling_device0/type": "Processor", "devices/system/cpu/online": "0-1"}

LAPTOP: Tree = {
    "class/power_supply/AC/type": "Mains",
    "class/power_supply/AC/online": 0,
    f"{_BAT0}/type": "Battery",
    f"{_BAT0}/present": 1,
    f"{_BAT0}/status": "Discharging",
    f"{_BAT0}/capacity": 84,
    f"{_BAT0}/energy_now": 42_000_000,
    f"{_BAT0}/energy_full": 50_000_000,
    f"{_BAT0}/power_now": 8_400_000,
    f"{_BAT0}/voltage_now": 11_900_000,
    "class/power_supply/hidpp_battery_0/type": "Battery",
    "class/power_supply/hidpp_battery_0/scope": "Device",
    "class/power_supply/hidpp_battery_0/status": "Discharging",
    "class/power_supply/hidpp_battery_0/capacity": 5,
    f"{_ZONE0}/type": "x86_pkg_temp",
    f"{_ZONE0}/temp": 61_000,
    f"{_ZONE0}/trip_point_0_type": "passive",
    f"{_ZONE0}/trip_point_0_temp": -274_000,
    f"{_ZONE1}/type": "INT3400 Thermal",
    f"{_ZONE1}/temp": 20_000,
    "class/hwmon/hwmon0/name": "nvme",
    "class/hwmon/hwmon0/temp1_input": 93_850,
    "class/hwmon/hwmon1/name": "coretemp",
    "class/hwmon/hwmon1/temp1_input": 60_000,
    "class/hwmon/hwmon1/temp1_label": "Package id 0",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 1_800_000,
    "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": 4_200_000,
}

PI: Tree = {
    f"{_ZONE0}/type": "cpu-thermal",
    f"{_ZONE0}/temp": 52_150,
    f"{_ZONE0}/trip_point_0_type": "critical",
    f"{_ZONE0}/trip_point_0_temp": 110_000,
    f"{_ZONE0}/trip_point_1_type": "active",
    f"{_ZONE0}/trip_point_1_temp": 50_000,
    "class/hwmon/hwmon0/name": "cpu_thermal",
    "class/hwmon/hwmon0/temp1_input": 52_150,
    "class/hwmon/hwmon1/name": "rpi_volt",
    "class/hwmon/hwmon1/in0_lcrit_alarm": 0,
    "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "0",
    "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 1_500_000,
    "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": 2_400_000,
}

PI_UPS: Tree = {
    **PI,
    "class/power_supply/battery/type": "Battery",
    "class/power_supply/battery/status": "Unknown",  # the fuel gauge does not know; the charger's pin does
    "class/power_supply/battery/capacity": 71,
    "class/power_supply/battery/voltage_now": 3_912_500,
    "class/power_supply/charger/type": "Mains",
    "class/power_supply/charger/online": 1,
}

_RAPL = "class/powercap/intel-rapl:0"
NUC: Tree = {
    f"{_ZONE0}/type": "acpitz",
    f"{_ZONE0}/temp": 45_000,
    f"{_ZONE0}/trip_point_0_type": "critical",
    f"{_ZONE0}/trip_point_0_temp": 105_000,
    f"{_RAPL}/name": "package-0",
    f"{_RAPL}/energy_uj": 262_143_000_000,
    f"{_RAPL}/max_energy_range_uj": 262_143_328_850,
    f"{_RAPL}:0/name": "core",
    f"{_RAPL}:0/energy_uj": 5_000_000,
    f"{_RAPL}:0/max_energy_range_uj": 262_143_328_850,
    f"{_RAPL}:1/name": "dram",
    f"{_RAPL}:1/energy_uj": 1_000_000,
    f"{_RAPL}:1/max_energy_range_uj": 65_712_999_613,
    "class/powercap/intel-rapl:1/name": "psys",
    "class/powercap/intel-rapl:1/energy_uj": 9_000_000,
    "class/hwmon/hwmon2/name": "ina219",
    "class/hwmon/hwmon2/power1_input": 7_250_000,
    "class/hwmon/hwmon10/name": "k10temp",
    "class/hwmon/hwmon10/temp1_input": 47_125,
    "class/hwmon/hwmon10/temp1_label": "Tctl",
}

FANLESS: Tree = {f"{_ZONE0}/type": "acpitz", f"{_ZONE0}/temp": 27_800}

MACHINES: Mapping[str, Tree] = {
    "laptop": LAPTOP,
    "pi": PI,
    "pi with a UPS": PI_UPS,
    "nuc": NUC,
    "fanless": FANLESS,
    "vm": VM,
}


def grow(root: Path, tree: Tree, **more: object) -> Path:
    """Write the files; `more` has "/" as "__" in its names. A value of None takes a file away."""
    changes = {name.replace("__", "/"): value for name, value in more.items()}
    for name, value in {**tree, **changes}.items():
        file = root / name
        if value is None:
            file.unlink(missing_ok=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value if isinstance(value, bytes) else f"{value}\n".encode())
    return root
