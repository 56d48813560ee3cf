"""doctor on this machine without a daemon, and its eyes on prepared files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli.doctor import cpu, kernel, memory

from .conftest import Api, Command

CONFIG = """
[device]
state_dir = "state"
plugin_dirs = ["plugins"]
[http]
socket = "s"
[mqtt]
port = {port}
enabled = {enabled}
"""


def write(folder: Path, port: int = 1, enabled: str = "false") -> Path:
    (folder / "state").mkdir()
    (folder / "edged.toml").write_text(CONFIG.format(port=port, enabled=enabled))
    plugin = folder / "plugins" / "good"
    plugin.mkdir(parents=True)
    (plugin / "code.py").touch()
    (plugin / "plugin.toml").write_text('module = "code"')
    return folder


def levels(out: str) -> dict[str, str]:
    return {line.split()[1]: line.split()[0] for line in out.splitlines() if not line.startswith(" ")}


async def test_a_good_machine_without_a_daemon(edged: Command) -> None:
    ran = await edged("doctor", "--config", write(edged.folder))
    found = levels(ran.out)
    assert (ran.status, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    for subject in ("python", "llama-cpp-python", "onnxruntime", "packages", "config", "proofs", "plugins", "broker"):
        assert found[subject] == "ok", subject
    assert found["daemon"] == "warn"
    assert {"cpu", "cgroup", "psi", "state", "power"} <= found.keys()
    assert "0.3.36" in ran.out
    assert list((edged.folder / "state").iterdir()) == []


async def test_what_is_wrong_has_something_to_do(edged: Command) -> None:
    folder = write(edged.folder, enabled="true")
    (folder / "plugins" / "bad").mkdir()
    (folder / "plugins" / "bad" / "plugin.toml").write_text('module = "none"')
    proofs = [{"model": "tiny", "digest": "d", "engine": "0", "cpu": "0", "mode": "default", "tried": {}}]
    (folder / "state" / "proofs.json").write_text(json.dumps(proofs))
    ran = await edged("doctor", "--config", folder)
    assert ran.status == 1
    assert "bad   plugins" in ran.out
    assert "ok    plugins           good" in ran.out
    assert "warn  broker            127.0.0.1:1: " in ran.out
    assert "tiny: proven for another CPU or engine" in ran.out
    lines = ran.out.splitlines()
    wrong = [number for number, line in enumerate(lines) if line.startswith("bad")]
    assert wrong
    assert all("->" in lines[number + 1] for number in wrong)


async def test_a_library_that_does_not_load(edged: Command) -> None:
    broken = edged.folder / "broken"
    broken.mkdir()
    (broken / "llama_cpp.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    (broken / "onnxruntime.py").write_text("raise ImportError('libfoo.so is missing')")
    edged.environment["PYTHONPATH"] = f"{broken}:{edged.environment['PYTHONPATH']}"
    ran = await edged("doctor", "--config", write(edged.folder))
    assert ran.status == 1
    assert "bad   llama-cpp-python  0.3.36: ended by signal 4 while loading" in ran.out
    assert "libfoo.so is missing" in ran.out


async def test_a_bad_configuration_ends_no_other_check(edged: Command) -> None:
    (edged.folder / "edged.toml").write_text("[device]\nspeed = 1")
    ran = await edged("doctor", "--config", edged.folder)
    found = levels(ran.out)
    assert (ran.status, found["config"], found["daemon"]) == (1, "bad", "warn")


async def test_a_daemon_that_answers(api: Api, edged: Command) -> None:
    api.answers({"health": {"state": "degraded", "reasons": ["mqtt: refused"]}})
    edged.environment["EDGED_SOCKET"] = str(api.socket)
    ran = await edged("doctor", "--config", write(edged.folder))
    assert f"warn  daemon            {api.socket}: degraded: mqtt: refused" in ran.out


@pytest.mark.parametrize(
    ("machine", "text", "level", "told"),
    [
        ("x86_64", "flags\t\t: fpu avx2 avx512f amx_tile\n", "ok", "avx2 yes, avx512 yes, vnni no, amx yes"),
        ("x86_64", "flags\t\t: fpu sse2\n", "warn", "avx2 no"),
        ("aarch64", "Features\t: fp asimd asimddp\n", "ok", "neon yes, dotprod yes, i8mm no"),
        ("armv7l", "Features\t: half thumb\n", "warn", "neon no"),
    ],
)
def test_cpus(tmp_path: Path, machine: str, text: str, level: str, told: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{text}")
    found = cpu(machine, file)
    assert found.level == level
    assert told in found.text
    assert bool(found.todo) == (level != "ok")


def test_kernels(tmp_path: Path) -> None:
    assert [f.level for f in kernel(tmp_path)] == ["warn", "warn"]
    cgroup, pressure = tmp_path / "sys/fs/cgroup", tmp_path / "proc/pressure"
    cgroup.mkdir(parents=True)
    pressure.mkdir(parents=True)
    (cgroup / "cgroup.controllers").write_text("cpu io\n")
    (pressure / "memory").write_text("some avg10=0.00\nfull avg10=0.00\n")
    assert [f.level for f in kernel(tmp_path)] == ["warn", "ok"]
    (cgroup / "cgroup.controllers").write_text("cpu memory\n")
    assert [f.level for f in kernel(tmp_path)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("budget", "available", "level"), [(512, 1024, "ok"), (1500, 1024, "warn"), (4096, 1024, "bad")], ids=str
)
def test_memory(budget: int, available: int, level: str) -> None:
    finding = memory(budget << 20, 2048 << 20, available << 20)
    assert finding.level == level
    assert bool(finding.todo) == (level != "ok")
