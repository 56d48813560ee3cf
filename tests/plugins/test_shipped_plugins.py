"""The shipped plugins in real children: what they are called, what they answer, what they refuse, what survives a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edged.agent import wording
from edged.domain.messages import Event, ToolCall, ToolResult
from edged.domain.meters import Meters
from edged.tools.host import Host

SHIPPED = Path(__file__).parents[2] / "plugins"
SIGNATURES = {
    "list_products": "category",
    "check_stock": "product",
    "find_alternatives": "product",
    "quote_price": "product quantity?",
    "place_order": "product quantity?",
    "order_status": "order",
    "create_ticket": "problem priority?",
    "schedule_callback": "customer time",
    "switch_device": "device state",
    "set_level": "device percent",
    "read_sensor": "sensor zone",
    "device_state": "device",
    "get_time": "",
    "set_timer": "amount unit label?",
    "list_timers": "",
    "cancel_timer": "label",
    "convert_units": "value from_unit to_unit",
}
PLUGINS = ["kiosk.*", "home.*", "clock.*", "units.*"]


@contextlib.asynccontextmanager
async def shipped(state: Path) -> AsyncIterator[tuple[Host, asyncio.Queue[Event]]]:
    heard: asyncio.Queue[Event] = asyncio.Queue()
    async with Host([SHIPPED], state, heard.put_nowait, Meters()) as host:
        yield host, heard


async def run(host: Host, name: str, /, **arguments: Any) -> ToolResult:
    return await host.call(ToolCall("c", name, arguments), request_id="r")


async def said(host: Host, name: str, /, **arguments: Any) -> str:
    """The sentence that reflex and intent would answer with."""
    (spec,) = await host.specs([name])
    result = await run(host, name, **arguments)
    if result.ok:
        assert all(isinstance(value, str | int | float | bool) for value in result.content.values()), "results are flat"
    return wording.said(spec, ToolCall("c", name, arguments), result, "en") or wording.bare(result)


async def test_names_parameters_and_descriptions(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, _):
        specs = {spec.name: spec for spec in await host.specs(PLUGINS)}
    told = {
        name: " ".join(p + ("" if p in spec.required else "?") for p in spec.parameters["properties"])
        for name, spec in specs.items()
    }
    assert told == SIGNATURES
    abouts = (SHIPPED.parent / "bench" / "heldout" / "shipped.txt").read_text().splitlines()
    wanted = {line.removeprefix("about: ") for line in abouts if line.startswith("about: ")} - {"nothing"}
    assert {spec.description for spec in specs.values()} == wanted
    assert {name for name, spec in specs.items() if spec.say is None} == {"device_state"}
    assert all(spec.examples and spec.say_error for spec in specs.values())
    changing = {"place_order", "create_ticket", "schedule_callback", "set_timer", "cancel_timer"}
    assert {name for name, spec in specs.items() if not spec.idempotent} == changing
    assert len(specs["check_stock"].grounding["product"].choices) >= 40
    assert len(specs["convert_units"].grounding["to_unit"].choices) >= 60
    assert 12 <= len(specs["switch_device"].grounding["device"].choices) <= 16


@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("check_stock", {"product": "4k monitor"}, "We have 5 of 4k monitor in stock, on shelf B1."),
        ("check_stock", {"product": "projector"}, "There is one projector left, on shelf B4."),
        ("check_stock", {"product": "Record Player"}, "Sorry, record player is out of stock."),
        ("list_products", {"category": "gaming"}, "In gaming we have game controller, gaming headset, gaming chair, "
         "steering wheel."),
        ("quote_price", {"product": "usb-c cable"}, "The price of usb-c cable is 12.90 euros."),
        ("quote_price", {"product": "usb-c cable", "quantity": 3}, "3 of usb-c cable cost 38.70 euros, 12.90 euros each."),
        ("place_order", {"product": "projector", "quantity": 2}, "Sorry, we have only 1 of projector in stock."),
        ("place_order", {"product": "soundbar"}, "Done! Your order K1006 for 1 x soundbar comes to 149.00 euros. We will "
         "have it ready for pick-up."),
        ("order_status", {"order": "k-1004"}, "Order K1004, 1 x record player, is waiting for delivery."),
        ("order_status", {"order": "mine"}, "Sorry, I cannot find an order mine."),
        ("create_ticket", {"problem": "the door sticks"}, "Thank you. I have told the staff, the ticket is T1."),
        ("schedule_callback", {"customer": "Ms Lee", "time": "at noon"}, "We will call Ms Lee back, at noon."),
        ("switch_device", {"device": "hallway light", "state": "on"}, "The hallway light is on now."),
        ("set_level", {"device": "radiator", "percent": 35}, "The radiator is at 35 percent now."),
        ("set_level", {"device": "radiator", "percent": 350}, "The percent must be at most 100, not 350."),
        ("read_sensor", {"sensor": "co2", "zone": "garden"}, "There is no co2 sensor in the garden."),
        ("list_timers", {}, "No timers are running."),
        ("cancel_timer", {"label": "tea"}, "There is no label to choose now."),
        ("set_timer", {"amount": 90, "unit": "minutes"}, "The timer is set for 1 hour and 30 minutes."),
        ("set_timer", {"amount": 0, "unit": "minutes"}, "A timer runs from one second to seven days."),
        ("convert_units", {"value": 212, "from_unit": "fahrenheit", "to_unit": "celsius"}, "212 fahrenheit is 100 celsius."),
        ("convert_units", {"value": 0.1, "from_unit": "km", "to_unit": "m"}, "0.1 km is 100 m."),
        ("convert_units", {"value": 2, "from_unit": "pounds", "to_unit": "kg"}, "2 pounds is 0.907185 kg."),
        ("convert_units", {"value": 90, "from_unit": "km/h", "to_unit": "m/s"}, "90 km/h is 25 m/s."),
        ("convert_units", {"value": -300, "from_unit": "celsius", "to_unit": "kelvin"}, "-300 celsius is below absolute "
         "zero."),
        ("convert_units", {"value": 1, "from_unit": "mile", "to_unit": "kg"}, "mile is a unit of length and kg one of "
         "mass, so they do not convert."),
    ],
)  # fmt: skip
async def test_sentences(tmp_path: Path, tool: str, arguments: dict[str, Any], sentence: str) -> None:
    async with shipped(tmp_path) as (host, _):
        assert await said(host, tool, **arguments) == sentence


async def test_the_last_piece_is_sold_once(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, _):
        results = await asyncio.gather(*(run(host, "place_order", product="projector") for _ in range(6)))
        assert sorted(r.ok for r in results) == [False] * 5 + [True]
        assert (await run(host, "check_stock", product="projector")).content["stock"] == 0
        code = next(r.content["order"] for r in results if r.ok)
    async with shipped(tmp_path) as (host, _):  # the books outlive the child, and are not seeded again
        assert (await run(host, "check_stock", product="projector")).content["stock"] == 0
        assert (await run(host, "order_status", order=code)).content["status"] == "being prepared"


async def test_alternatives_are_in_stock_and_of_the_category(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, _):
        found = (await run(host, "find_alternatives", product="4k monitor")).content
    assert found["count"] == 3 and found["alternatives"].startswith("27 inch monitor for 219.00 euros, shelf B1; ")


async def test_devices_remember_and_sensors_stay_in_bounds(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, _):
        await run(host, "set_level", device="desk lamp", percent=20)
        await run(host, "switch_device", device="desk lamp", state="off")
        value = (await run(host, "read_sensor", sensor="temperature", zone="kitchen")).content
        assert 17.5 <= value["value"] <= 23.5 and value["simulated"] is True
        (tmp_path / "plugins" / "home" / "sensors.json").write_text(json.dumps({"temperature": {"kitchen": 31.5}}))
        value = (await run(host, "read_sensor", sensor="temperature", zone="kitchen")).content
        assert (value["value"], value["simulated"]) == (31.5, False)
    async with shipped(tmp_path) as (host, _):
        state = (await run(host, "device_state", device="desk lamp")).content
        assert state == {"device": "desk lamp", "state": "off", "percent": 20}
        assert "percent" not in (await run(host, "device_state", device="water pump")).content


async def test_timers_are_listed_cancelled_and_named_apart(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, _):
        assert await said(host, "set_timer", amount=5, unit="minutes", label="tea") == (
            "The tea timer is set for 5 minutes."
        )
        await run(host, "set_timer", amount=2, unit="hours", label="tea")
        await run(host, "set_timer", amount=10, unit="minutes")
        (spec,) = await host.specs(["cancel_timer"])
        assert spec.grounding["label"].choices == ("tea", "10 minute", "tea 2")
        assert await said(host, "cancel_timer", label="tea") == "The tea timer is stopped."
        listed = await said(host, "list_timers")
        assert re.fullmatch(r"2 timers: 10 minute, .* left; tea 2, .* left\.", listed)


async def test_a_timer_fires_when_due(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, heard):
        await run(host, "set_timer", amount=1, unit="seconds", label="eggs")
        event = await heard.get()
        assert (event.source, event.kind, event.text) == ("clock", "timer", "The eggs timer is done.")
        assert 0.0 <= event.at - event.data["due"] < 1.0
        (spec,) = await host.specs(["cancel_timer"])
        assert spec.grounding["label"].choices == ()


async def test_a_timer_fires_across_a_kill_and_a_reboot(tmp_path: Path) -> None:
    async with shipped(tmp_path) as (host, heard):
        host.boot()
        await run(host, "set_timer", amount=1, unit="seconds", label="eggs")
        await run(host, "set_timer", amount=1, unit="hours", label="roast")
        os.kill(next(row["pid"] for row in host.status() if row["name"] == "clock"), signal.SIGKILL)
        first = await heard.get()  # from the next child, which nobody asked for
        assert first.text == "The eggs timer is done."
    book = tmp_path / "plugins" / "clock" / "timers.json"
    timers = json.loads(book.read_text())
    for timer in timers:
        timer["fired"] = timer["label"] == "eggs"  # the kill may have come before this was on disk
        timer |= {"boot": "another", "due": 0.0, "wall": min(timer["wall"], time.time() - 300)}
    book.write_text(json.dumps(timers))
    async with shipped(tmp_path) as (host, heard):
        host.boot()
        events = [await heard.get(), await heard.get()]
    assert events[0].key == first.key  # again, under its own key: the outbox lets it through once
    assert events[1].text == "The roast timer is done, 5 minutes ago."


async def test_a_timer_never_waits_longer_than_it_was_set_for(tmp_path: Path) -> None:
    book = tmp_path / "plugins" / "clock" / "timers.json"
    book.parent.mkdir(parents=True)
    ahead = {"key": "k", "label": "eggs", "seconds": 0.05, "boot": "another", "due": 0.0, "fired": False}
    book.write_text(json.dumps([{**ahead, "wall": time.time() + 86400}]))  # the wall clock was not set yet at this boot
    async with shipped(tmp_path) as (host, heard):
        host.boot()
        assert (await heard.get()).key == "k"


async def test_a_corrupt_timer_file_is_put_aside(tmp_path: Path) -> None:
    book = tmp_path / "plugins" / "clock" / "timers.json"
    book.parent.mkdir(parents=True)
    book.write_text("{half")
    async with shipped(tmp_path) as (host, _):
        assert await said(host, "list_timers") == "No timers are running."
    assert book.with_suffix(".corrupt").read_text() == "{half"
