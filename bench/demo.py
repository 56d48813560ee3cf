"""`make demo`: a newcomer's walk through the real daemon with ordinary clients.

curl on the Unix socket, mosquitto_pub and mosquitto_sub on a real broker, a kill -9 in the middle. Only the cloud is a
stand-in, and says so: a second process that serves the OpenAI chat API.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.process import ROOT, Broker, DaemonProcess, Site, free_port
from edged.ipc.memory import resident_bytes

__all__ = ["main"]

_WIDTH = 100
_POEM = "write a poem about the history of headphones"
_SUB, _PUB = "mosquitto_sub", "mosquitto_pub"


def say(text: str = "") -> None:
    print(text, flush=True)


def title(text: str) -> None:
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


class Walk:
    """One walk: what was asked and what came back."""

    def __init__(self, site: Site, broker: Broker) -> None:
        self.site, self.broker = site, broker
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def curl(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        command = ["curl", "-sS", "--unix-socket", str(self.site.socket), f"http://edged{path}"]
        if body is not None:
            command += ["-d", json.dumps(body)]
        say("  $ " + shlex.join(command).replace(str(self.site.socket), "edged.sock"))
        answer: dict[str, Any] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=90).stdout
        )
        return answer

    @contextlib.contextmanager
    def listening(self, topic: str, count: int) -> Iterator[Iterator[str]]:
        """What mosquitto_sub prints until it has `count` messages; it is subscribed when this yields."""
        command = [
            _SUB,
            "-p",
            str(self.broker.port),
            "-V",
            "5",
            "-q",
            "1",
            "-t",
            topic,
            "-C",
            str(count),
            "-W",
            "60",
            "-d",
        ]
        ours, theirs = os.openpty()  # into a pipe it would write only when it ends
        process = subprocess.Popen(command, stdout=theirs)
        os.close(theirs)
        with os.fdopen(ours, errors="replace") as terminal:
            try:
                next(line for line in terminal if "SUBACK" in line)
                yield terminal
            finally:
                process.terminate()
                process.wait()

    def publish(self, agent: str, text: str, correlation: str) -> None:
        topic = f"edged/demo/agents/{agent}/request/panel-7"
        command = [_PUB, "-p", str(self.broker.port), "-V", "5", "-q", "1", "-t", topic, "-m", text]
        command += ["-D", "publish", "response-topic", "demo/panel-7", "-D", "publish", "correlation-data", correlation]
        command += ["-D", "publish", "content-type", "text/plain"]
        say("  $ " + shlex.join(command).replace(f" -p {self.broker.port}", ""))
        subprocess.run(command, check=True, timeout=20)

    def hear(self, lines: Iterator[str]) -> dict[str, Any]:
        """The next reply among the lines of mosquitto_sub."""
        answer: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("{")))
        return answer

    def show(self, asked: str, reply: dict[str, Any]) -> None:
        self.rows.append((asked, reply))
        say(f"  > {reply.get('text') or reply}")


def walk(folder: Path) -> None:
    cloud_port = free_port()
    with Broker(folder) as broker:
        cloud = f'[cloud]\nbase_url = "http://127.0.0.1:{cloud_port}/v1"\nmodel = "stand-in"\n'
        site = Site(folder, f'log_level = "warning"\n[device]\nid = "demo"\n[mqtt]\nport = {broker.port}\n{cloud}')
        daemon, tour = DaemonProcess(site), Walk(site, broker)
        with daemon:
            title(f"The daemon is ready, {daemon.seconds_to_ready:.2f} s after its start (nothing is loaded yet).")
            kiosk(tour)
            devices(tour)
            mqtt_request = "summarize the history of our shop for a newspaper"
            with tour.listening("demo/panel-7", 2) as replies:
                ticket = beyond(tour, replies, mqtt_request)
                memory = measure(daemon)
                title("The power goes: kill -9. The daemon starts again.")
                daemon.stop(signal.SIGKILL)
                daemon.start()
                say(f"  ready again after {daemon.seconds_to_ready:.2f} s; is the ticket still there?")
                held = tour.curl(f"/v1/requests/{ticket}")
                say(f"  > {held.get('status')}: {held.get('text')}")
                title(
                    "The cloud comes back (a stand-in: a second process on this machine that serves the OpenAI chat API)."
                )
                with standin(cloud_port):
                    say("  the kiosk fetches its answer:")
                    tour.show(_POEM, tour.curl(f"/v1/requests/{ticket}?wait=55") | {"asked again": True})
                    say("  and the panel gets its own over MQTT:")
                    tour.show(mqtt_request, tour.hear(replies))
        table(tour, memory)


def kiosk(tour: Walk) -> None:
    title("A kiosk asks over the Unix socket; the local model calls the shop's inventory.")
    for text in ("do you have the noise cancelling headphones in stock?", "what would 3 power banks cost me"):
        tour.show(text, tour.curl("/v1/agents/kiosk/requests", {"text": text}))


def devices(tour: Walk) -> None:
    title("A wall panel asks over MQTT 5, with a response topic and correlation data.")
    for number, text in enumerate(("please get the desk lamp going", "what is the temperature in the bedroom")):
        with tour.listening("demo/panel-7", 1) as replies:
            tour.publish("home", text, f"panel-{number}")
            tour.show(text, tour.hear(replies))


def beyond(tour: Walk, replies: Iterator[str], mqtt_request: str) -> str:
    title("Two requests are beyond the device, and the cloud cannot be reached: each gets a ticket at once.")
    reply = tour.curl("/v1/agents/kiosk/requests", {"text": _POEM})
    tour.show(_POEM, reply)
    tour.publish("kiosk", mqtt_request, "panel-9")
    tour.show(mqtt_request, tour.hear(replies))
    return str(reply["ticket"])


def measure(daemon: DaemonProcess) -> list[tuple[str, int]]:
    """Resident bytes of the daemon and its children."""
    _, status = daemon.call("GET", "/v1/status")
    rows = [("daemon", resident_bytes(daemon.pid))]
    rows += [(f"model {m['name']}", resident_bytes(m["pid"])) for m in status["models"] if m.get("pid")]
    rows += [(f"plugin {p['name']}", resident_bytes(p["pid"])) for p in status["plugins"] if p.get("pid")]
    return rows


@contextlib.contextmanager
def standin(port: int) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.standin_cloud", "--port", str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    say(f"  {process.stdout.readline().strip()}")
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def table(tour: Walk, memory: list[tuple[str, int]]) -> None:
    title("What happened")
    say(f"  {'request':<56} {'answered by':<12} {'tokens':>7}  stages")
    for asked, reply in tour.rows:
        stages = "  ".join(f"{s['name']} {_seconds(s['seconds'])}" for s in reply.get("stages", ()))
        usage = reply.get("usage", {})
        tokens = usage.get("prompt", 0) + usage.get("completion", 0)
        by = reply.get("tier") or ("ticket" if reply.get("ticket") else reply.get("status", "?"))
        say(f"  {asked[:56]:<56} {by:<12} {tokens or '-':>7}  {stages}")
    say("\n  memory: " + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in memory))


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def main() -> int:
    missing = [name for name in ("curl", _SUB, _PUB) if shutil.which(name) is None]
    if missing:
        say(f"{', '.join(missing)} missing; install: apt-get install mosquitto mosquitto-clients curl")
        return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edged-demo-") as folder:
        walk(Path(folder))
    say(f"\nAll of it took {time.monotonic() - began:.0f} s. Now try `make run`, or read README.md.")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    raise SystemExit(main())
