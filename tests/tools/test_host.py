"""Real children: good calls, bad arguments, hangs, crashes, restarts, idling, events."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import WILD, host, plugin

from edged.domain.errors import NotFound
from edged.domain.messages import Event, ToolCall, ToolResult
from edged.domain.meters import Meters
from edged.tools.host import Host
from edged.tools.resident import rest_seconds


async def run(running: Host, name: str, /, **arguments: Any) -> ToolResult:
    return await running.call(ToolCall("c1", name, arguments), request_id="r1")


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    return plugin(tmp_path / "plugins", "wild", WILD)


async def test_specs_by_every_kind_of_name(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        assert running.status()[0]["state"] == "cold"
        (one,) = await running.specs(["add"])
        assert one.plugin == "wild" and one.description == "Add two numbers" and one.required == ("a",)
        assert one.parameters["properties"]["a"] == {"type": "integer", "minimum": 0, "maximum": 100}
        assert one.grounding["a"].kind == "number" and one.examples == ("add",)
        both = await running.specs(["wild.add", "wild.*"])
        assert [s.name for s in both][:2] == ["add", "hang"] and len(both) == len({s.name for s in both})
        for unknown in ("subtract", "wild.subtract", "tame.*"):
            with pytest.raises(NotFound):
                await running.specs([unknown])


async def test_patterns_are_known_though_nothing_runs(tmp_path: Path) -> None:
    text = '[[reflexes]]\npattern = "add {a}"\ntool = "add"\n'
    async with host(plugin(tmp_path / "plugins", "wild", WILD, text), tmp_path) as running:
        [phrases] = running.phrases
        assert (phrases.plugin, phrases.reflexes) == ("wild", (("add {a}", "add", {}),))
        assert running.status()[0]["state"] == "cold"


async def test_a_call_and_its_latency(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        result = await run(running, "add", a=2, b=3)
        assert result.ok and result.content == {"a": 2, "b": 3, "sum": 5} and result.call_id == "c1"
        assert (await run(running, "wild.add", a=2)).content == {"a": 2, "b": 1, "sum": 3}


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("add", {}, "add needs a."),
        ("add", {"a": "two"}, "The a must be a whole number, not 'two'."),
        ("add", {"a": True}, "The a must be a whole number, not 'True'."),
        ("add", {"a": 2.5}, "The a must be a whole number, not '2.5'."),
        ("add", {"a": 101}, "The a must be at most 100, not 101."),
        ("add", {"a": 1, "c": 1}, "add takes no c."),
        ("feed", {"pet": "rex"}, "There is no pet to choose now."),
        ("feed", {"pet": "rex", "meal": "stone"}, "There is no pet to choose now."),
        ("subtract", {}, "There is no tool subtract."),
        ("odd", {}, "The tool odd broke (FrameError: a value cannot be sent: can not serialize 'object' object)."),
        ("leave", {}, "The tool leave broke (SystemExit: 3)."),
        ("greedy", {}, "The tool greedy broke (MemoryError: )."),
    ],
)
async def test_faults_are_sentences(wild: Path, tmp_path: Path, name: str, arguments: Any, error: str) -> None:
    async with host(wild, tmp_path) as running:
        result = await run(running, name, **arguments)
        assert (result.ok, result.error) == (False, error)
        assert (await run(running, "add", a=1)).ok


async def test_choices_follow_the_calls(wild: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    async with host(wild, tmp_path, events) as running:
        (before,) = await running.specs(["feed"])
        assert before.grounding["pet"].choices == ()
        await run(running, "adopt", name="Rex")
        (after,) = await running.specs(["feed"])
        assert after.grounding["pet"].choices == ("pet-Rex",)
        assert (await run(running, "feed", pet="PET-rex")).content == {"pet": "pet-Rex", "meal": "fish"}
        assert (await run(running, "feed", pet="pet-Rex", meal="seeds")).error == "pet-Rex does not eat seeds."
        assert [(e.source, e.kind, e.key, e.data) for e in events] == [("wild", "adopted", "Rex", {"name": "Rex"})]
    async with host(wild, tmp_path) as running:  # state outlives the child
        assert (await run(running, "feed", pet="pet-Rex")).ok


async def test_a_hanging_tool_is_given_up_and_its_child_killed(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        await run(running, "add", a=1)
        before = running.status()[0]["pid"]
        result = await run(running, "hang")
        assert result.error == "hang did not answer within 0.3 s." and result.seconds < 5
        while running.status()[0]["pid"] == before:
            await asyncio.to_thread(_wait_gone, before)
        assert (await run(running, "add", a=1)).ok
        assert running.status()[0]["pid"] != before and running.status()[0]["restarts"] == 1
        assert running.status()[0]["last_error"] == "killed: hang ran on after its time"


async def test_a_frozen_child_is_found_out_though_its_caller_left(tmp_path: Path) -> None:
    plugins = plugin(tmp_path / "plugins", "wild", WILD, "start_timeout = 1.0\n")
    async with host(plugins, tmp_path) as running:
        await run(running, "add", a=1)
        pid = running.status()[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await running.specs(["wild.*"])
        await asyncio.to_thread(_wait_gone, pid)
        while not (await run(running, "add", a=1)).ok:
            pass  # its end was not noticed yet
        assert "it did not describe its tools" in running.status()[0]["last_error"]


async def test_a_call_without_time_is_not_sent(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        await run(running, "add", a=1)
        call = ToolCall("c1", "adopt", {"name": "Rex"})
        late = await running.call(call, request_id="r1", deadline_monotonic=time.monotonic() - 1)
        assert (late.ok, late.error) == (False, "There was no time left for adopt.")
        (feed,) = await running.specs(["feed"])
        assert feed.grounding["pet"].choices == ()


async def test_a_polite_tool_keeps_its_child(wild: Path, tmp_path: Path) -> None:
    heard: asyncio.Queue[Event] = asyncio.Queue()
    async with Host([wild], tmp_path, heard.put_nowait, Meters()) as running:
        assert not (await run(running, "polite")).ok
        pid = running.status()[0]["pid"]
        assert (await heard.get()).kind == "stopped"
        assert (await run(running, "add", a=1)).ok
        assert running.status()[0]["pid"] == pid and running.status()[0]["failures"] == 1


async def test_the_deadline_is_shorter_than_the_timeout(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        await running.specs(["add"])
        call = ToolCall("c", "hang", {})
        result = await running.call(call, request_id="r", deadline_monotonic=time.monotonic() + 0.05)
        assert not result.ok and result.seconds < 0.28


async def test_a_crash_names_its_signal_and_the_next_call_works(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        result = await run(running, "crash")
        assert result.error == "The wild plugin crashed during crash (SIGSEGV)."
        assert (await run(running, "add", a=1)).ok


async def test_a_plugin_that_keeps_crashing_rests(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        for _ in range(3):
            await run(running, "crash")
        result = await run(running, "add", a=1)
        assert not result.ok and "keeps failing and rests" in str(result.error)
        assert running.status()[0]["state"] == "resting" and running.status()[0]["retry_after"] > 0


@pytest.mark.parametrize(
    ("faults", "seconds"), [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (8, 32.0), (9, 60.0), (999, 60.0)]
)
def test_rest_seconds(faults: int, seconds: float) -> None:
    assert rest_seconds(faults) == seconds


async def test_a_broken_module_says_why_and_leaves_others_alone(wild: Path, tmp_path: Path) -> None:
    plugin(wild, "bad", "import nothing_like_this\n")
    async with host(wild, tmp_path) as running:
        assert [s.name for s in await running.specs(["bad.*", "add"])] == ["add"]
        status = {row["name"]: row for row in running.status()}
        assert "No module named 'nothing_like_this'" in status["bad"]["last_error"]
        assert (await run(running, "add", a=1)).ok


async def test_an_idle_child_ends_and_its_tools_stay_known(tmp_path: Path) -> None:
    plugins = plugin(tmp_path / "plugins", "wild", WILD, "idle = 0.05\n")
    async with host(plugins, tmp_path) as running:
        assert (await run(running, "add", a=1)).ok
        pid = running.status()[0]["pid"]
        await asyncio.to_thread(_wait_gone, pid)
        assert len(await running.specs(["wild.*"])) > 5 and running.status()[0]["pid"] is None
        assert (await run(running, "add", a=1)).ok
        assert running.status()[0]["failures"] == 0


async def test_calls_run_side_by_side(wild: Path, tmp_path: Path) -> None:
    async with host(wild, tmp_path) as running:
        await running.specs(["add"])
        polite, *sums = await asyncio.gather(run(running, "polite"), *(run(running, "add", a=n) for n in range(20)))
        assert [r.content["sum"] for r in sums] == list(range(1, 21))
        assert max(r.seconds for r in sums) < polite.seconds


async def test_a_boot_plugin_starts_unasked_and_again_after_a_crash(tmp_path: Path) -> None:
    source = "from edged.plugin import emit, on_start\nimport os\n@on_start\ndef hello():\n    emit('up', str(os.getpid()), 'up')\n"
    plugins = plugin(tmp_path / "plugins", "early", source, 'start = "boot"\n')
    heard: asyncio.Queue[Event] = asyncio.Queue()
    async with Host([plugins], tmp_path, heard.put_nowait, Meters()) as running:
        running.boot()
        first = await heard.get()
        os.kill(int(first.key), signal.SIGKILL)
        second = await heard.get()
        assert second.key != first.key and second.source == "early"


async def test_the_bodys_error_comes_out_bare(wild: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with host(wild, tmp_path):
            _ = 1 / 0


def _wait_gone(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], 10)
    finally:
        os.close(fd)
