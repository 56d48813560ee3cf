"""The real daemon, the shipped configuration, the bundled model, ordinary clients."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.process import DaemonProcess, Site, free_port
from edged.ipc.memory import resident_bytes

# An agent that has only its language model to understand with.
TILL = """
[agents.till]
tools = ["kiosk.*"]
tiers = ["model", "cloud"]
"""
QUESTION = "do you have the noise cancelling headphones in stock?"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for the tests that leave it as it was. The cloud's port is closed."""
    overlay = f'[mqtt]\nenabled = false\n[cloud]\nbase_url = "http://127.0.0.1:{free_port()}/v1"\n{TILL}'
    with DaemonProcess(Site(tmp_path_factory.mktemp("site"), overlay)) as running:
        yield running


def test_a_clear_question_needs_no_language_model(daemon: DaemonProcess) -> None:
    status, reply = daemon.ask("kiosk", QUESTION)
    assert (status, reply["tier"], reply["usage"]["prompt"]) == (200, "intent", 0)
    [call] = reply["tool_calls"]
    assert (call["name"], call["arguments"]) == ("check_stock", {"product": "noise cancelling headphones"})
    assert {stage["name"] for stage in reply["stages"]} == {"intent", "tool:check_stock"}


def test_the_model_calls_the_shop(daemon: DaemonProcess) -> None:
    status, reply = daemon.ask("till", QUESTION)
    assert status == 200
    assert reply["tier"] == "model"
    [call] = reply["tool_calls"]
    assert (call["name"], call["arguments"]) == ("check_stock", {"product": "noise cancelling headphones"})
    assert str(reply["tool_results"][0]["content"]["stock"]) in reply["text"]
    assert {"prefill", "decode", "tool:check_stock"} <= {stage["name"] for stage in reply["stages"]}
    assert reply["usage"]["prompt"] > 0


def test_a_pattern_answers_without_a_model(daemon: DaemonProcess) -> None:
    status, reply = daemon.ask("home", "turn on the kitchen light")
    assert (status, reply["tier"], reply["usage"]["prompt"]) == (200, "reflex", 0)
    _, reply = daemon.ask("home", "switch the kitchen light off!")
    assert reply["text"] == "The kitchen light is off now."


def test_a_taught_sentence_counts_at_once(daemon: DaemonProcess) -> None:
    strange = "how far along are we"
    _, reply = daemon.ask("home", strange)
    assert [call["name"] for call in reply["tool_calls"]] != ["list_timers"]
    command = [sys.executable, "-m", "edged", "teach", "home", "--socket", str(daemon.site.socket)]
    subprocess.run([*command, "list_timers", strange], check=True, timeout=15)
    _, reply = daemon.ask("home", "How far along are we?")
    assert ([call["name"] for call in reply["tool_calls"]], reply["tier"]) == (["list_timers"], "intent")
    subprocess.run([*command, "list_timers", strange, "--forget"], check=True, timeout=15)
    listed = subprocess.run(command, check=True, timeout=15, capture_output=True, text=True)
    assert listed.stdout == ""


def test_curl(daemon: DaemonProcess) -> None:
    command = ["curl", "-sS", "--unix-socket", str(daemon.site.socket), "http://edged/v1/agents/home/requests"]
    done = subprocess.run(
        [*command, "-d", '{"text": "turn on the desk lamp"}'], capture_output=True, check=True, timeout=15
    )
    assert json.loads(done.stdout)["text"] == "The desk lamp is on now."


def test_beyond_the_device_is_a_ticket_at_once(daemon: DaemonProcess) -> None:
    began = time.monotonic()
    status, reply = daemon.ask("kiosk", "please compose a sonnet about the sea", escalate=True)
    assert time.monotonic() - began < 2
    assert (status, reply["status"]) == (202, "escalated")
    status, seen = daemon.call("GET", f"/v1/requests/{reply['ticket']}")
    assert seen["ticket"] == reply["ticket"]


def test_a_local_only_agent_never_escalates(daemon: DaemonProcess) -> None:
    status, problem = daemon.ask("home", "compose a sonnet", escalate=True)
    assert (status, problem["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/agents/nobody/requests", {"text": "x"}, 404, "not_found"),
        ("/v1/agents/kiosk/requests", {"texxt": "x"}, 400, "bad_request"),
        ("/v1/agents/kiosk/requests", {"text": "x" * 70_000}, 413, "too_large"),
        ("/v1/agents/kiosk/requests", {"text": "  "}, 400, "bad_request"),
        ("/v1/agents/kiosk/requests", [1], 400, "bad_request"),
    ],
)
def test_bad_requests_have_codes(daemon: DaemonProcess, path: str, body: object, status: int, code: str) -> None:
    seen, problem = daemon.call("POST", path, body)
    assert (seen, problem["code"]) == (status, code)
    assert daemon.call("GET", "/healthz")[0] == 200


def test_status_shows_the_house(daemon: DaemonProcess) -> None:
    _, status = daemon.call("GET", "/v1/status")
    assert status["device"] == "demo"
    assert {model["name"] for model in status["models"]} == {"bundled", "encoder"}
    assert {plugin["name"] for plugin in status["plugins"]} == {"clock", "home", "kiosk", "units"}


def test_a_killed_worker_costs_one_attempt(daemon: DaemonProcess) -> None:
    for agent, name, tier in (("till", "bundled", "model"), ("kiosk", "encoder", "intent")):
        daemon.ask(agent, QUESTION)
        _, status = daemon.call("GET", "/v1/status")
        os.kill(next(model["pid"] for model in status["models"] if model["name"] == name), signal.SIGKILL)
        status_code, reply = daemon.ask(agent, QUESTION, id=f"after-a-crash-of-{name}")
        assert status_code == 200, reply
        assert reply["tier"] in (tier, "model")  # a crashed encoder may cost its attempt


def test_children_die_with_the_daemon(tmp_path: Path) -> None:
    with DaemonProcess(Site(tmp_path, "[mqtt]\nenabled = false\n")) as daemon:
        daemon.ask("kiosk", QUESTION)
        _, status = daemon.call("GET", "/v1/status")
        children = [c["pid"] for c in [*status["models"], *status["plugins"]] if c.get("pid")]
        fds = [os.pidfd_open(pid) for pid in children]
        daemon.stop(signal.SIGKILL)
        for fd in fds:
            assert select.select([fd], [], [], 5.0)[0], "a child outlived the daemon"
            os.close(fd)


def test_sigterm_ends_it_well_and_frees_the_socket(tmp_path: Path) -> None:
    site = Site(tmp_path, "[mqtt]\nenabled = false\n")
    with DaemonProcess(site) as daemon:
        assert daemon.stop(signal.SIGTERM) == 0
        assert not site.socket.exists()
        daemon.start()
        assert daemon.ask("home", "turn on the kitchen light")[0] == 200


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with DaemonProcess(Site(tmp_path, "[mqtt]\nenabled = false\n")) as daemon:
        daemon.ask("kiosk", QUESTION)
        _, status = daemon.call("GET", "/v1/status")
        os.kill(next(model["pid"] for model in status["models"] if model["pid"]), signal.SIGSTOP)
        assert daemon.process is not None
        with socket.socket(socket.AF_UNIX) as waiting:  # a request that would be drained
            waiting.connect(str(daemon.site.socket))
            body = json.dumps({"text": QUESTION})
            head = f"POST /v1/agents/kiosk/requests HTTP/1.1\r\nHost: edged\r\nContent-Length: {len(body)}\r\n\r\n"
            waiting.sendall(f"{head}{body}".encode())
            while daemon.call("GET", "/v1/status")[1]["busy"] == 0:
                time.sleep(0.1)  # the rate limit holds for this too
            daemon.process.send_signal(signal.SIGINT)
            while "stopping" not in (tmp_path / "daemon.log").read_text():
                time.sleep(0.01)
            assert daemon.stop(signal.SIGINT, 5.0) == -signal.SIGINT


def test_idle_memory(tmp_path: Path) -> None:
    with DaemonProcess(Site(tmp_path, "[mqtt]\nport = 9\n")) as daemon:
        assert resident_bytes(daemon.pid) <= 60e6


def test_a_second_daemon_on_the_same_socket_is_refused(daemon: DaemonProcess, tmp_path: Path) -> None:
    overlay = f'[mqtt]\nenabled = false\n[http]\nsocket = "{daemon.site.socket}"\n'
    second = Site(tmp_path, overlay)
    done = run(second)
    assert done.returncode == 78
    assert "another process listens there" in done.stderr
    assert daemon.call("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("overlay", "told"),
    [
        ('[agents.kiosk]\nmodle = "x"\n', "agents.kiosk.modle"),
        ('[memory]\nbudget = "lots"\n', "memory.budget"),
        ("[agents.kiosk\n", "90-overlay.toml"),
        ('[[agents.home.reflexes]]\npattern = "turn {"\ntool = "x"\n', "reflex"),
    ],
)
def test_a_bad_configuration_is_exit_78_and_names_the_key(tmp_path: Path, overlay: str, told: str) -> None:
    done = run(Site(tmp_path, overlay))
    assert done.returncode == 78
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def run(site: Site) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edged", "run", "--config", str(site.config)]
    return subprocess.run(command, env=site.environment, capture_output=True, text=True, timeout=15)


def test_the_watchdog_is_fed(tmp_path: Path) -> None:
    site = Site(tmp_path, "[mqtt]\nenabled = false\n")
    address = str(site.socket.with_name("watch"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(address)
        notify.settimeout(10)
        command = [sys.executable, "-m", "edged", "run", "--config", str(site.config)]
        environment = {**site.environment, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                seen = [notify.recv(4096).decode() for _ in range(5)]
                assert any("READY=1" in message for message in seen)
                assert sum("WATCHDOG=1" in message for message in seen) >= 3
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
            finally:
                process.kill()


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, "[mqtt]\nenabled = false\n")
    with DaemonProcess(site) as daemon:
        other = site.socket.with_name("other.sock")
        site.write("95-other.toml", f'[http]\nsocket = "{other}"\n')
        done = run(site)
        assert done.returncode == 78
        assert "another edged runs on" in done.stderr
        assert daemon.call("GET", "/healthz")[0] == 200


def test_workers_do_not_see_the_cloud_key(tmp_path: Path) -> None:
    site = Site(
        tmp_path, '[mqtt]\nenabled = false\n[cloud]\nbase_url = "https://example.org/v1"\napi_key_env = "SECRET_KEY"\n'
    )
    os.environ["SECRET_KEY"] = "sesame"
    try:
        with DaemonProcess(site) as daemon:
            daemon.ask("kiosk", QUESTION)
            _, status = daemon.call("GET", "/v1/status")
            children = [c["pid"] for c in [*status["models"], *status["plugins"]] if c.get("pid")]
            assert children
            assert b"sesame" in Path(f"/proc/{daemon.pid}/environ").read_bytes()
            assert not [pid for pid in children if b"sesame" in Path(f"/proc/{pid}/environ").read_bytes()]
    finally:
        del os.environ["SECRET_KEY"]


def test_a_stream_says_the_answer_and_then_the_reply(daemon: DaemonProcess) -> None:
    command = ["curl", "-sSN", "--unix-socket", str(daemon.site.socket), "http://edged/v1/agents/home/requests"]
    body = '{"text": "turn on the desk lamp", "mode": "stream"}'
    done = subprocess.run([*command, "-d", body], capture_output=True, check=True, timeout=15, text=True)
    events = [line.removeprefix("event: ") for line in done.stdout.splitlines() if line.startswith("event: ")]
    assert events == ["token", "reply"]
    assert "The desk lamp is on now." in done.stdout
