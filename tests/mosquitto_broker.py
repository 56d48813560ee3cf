"""The real broker, on a port of its own. `kill` is SIGKILL; `start` again keeps the port."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

PROGRAM = "/usr/sbin/mosquitto"


class Mosquitto:
    """A mosquitto process. `extra` are more lines of its configuration."""

    def __init__(self, directory: Path, extra: str = "") -> None:
        self._config = directory / "mosquitto.conf"
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def start(self) -> Mosquitto:
        """Returns when it takes connections."""
        if not Path(PROGRAM).exists():
            raise RuntimeError(f"{PROGRAM} is missing; install it: apt-get install mosquitto mosquitto-clients")
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n{self._extra}\n"
        )
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return self
            except ConnectionRefusedError:
                self._still_starting(self._process)

    def kill(self) -> None:
        """As a power cut: nothing is said to clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _still_starting(self, process: subprocess.Popen[bytes]) -> None:
        try:
            code = process.wait(0.01)
        except subprocess.TimeoutExpired:
            return
        raise RuntimeError(f"mosquitto ended with {code}: port {self.port} taken, or a bad line in {self._extra!r}")
