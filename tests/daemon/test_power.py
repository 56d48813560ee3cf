"""The real daemon on a laptop whose battery runs out: a recorded tree of sysfs files, since there is no battery here to drain."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sysfs_trees import LAPTOP, VM, grow

from bench.process import DaemonProcess, Site

TILL = '[agents.till]\ntools = ["kiosk.*"]\ntiers = ["model"]\n'
QUESTION = "do you have the noise cancelling headphones in stock?"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("site")
    grow(folder / "sys", LAPTOP, class__power_supply__BAT0__capacity=8)
    overlay = f'[mqtt]\nenabled = false\n[power]\nsysfs = "{folder}/sys"\naccount = true\n{TILL}'
    with DaemonProcess(Site(folder, overlay)) as running:
        wait_for(running, "critical")
        yield running


def wait_for(daemon: DaemonProcess, state: str) -> None:
    """The first look is made beside the start."""
    end = time.monotonic() + 10
    while daemon.call("GET", "/v1/status")[1]["power"]["state"] != state:
        assert time.monotonic() < end
        time.sleep(0.1)  # the rate limit holds for this too


def test_the_model_rests_and_says_why(daemon: DaemonProcess) -> None:
    status, problem = daemon.ask("till", QUESTION)
    assert (status, problem["code"], problem["retry_after"]) == (503, "power_saving", 60.0)
    assert "on battery with 8 %" in problem["detail"]
    assert "high priority" in problem["detail"]


def test_what_is_urgent_gets_the_model_and_its_energy_told(daemon: DaemonProcess) -> None:
    status, reply = daemon.ask("till", QUESTION, priority="high")
    assert (status, reply["tier"]) == (200, "model")
    assert reply["energy"]["source"] == "measured"  # the battery's 8.4 W
    assert 0 < reply["energy"]["joules"] < 8.4 * 20
    _, status_view = daemon.call("GET", "/v1/status")
    till = status_view["power"]["energy"]["agents"]["till"]["measured"]
    assert till["joules"] >= round(reply["energy"]["joules"], 3)


def test_patterns_and_intent_answer(daemon: DaemonProcess) -> None:
    assert daemon.ask("home", "turn on the kitchen light")[1]["tier"] == "reflex"
    assert daemon.ask("kiosk", QUESTION)[1]["tier"] == "intent"


def test_status_tells_sensors(daemon: DaemonProcess) -> None:
    power = daemon.call("GET", "/v1/status")[1]["power"]
    battery = next(sensor for sensor in power["sensors"] if sensor["name"] == "BAT0")
    assert (battery["quality"], battery["source"]) == ("good", "class/power_supply/BAT0")
    assert battery["values"]["percent"] == 8
    assert power["why"] == "on battery with 8 %, critical is 10 %"


def test_sums_survive_and_a_device_without_a_battery_refuses_nothing(daemon: DaemonProcess) -> None:
    before = daemon.call("GET", "/v1/status")[1]["power"]["energy"]["agents"]
    assert daemon.stop() == 0
    daemon.site.write("95-vm.toml", f'[power]\nsysfs = "{grow(daemon.site.folder / "vm", VM)}"\n')
    daemon.start()
    status, reply = daemon.ask("till", QUESTION, priority="low")
    assert (status, reply["tier"], reply["energy"]["source"]) == (200, "model", "estimated")
    power = daemon.call("GET", "/v1/status")[1]["power"]
    assert (power["state"], power["assumed"]) == ("mains", True)
    assert power["energy"]["agents"]["till"]["measured"] == before["till"]["measured"]
    assert power["energy"]["agents"]["till"]["estimated"]["requests"] == 1
