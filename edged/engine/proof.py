"""Proving a model before it is served: which way of running it survives a real batch on this CPU.

The rule: native code is believed only after a throw-away child has lived through it. Some builds of llama.cpp fault on
some CPUs (AMX with quantized weights, once a batch holds four tokens), and a fault takes the process. What is proven is
remembered for (model, llama-cpp-python, CPU flags): any of them may change what happens. Failures are not remembered,
for a child may also have been killed for memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edged.domain.errors import EdgedError, ModelBroken
from edged.engine.catalog import ModelFacts
from edged.engine.wall import OPEN, Wall, crash_or_memory
from edged.ipc.channel import ChannelClosed
from edged.ipc.process import Child

__all__ = ["MODES", "Prover", "cpu_digest"]

# As the worker knows them, in the order in which they are tried: fastest first.
MODES = ("default", "no_extra_buffers", "one_thread")
_SECONDS = 120.0
_REMEMBERED = 64


class Prover:
    """Finds and remembers the mode of running a model. One instance, used from one event loop.

    `retry_after` of the `ModelBroken` that it raises is seconds.
    """

    def __init__(
        self, state_dir: Path, worker_module: str, *, seconds: float = _SECONDS, wall: Callable[[], float] = time.time
    ) -> None:
        self._file = state_dir / "proofs.json"
        self._module = worker_module
        self._seconds = seconds
        self._wall = wall
        self.engine = _engine_version()
        self._cpu = cpu_digest()
        self._proofs = _read(self._file)

    def proofs(self) -> list[dict[str, Any]]:
        """What is remembered: {model, digest, engine, cpu, mode, tried: {mode: what happened}, at}; `at` is Unix seconds."""
        return list(self._proofs)

    def known(self, digest: str) -> str | None:
        """The remembered mode, or None when the model has to be proven here first."""
        return next((str(p["mode"]) for p in self._proofs if self._key(p) == (digest, self.engine, self._cpu)), None)

    def forget(self, digest: str) -> None:
        """The proven mode crashed in service: prove it again next time."""
        self._proofs = [p for p in self._proofs if p.get("digest") != digest]
        self._write()

    async def mode(self, facts: ModelFacts, load: dict[str, Any], wall: Wall = OPEN) -> str:
        """The mode to serve in; `load` are the worker's load parameters. Raises `ModelBroken` when none survives, `OutOfMemory`
        when memory ran out: another way of running it may need less, but nothing is wrong with this one."""
        known = self.known(facts.digest)
        if known is not None:
            return known
        tried: dict[str, str] = {}
        for mode in MODES:
            tried[mode] = await self._attempt({**load, "mode": mode}, wall)
            if tried[mode] == "ok":
                self._remember(facts, mode, tried)
                return mode
        raise ModelBroken(
            f"no way of running {Path(facts.path).name} survived on this device: {tried[MODES[0]]}",
            retry_after=600.0,
            model=facts.name,
            tried=tried,
        )

    async def _attempt(self, load: dict[str, Any], wall: Wall) -> str:
        """What became of the throw-away child: "ok", or a few words."""
        with ExitStack() as after:
            async with Child(self._module, wall.arguments, grace=0.2) as child:
                ended_by = after.enter_context(wall.around(child.pid))
                happened = await self._tried(child, load)
            ended = child.exited.result()
        by = ended_by(ended) if happened is None else None
        if by is not None:
            raise crash_or_memory(wall.name, "while it was proven", str(ended), by)
        return happened or str(ended)

    async def _tried(self, child: Child, load: dict[str, Any]) -> str | None:
        """None when it ended by itself."""
        try:
            async with asyncio.timeout(self._seconds):
                await child.call("load", load)
                await child.call("prove", {})
        except TimeoutError:
            return f"no answer in {self._seconds:g} s"
        except ChannelClosed:
            return None
        except EdgedError as error:
            return error.detail
        return "ok"

    def _remember(self, facts: ModelFacts, mode: str, tried: dict[str, str]) -> None:
        proof = {
            "model": facts.name,
            "digest": facts.digest,
            "engine": self.engine,
            "cpu": self._cpu,
            "mode": mode,
            "tried": tried,
            "at": self._wall(),
        }
        others = [p for p in self._proofs if self._key(p) != self._key(proof)]
        self._proofs = [*others, proof][-_REMEMBERED:]
        self._write()

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._proofs, indent=1))
        temporary.replace(self._file)

    @staticmethod
    def _key(proof: dict[str, Any]) -> tuple[Any, Any, Any]:
        return proof.get("digest"), proof.get("engine"), proof.get("cpu")


def cpu_digest(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """A short name of what the CPU can do: the flags line (x86) or the features line (ARM), hashed."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return "unknown"
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16]


def _engine_version() -> str:
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return "none"


def _read(file: Path) -> list[dict[str, Any]]:
    """A damaged file only means that models are proven again."""
    try:
        proofs = json.loads(file.read_text())
    except (OSError, ValueError):
        return []
    return [p for p in proofs if isinstance(p, dict) and p.get("mode") in MODES] if isinstance(proofs, list) else []
