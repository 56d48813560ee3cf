"""Memory as the whole daemon has it: what it tells, and that the kernel's word reaches the models."""

from __future__ import annotations

from pathlib import Path

from edged.daemon import running
from edged.domain.resources import Pressure
from edged.fleet.settings import load

CONFIG = """
[device]
id = "pressed"
state_dir = "state"
plugin_dirs = []
[http]
socket = "edged.sock"
[mqtt]
enabled = false
[memory]
budget = "300MiB"
"""


async def test_pressure_reaches_the_models_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "edged.toml").write_text(CONFIG)
    async with running(load(tmp_path)) as house:
        await house.pool.warm("bundled")
        told = (await house.status())["memory"]
        assert (told["budget"], told["allowed"], told["by"]) == (300 << 20, 300 << 20, "configured")
        assert told["held"] > told["taken"] > 0
        assert told["walls"] in ("cgroup", "rlimit")
        watch = house.memory._watch
        assert watch is not None
        assert told["pressure"] == ("unknown" if watch.source is None else watch.now.name.lower())
        watch._fired(Pressure.SOME)  # the kernel's word is played here, or the device would have to run out
        states = {entry["name"]: entry["state"] for entry in house.pool.status()}
        assert states["bundled"] in ("leaving", "cold")
        assert (await house.status())["meters"]["engine.pressure.some"] >= 1


async def test_a_device_with_little_left_allows_little(tmp_path: Path) -> None:
    """The device's own figures, and a reserve that leaves nothing of them."""
    (tmp_path / "edged.toml").write_text(CONFIG + 'reserve = "1000GiB"\nwalls = false\n')
    async with running(load(tmp_path)) as house:
        told = (await house.status())["memory"]
        assert (told["allowed"], told["walls"]) == (0, "off")
        assert told["by"] in ("available", "cgroup")
