"""The real daemon as a process of its own, for benches, the demo and tests: started, waited for READY, asked, killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Broker", "DaemonProcess", "Site", "free_port"]

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """A folder with a configuration, a state and a runtime directory of its own. `overlay` is TOML that comes last."""

    def __init__(self, folder: Path, overlay: str = "") -> None:
        self.folder = folder
        self.config = folder / "config"
        self.socket = Path(tempfile.mkdtemp(prefix="edged-")) / "edged.sock"  # a socket's path must be short
        shutil.copytree(ROOT / "config", self.config, dirs_exist_ok=True)
        self.write(
            "50-site.toml", f'[device]\nplugin_dirs = ["{ROOT / "plugins"}"]\n\n[http]\nsocket = "{self.socket}"\n'
        )
        self.write("90-overlay.toml", overlay)

    def write(self, name: str, text: str) -> None:
        (self.config / "conf.d" / name).write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "STATE_DIRECTORY": str(self.folder / "state"), "RUNTIME_DIRECTORY": str(self.folder)}


class DaemonProcess:
    """A context manager around `edged run`. `command` replaces the program and its arguments before `--config`."""

    def __init__(self, site: Site, command: Sequence[str] = ("-m", "edged", "run"), log: Path | None = None) -> None:
        self.site = site
        self._command = [sys.executable, *command, "--config", str(site.config)]
        self._log = log or site.folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.seconds_to_ready = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, seconds: float = 20.0) -> float:
        """Start and wait for systemd's READY=1. Returns the seconds from exec to it; raises RuntimeError with the log's end."""
        address = str(self.site.socket.with_name("notify"))
        Path(address).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self._log.open("ab") as log:
            notify.bind(address)
            began = time.monotonic()
            self.process = subprocess.Popen(
                self._command, env={**self.site.environment, "NOTIFY_SOCKET": address}, stderr=log, stdout=log, cwd=ROOT
            )
            pidfd = os.pidfd_open(self.process.pid)
            try:
                while True:
                    left = began + seconds - time.monotonic()
                    ready, _, _ = select.select([notify.fileno(), pidfd], [], [], max(0.0, left))
                    if notify.fileno() in ready and b"READY=1" in notify.recv(4096):
                        self.seconds_to_ready = time.monotonic() - began
                        return self.seconds_to_ready
                    if pidfd in ready or not ready:
                        tail = self._log.read_text(errors="replace")[-2000:]
                        raise RuntimeError(f"the daemon did not become ready:\n{tail}")
            finally:
                os.close(pidfd)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int | None:
        """Signal, wait, kill if it must be. Returns the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def call(self, method: str, path: str, body: Any = None, timeout: float = 60.0) -> tuple[int, Any]:
        """One HTTP exchange over the socket: status and JSON."""
        connection = _UnixConnection(self.site.socket, timeout)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")

    def ask(self, agent: str, text: str, **more: Any) -> tuple[int, Any]:
        return self.call("POST", f"/v1/agents/{agent}/requests", {"text": text, **more})


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("edged", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Broker:
    """A real Mosquitto on a free port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise RuntimeError("mosquitto is missing; install it: apt-get install mosquitto mosquitto-clients")
        config = self._folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        self._process = subprocess.Popen(
            [program, "-c", str(config)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            select.select([], [], [], 0.02)
        raise RuntimeError("mosquitto did not start")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
