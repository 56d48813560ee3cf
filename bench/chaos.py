"""Kill the daemon at every commit point and at random moments, and count what was lost or answered twice.

`python -m bench.chaos [--rounds 200] [--seed 1] [--json]`. A round: the real daemon starts with a plan of when to die; clients send
durable requests over HTTP and MQTT (a tool with an effect, a plain tool, a question for the cloud) and note what was
acknowledged; SIGKILL; a second start without faults; the clients ask again under the same ids. Then the files are read: every
acknowledged request must have exactly one final reply, and no effect and no cloud answer may have happened twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.process import ROOT, Broker, DaemonProcess, Site, free_port
from bench.report import Bar, Reported, show

__all__ = ["Chaos", "main"]

_AGENT = """
[agents.chaos]
tools = ["kiosk.create_ticket", "kiosk.check_stock"]
tiers = ["reflex", "cloud"]
reflexes = [
    {pattern = "report {problem}", tool = "create_ticket"},
    {pattern = "stock of {product}", tool = "check_stock"},
]
"""
_COMMITS = 28  # a round makes about so many
_NEVER = "never:0"


class Chaos:
    """One site and its clients over many rounds."""

    def __init__(self, folder: Path, seed: int, broker: Broker, cloud_port: int) -> None:
        self.rng = random.Random(seed)
        cloud = f'[cloud]\nbase_url = "http://127.0.0.1:{cloud_port}/v1"\nmodel = "stand-in"\n'
        overlay = f'log_level = "warning"\n[device]\nid = "chaos"\n[mqtt]\nport = {broker.port}\n{cloud}{_AGENT}'
        self.site = Site(folder, overlay)
        self.counts: Counter[str] = Counter()
        self.losses: list[str] = []
        self.panel = Panel(broker.port)

    def greet(self) -> None:
        """One whole life first: a broker keeps messages for a device only once it has met it."""
        with DaemonProcess(self.site, ("-m", "bench.faulty", _NEVER)):
            self.panel.send("hello", "stock of webcam")
            while not self.panel.answered("hello", 0.5):
                self.panel.send("hello", "stock of webcam")

    def round(self, number: int) -> None:
        """One life that ends by SIGKILL and one that mends."""
        plan, delay = self._plan(number)
        asks = [(f"r{number}-{i}", self._text(number, i)) for i in range(6)]
        daemon = DaemonProcess(self.site, ("-m", "bench.faulty", plan))
        accepted: set[str] = set()
        self.panel.send(f"r{number}-m", f"report broken by mqtt r{number}-m")  # the broker has it, the daemon not yet
        with contextlib.suppress(RuntimeError, OSError):  # it may die while it starts
            daemon.start()
            killer = threading.Timer(delay, daemon.process.kill) if delay is not None and daemon.process else None
            if killer:
                killer.start()
            self._send(daemon, asks, accepted)
            if killer:
                killer.join()
            self._wait_dead(daemon)
        daemon.stop(signal.SIGKILL)
        self.counts["kills"] += 1
        with DaemonProcess(self.site, ("-m", "bench.faulty", _NEVER)) as daemon:
            for name, text in asks:
                self._settle(daemon, name, text, name in accepted, plan)
            if not self.panel.answered(f"r{number}-m", 15.0):
                self._lost(f"r{number}-m", plan, "no reply over MQTT")
        self.counts["acknowledged"] += len(accepted)

    def _plan(self, number: int) -> tuple[str, float | None]:
        """Every commit point in turn, before and after, every third time a random moment."""
        if number % 3 == 2:
            return _NEVER, self.rng.uniform(0.0, 0.4)
        at = 1 + (number // 3) % _COMMITS
        return f"{'before' if number % 3 else 'after'}:{at}", None

    def _text(self, number: int, i: int) -> str:
        return (
            f"report broken r{number}-{i}",
            "stock of webcam",
            f"please write an essay about r{number}-{i}",
        )[i % 3]

    def _send(self, daemon: DaemonProcess, asks: list[tuple[str, str]], accepted: set[str]) -> None:
        for name, text in asks:
            status, _ = daemon.ask("chaos", text, id=name, mode="ticket", escalate="essay" in text)
            if status in (200, 202):
                accepted.add(name)

    def _wait_dead(self, daemon: DaemonProcess) -> None:
        """A plan whose commit never came is carried out by hand."""
        assert daemon.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.process.wait(1.0)

    def _lost(self, name: str, plan: str, how: str) -> None:
        self.counts["lost"] += 1
        self.losses.append(f"{name} under {plan}: {how}")

    def _settle(self, daemon: DaemonProcess, name: str, text: str, accepted: bool, plan: str) -> None:
        if accepted and daemon.call("GET", f"/v1/requests/{name}")[0] == 404:
            self._lost(name, plan, "unknown after the restart")
        daemon.ask("chaos", text, id=name, mode="ticket", escalate="essay" in text)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            status, reply = daemon.call("GET", f"/v1/requests/{name}?wait=10")
            if status == 200 and reply.get("status") in ("done", "failed"):
                return
        self._lost(name, plan, f"not answered: {status} {reply}")

    def judge(self) -> None:
        """Read the files of the daemon and of the plugin."""
        state = self.site.folder / "state"
        for (replies,) in _rows(
            state / "edged.db", "SELECT count(*) FROM outbox WHERE kind = 'final' GROUP BY request_key"
        ):
            self.counts["final replies"] += 1
            self.counts["answered twice"] += replies > 1
        [(unanswered,)] = _rows(state / "edged.db", "SELECT count(*) FROM inbox WHERE state <> 'done'")
        if unanswered:
            self._lost(f"{unanswered} rows", "any plan", "not done in the end")
        shop = state / "plugins" / "kiosk" / "kiosk.sqlite3"
        for (times,) in _rows(shop, "SELECT count(*) FROM tickets WHERE problem LIKE 'broken%' GROUP BY problem"):
            self.counts["effects"] += 1
            self.counts["answered twice"] += times > 1
        self.counts["answered twice"] += self.panel.contradicted
        self.counts["sent again over MQTT"] = self.panel.repeated


class Panel:
    """A real MQTT client that outlives the daemon: QoS 1 both ways."""

    def __init__(self, port: int) -> None:
        self._replies: dict[str, list[bytes]] = {}
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="panel", protocol=paho.MQTTv5)
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port, clean_start=True)
        self._client.subscribe("panel/replies", 1)
        self._client.loop_start()
        self.repeated = self.contradicted = 0

    def send(self, name: str, text: str) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types here
        properties.ResponseTopic, properties.CorrelationData = "panel/replies", name.encode()
        payload = json.dumps({"text": text, "id": name})
        self._client.publish("edged/chaos/agents/chaos/request/panel", payload, 1, properties=properties)

    def _heard(self, client: Any, data: Any, message: Any) -> None:
        name = message.properties.CorrelationData.decode()
        with self._changed:
            known = self._replies.setdefault(name, [])
            if known:  # a repetition is what QoS 1 allows; another answer is what nobody may give
                self.repeated += 1
                self.contradicted += message.payload != known[0]
            known.append(message.payload)
            self._changed.notify_all()

    def answered(self, name: str, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: name in self._replies, seconds)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


@contextlib.contextmanager
def _standin(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.standin_cloud", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.terminate()


def run(rounds: int, seed: int) -> Counter[str]:
    """All rounds. Returns the counts, "lost" and "answered twice" among them."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="edged-chaos-") as folder, Broker(Path(folder)) as broker, _standin(port):
        chaos = Chaos(Path(folder), seed, broker, port)
        try:
            chaos.greet()
            for number in range(rounds):
                chaos.round(number)
        finally:
            chaos.panel.close()
        chaos.judge()
        for loss in chaos.losses:
            print(loss)
        return chaos.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts = run(options.rounds, options.seed)
    bars = [
        Bar("acknowledged requests lost", counts["lost"], "==", 0),
        Bar("requests answered or carried out twice", counts["answered twice"], "==", 0),
    ]
    names = ("kills", "acknowledged", "final replies", "effects", "sent again over MQTT")
    reported = [Reported(name, counts[name]) for name in names]
    show("chaos", bars, [Reported("rounds", options.rounds), *reported], as_json=options.json)


if __name__ == "__main__":
    main()
