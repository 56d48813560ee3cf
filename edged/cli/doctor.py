"""`edged doctor`: will edged run well on this machine, and if not, what to do. Works without a daemon.

Every check gives findings: ok, warn (it runs, with a drawback) or bad (something will not work). Nothing is changed. Native
libraries are tried in children: on a CPU that they were not built for they end the process.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click
import psutil

from edged.cli.check import explain
from edged.cli.client import Client, Stop
from edged.cli.places import FAILED, config_folder, socket_path
from edged.cli.screen import echo
from edged.domain.errors import ConfigError

if TYPE_CHECKING:
    from edged.fleet.settings import Settings

__all__ = ["Finding", "cpu", "doctor", "kernel"]

_NATIVE: Final = {
    "llama-cpp-python": "llama_cpp",
    "onnxruntime": "onnxruntime",
    "llguidance": "llguidance",
    "numpy": "numpy",
}
_PLAIN: Final = ("aiohttp", "aiosqlite", "paho-mqtt", "pydantic", "msgpack", "psutil", "jinja2", "sdnotify")
_IMPORT_SECONDS: Final = 60.0
_BROKER_SECONDS: Final = 3.0
_LOW_DISK: Final = 256 << 20
_MARKS: Final = {"ok": "green", "warn": "yellow", "bad": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `todo` is what to do about it, empty where nothing is."""

    level: Literal["ok", "warn", "bad"]
    subject: str
    text: str
    todo: str = ""


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), default=config_folder, metavar="DIR", help="As for `edged run`."
)
def doctor(config: Path) -> int:
    """Look this machine over. Exit 1: something will not work."""
    worst = 0
    for finding in _findings(config):
        _print(finding)
        worst = FAILED if finding.level == "bad" else worst
    return worst


def _findings(config: Path) -> Iterator[Finding]:
    yield _python()
    yield from _libraries()
    yield cpu(platform.machine(), Path("/proc/cpuinfo"))
    yield from kernel()
    settings, finding = _configuration(config)
    yield finding
    if settings is None:
        yield _daemon(socket_path())
        return
    yield memory(settings.memory.budget, psutil.virtual_memory().total, psutil.virtual_memory().available)
    yield from _state(settings.resolve(settings.device.state_dir))
    yield _power(settings)
    yield from _plugins([settings.resolve(folder) for folder in settings.device.plugin_dirs])
    yield _broker(settings)
    yield _daemon(socket_path() if os.environ.get("EDGED_SOCKET") else settings.resolve(settings.http.socket))


def _print(finding: Finding) -> None:
    """A mark in colour where there is a terminal, aligned either way."""
    mark = f"{finding.level:<4}"
    if sys.stdout.isatty():
        click.secho(mark, nl=False, fg=_MARKS[finding.level])
    else:
        echo(mark, end="")
    echo(f"  {finding.subject:<16}  {finding.text}")
    if finding.todo:
        echo(f"{'':<24}-> {finding.todo}")


def memory(budget: int, total: int, available: int) -> Finding:
    """Does the machine have what the configuration gives to models? All in bytes."""
    text = f"{total >> 20} MiB, {available >> 20} MiB available; models may hold {budget >> 20} MiB"
    if budget > total:
        return Finding("bad", "memory", text, "lower memory.budget")
    if budget > available:
        return Finding("warn", "memory", text, "lower memory.budget, or end what else holds memory")
    return Finding("ok", "memory", text)


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.release()}, SQLite {sqlite3.sqlite_version}"
    if platform.system() != "Linux":
        return Finding("bad", "python", text, "edged runs on Linux only")
    return Finding("ok", "python", text)


def _libraries() -> Iterator[Finding]:
    code = "import sys, importlib; importlib.import_module(sys.argv[1])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    children = {
        package: subprocess.Popen(
            [sys.executable, "-c", code, module],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for package, module in _NATIVE.items()
    }
    for package, child in children.items():
        yield _loaded(package, child)
    missing = [package for package in _PLAIN if _version(package) is None]
    if missing:
        yield Finding("bad", "packages", f"not installed: {', '.join(missing)}", "pip install --force-reinstall edged")
    else:
        yield Finding("ok", "packages", ", ".join(f"{package} {_version(package)}" for package in _PLAIN))


def _loaded(package: str, child: subprocess.Popen[str]) -> Finding:
    found = _version(package)
    try:
        _, said = child.communicate(timeout=_IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return Finding(
            "bad", package, f"{found}: does not load within {_IMPORT_SECONDS:g} s", "is the disk failing or full?"
        )
    if found is None:
        return Finding("bad", package, "not installed", f"pip install {package}")
    if child.returncode == 0:
        return Finding("ok", package, found)
    if child.returncode < 0:
        todo = f"the wheel was built for another CPU; build it here: pip install --no-binary {package} {package}"
        return Finding("bad", package, f"{found}: ended by signal {-child.returncode} while loading", todo)
    reason = said.strip().splitlines()[-1] if said.strip() else f"exit {child.returncode}"
    return Finding("bad", package, f"{found}: {reason}", f"pip install --force-reinstall {package}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu(machine: str, cpuinfo: Path) -> Finding:
    """What of the CPU decides about speed. `cpuinfo` is /proc/cpuinfo."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError as error:
        return Finding("warn", "cpu", f"{machine}: {cpuinfo}: {error.strerror}", "mount /proc")
    have = set(next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "").split())
    if machine in ("x86_64", "AMD64"):
        names = {"avx2": "avx2", "avx512": "avx512f", "vnni": "avx512_vnni", "amx": "amx_tile"}
        needed = "avx2"
    else:
        names = {
            "neon": "asimd" if machine == "aarch64" else "neon",
            "dotprod": "asimddp",
            "i8mm": "i8mm",
            "sve": "sve",
        }
        needed = "neon"
    told = ", ".join(f"{name} {'yes' if flag in have else 'no'}" for name, flag in names.items())
    text = f"{machine}, {os.cpu_count()} cores: {told}"
    if names[needed] not in have:
        return Finding("warn", "cpu", text, f"without {needed} models are several times slower; use small ones")
    return Finding("ok", "cpu", text)


def kernel(root: Path = Path("/")) -> Iterator[Finding]:
    """How pressed for memory the device is can only be told with cgroup v2 and PSI. `root` is where /proc and /sys are."""
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    todo = "boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory on the kernel's command line"
    if not controllers.is_file():
        yield Finding("warn", "cgroup", "no cgroup v2: memory limits are not seen", todo)
    elif "memory" not in controllers.read_text().split():
        yield Finding("warn", "cgroup", "cgroup v2 without the memory controller: memory limits are not seen", todo)
    else:
        yield Finding("ok", "cgroup", "v2 with the memory controller")
    pressure = root / "proc/pressure/memory"
    try:
        first = pressure.read_text().splitlines()[0]
    except (OSError, IndexError):
        yield Finding("warn", "psi", "no pressure information", "boot with psi=1 on the kernel's command line")
    else:
        yield Finding("ok", "psi", f"memory: {first}")


def _configuration(config: Path) -> tuple[Settings | None, Finding]:
    try:
        from edged.fleet.settings import load
    except ImportError as error:
        return None, Finding("bad", "config", f"cannot be read: {error}", "mend the packages above first")
    try:
        return load(config), Finding("ok", "config", str(config))
    except ConfigError as error:
        text, _, expected = explain(error).partition("\n  expected: ")
        return None, Finding("bad", "config", text, expected or "see: edged check")


def _state(folder: Path) -> Iterator[Finding]:
    at = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    if not os.access(at, os.W_OK | os.X_OK):
        yield Finding(
            "warn",
            "state",
            f"{folder}: not writable by uid {os.getuid()}",
            "run this as the daemon's user, or chown it",
        )
    elif (free := shutil.disk_usage(at).free) < _LOW_DISK:
        yield Finding(
            "warn", "state", f"{folder}: only {free >> 20} MiB free", "make room: a full disk refuses new work"
        )
    else:
        yield Finding("ok", "state", f"{folder}: {free >> 20} MiB free")
    yield from _proofs(folder)


def _proofs(folder: Path) -> Iterator[Finding]:
    """Which way of running each model has survived here, as `engine/proof` remembers it."""
    try:
        from edged.engine.proof import MODES, Prover
    except ImportError as error:
        yield Finding("bad", "proofs", f"cannot be read: {error}", "mend the packages above first")
        return
    prover = Prover(folder, "edged.workers.gguf")
    proofs = prover.proofs()
    if not proofs:
        yield Finding(
            "ok", "proofs", f"none in {folder / 'proofs.json'}: each model is tried out before its first answer"
        )
    for proof in proofs:
        digest, model, mode = str(proof.get("digest")), proof.get("model"), proof.get("mode")
        known = prover.known(digest)
        if known is None or known != mode:
            yield Finding("ok", "proofs", f"{model}: proven for another CPU or engine; it will be tried out again")
        elif mode != MODES[0]:
            tried = ", ".join(f"{name}: {what}" for name, what in dict(proof.get("tried") or {}).items())
            todo = f"slower than it could be; a llama-cpp-python built on this machine may help ({tried})"
            yield Finding("warn", "proofs", f"{model}: runs in mode {mode}", todo)
        else:
            yield Finding("ok", "proofs", f"{model}: runs in mode {mode}")


def _plugins(folders: list[Path]) -> Iterator[Finding]:
    from edged.tools.manifest import read_manifest

    good = []
    for folder in folders:
        if not folder.is_dir():
            yield Finding("warn", "plugins", f"{folder}: no such folder", "create it, or mend device.plugin_dirs")
        for path in sorted(folder.glob("*/plugin.toml")):
            try:
                good.append(read_manifest(path).name)
            except ConfigError as error:
                yield Finding(
                    "bad", "plugins", explain(error), f"mend or move {path.parent}; docs/plugins.md has the keys"
                )
    if good:
        yield Finding("ok", "plugins", ", ".join(good))


def _power(settings: Settings) -> Finding:
    from edged.watch.finding import found

    level, text, todo = found(settings.power_plan())
    return Finding(level, "power", text, todo)


def _broker(settings: Settings) -> Finding:
    mqtt = settings.mqtt
    if not mqtt.enabled:
        return Finding("ok", "broker", "mqtt is off")
    where = f"{mqtt.host}:{mqtt.port}"
    try:
        socket.create_connection((mqtt.host, mqtt.port), _BROKER_SECONDS).close()
    except OSError as error:
        todo = "start the broker (mosquitto), or mend [mqtt], or set enabled = false; edged runs without it and keeps trying"
        return Finding("warn", "broker", f"{where}: {error.strerror or error}", todo)
    return Finding("ok", "broker", f"{where}: takes connections")


def _daemon(path: Path) -> Finding:
    try:
        seen = Client(path).view("status")
    except Stop as stop:
        return Finding("warn", "daemon", stop.line.removeprefix("edged: "))
    health = dict(seen.get("health") or {}) if isinstance(seen, dict) else {}
    text = f"{path}: {health.get('state', 'answers')}"
    if reasons := "; ".join(map(str, health.get("reasons", ()))):
        return Finding("warn", "daemon", f"{text}: {reasons}", "see: edged status")
    return Finding("ok", "daemon", text)
