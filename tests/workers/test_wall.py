"""The wall as a process meets it: every way in which an allocation fails ends with the one exit status."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from edged.domain.messages import Message
from edged.domain.meters import Meters
from edged.domain.ports import Generation
from edged.domain.resources import Budget, ModelSpec
from edged.engine.pool import Pool
from edged.engine.wall import Wall
from edged.ipc.channel import ChannelClosed
from edged.ipc.memory import EX_MEMORY, private_bytes
from edged.ipc.process import Child

MIB = 1 << 20
MODELS = Path(__file__).parents[2] / "edged" / "models"
BEGIN = """
import ctypes, os
from edged.workers import wall
wall.stand(int(open("/proc/self/statm").read().split()[5]) * 4096 + (32 << 20))
"""
CPP = 'ctypes.CDLL("libstdc++.so.6")'
# (what a process does past its wall, how it ends)
WAYS = [
    ("wall.fell()", EX_MEMORY),
    (f"{CPP}._Znwm(ctypes.c_size_t(1 << 30))", EX_MEMORY),  # operator new, with nobody to catch what it throws
    (f"{CPP}._ZSt20__throw_length_errorPKc(b'x')", -6),  # another exception is a crash like any other
    ("os.abort()", -6),
    ("bytearray(16 << 20)", 0),
]


async def ended(code: str) -> int:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.DEVNULL)
    return await child.wait()


@pytest.mark.parametrize(("what", "status"), WAYS)
async def test_how_a_process_ends(what: str, status: int) -> None:
    assert await ended(BEGIN + what) == status


async def test_without_a_wall_nothing_is_done() -> None:
    assert await ended("from edged.workers import wall; wall.fell()") == 0


LOADS = {
    "gguf": ("edged-bundled.gguf", {"context_length": 1024, "batch_size": 512, "slots": 8}),
    "onnx": ("intent", {}),
}


@pytest.mark.parametrize(
    ("worker", "size"),
    [("gguf", 72), ("gguf", 88), ("gguf", 104), ("onnx", 72), ("onnx", 96)],
)
async def test_a_real_worker_says_so_wherever_it_runs_out(worker: str, size: int) -> None:
    """Sizes at which it fails at different places: a thread, the cache, the graph; an array, a session."""
    name, more = LOADS[worker]
    async with Child(f"edged.workers.{worker}", ("--wall", str(size * MIB))) as child:
        with pytest.raises(ChannelClosed):
            await child.call("load", {"path": str(MODELS / name), "threads": 1, "mode": "default", **more})
        assert (await child.exited).status == EX_MEMORY


def asked(pid: int) -> int:
    """What RLIMIT_DATA counts."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))


async def test_normal_work_stays_well_below(tmp_path: Path) -> None:
    specs = {"bundled": ModelSpec("bundled", "bundled"), "encoder": ModelSpec("encoder", "bundled", kind="encoder")}
    async with Pool(specs, Budget(1 << 30), tmp_path, Meters()) as pool:
        text = Message("user", "turn on the light " * 20)
        grammar = "start: /[a-z ]{1,60}/"
        several = [Generation("bundled", (text,), max_tokens=24, grammar=grammar if i % 2 else None) for i in range(8)]
        await asyncio.gather(*map(pool.generate, several))
        await pool.infer("encoder", "embed", {"texts": [text.content] * 32})
        for entry in pool.status():
            wall = int(Wall("", entry["bytes"], pool._surroundings, pool._kills).arguments[1])
            assert asked(entry["pid"]) < 0.75 * wall
            assert private_bytes(entry["pid"]) < entry["bytes"]
