"""Children as they end: told to, crashing, wedged, orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from edged.ipc.channel import ChannelClosed
from edged.ipc.memory import resident_bytes
from edged.ipc.process import Child, ChildExit, ChildState

HERE = Path(__file__).parent


def names_in_environment(pid: int) -> set[str]:
    return {line.partition("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line}


async def test_leaving_ends_the_child_by_hanging_up(worker: str) -> None:
    async with Child(worker, grace=10) as child:
        states = [child.state]
        await child.call("echo")
    states.append(child.state)
    assert await child.exited == ChildExit(0, None)
    assert states == [ChildState.RUNNING, ChildState.ENDED]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
async def test_a_crash_is_told_by_its_signal(worker: str, number: signal.Signals) -> None:
    async with Child(worker) as child:
        with pytest.raises(ChannelClosed):
            await child.call("crash", int(number))
        ended = await child.exited
    assert ended == ChildExit(None, number)
    assert str(ended) == number.name


async def test_an_exit_is_told_by_its_status(worker: str) -> None:
    async with Child(worker) as child:
        with pytest.raises(ChannelClosed):
            await child.call("leave", 78)
        assert str(await child.exited) == "exit status 78"


async def test_a_child_that_cannot_start_is_told(worker: str) -> None:
    async with Child("no_such_module_anywhere") as child:
        with pytest.raises(ChannelClosed):
            await child.call("echo")
        assert await child.exited == ChildExit(1, None)


async def test_a_wedged_child_is_killed_after_its_grace(worker: str) -> None:
    async with Child(worker, ["deaf"], grace=0.05) as child:
        await child.call("echo")
        pid = child.pid
    assert await child.exited == ChildExit(None, signal.SIGKILL)
    assert resident_bytes(pid) == 0


async def test_leaving_by_an_error_ends_the_child_too(worker: str) -> None:
    with pytest.raises(LookupError):
        async with Child(worker) as child:
            await child.call("echo")
            raise LookupError
    assert child.state is ChildState.ENDED


async def test_kill_is_harmless_twice(worker: str) -> None:
    async with Child(worker) as child:
        child.kill()
        child.kill()
        assert await child.exited == ChildExit(None, signal.SIGKILL)
        child.kill()


async def test_garbage_from_a_child_ends_the_call(worker: str) -> None:
    async with Child(worker) as child:
        with pytest.raises(ChannelClosed, match="broke the protocol"):
            await child.call("garbage", b"\xff\xff\xff\xff")


async def test_the_environment_can_be_replaced(worker: str) -> None:
    env = {"PYTHONPATH": os.environ["PYTHONPATH"], "ONLY": "this"}
    async with Child(worker, env=env) as child:
        await child.call("echo")
        names = names_in_environment(child.pid)
    assert {"ONLY", "PYTHONPATH"} <= names
    assert "HOME" not in names


async def test_memory_is_what_the_kernel_counts(worker: str) -> None:
    async with Child(worker) as child:
        await child.call("echo")
        assert 1 << 20 < resident_bytes(child.pid) < 1 << 30
    assert resident_bytes() > 1 << 20


async def test_the_daemons_death_is_its_childs(worker: str) -> None:
    """The child is deaf to the hang-up, so only the kernel can end it."""
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "daemon_child.py"), stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    pid = int(await daemon.stdout.readline())
    handle = os.pidfd_open(pid)
    try:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        daemon.kill()
        await daemon.wait()
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
