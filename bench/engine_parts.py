"""What the engine bench measures. A part is prepared once and then run several times; in each run every contender has its turn.

The order of turns is rotated from run to run, so that no contender always follows the same one. A run's figures belong together:
ratios are of one run.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.engine_ask import Edged, Engine, client_threads, generate_call, kept_on_disk, load_call, wave, worker_first
from bench.engine_model import Agent, Model, Texts
from bench.engine_peers import LlamaServer, PythonServer, llama_batched_bench, llama_bench
from edged.ipc.process import Child

__all__ = ["PARTS", "Figures", "Setting"]

Figures = dict[str, float]
Run = Callable[[int], Figures]

_CLIENTS = 8
_OWN = 12
_LATER_WAVES = 2
_AHEAD = 24  # pieces of the running stream before the long prompt comes
_PATIENCE = 120.0  # seconds
_SERVER_CONTEXT = "8192"  # eight slots of 1,024 where the cache is not unified


@dataclass(frozen=True, slots=True)
class Setting:
    """What all parts share. `folder` is thrown away in the end."""

    model: Model
    texts: Texts
    threads: int
    folder: Path

    def fresh(self) -> Path:
        """An empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def own(self, seed: str) -> str:
        """What one client asks."""
        return self.texts.text(_OWN, seed)

    def edged(self, folder: Path, *agents: Agent) -> Edged:
        return Edged(folder, self.model, agents, self.threads)

    def llama_server(self, *options: str) -> LlamaServer:
        return LlamaServer(self.model, self.threads, self.folder, options)


def _turns(run: int, contenders: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each contender's turn gave, by its name."""
    names = list(contenders)
    first = run % len(names)
    return {name: contenders[name]() for name in names[first:] + names[:first]}


def _warm(setting: Setting) -> Agent:
    """Asked first, so that the model is in memory and nothing of the measured prompt is in the cache."""
    return setting.texts.agent("warm", 40, "warm", max_tokens=8)


def _stream(setting: Setting) -> Run:
    """One stream through daemon and socket; llama.cpp's own figures at the depth that it begins at."""
    tokens = 128
    agent = setting.texts.agent("single", 600, "single", tokens)
    model, threads = setting.model, setting.threads
    depth = 0

    def ours(run: int) -> float:
        nonlocal depth
        with setting.edged(setting.fresh(), agent) as engine:
            engine.ask(agent, setting.own(f"single warm {run}"))
            stream = engine.ask(agent, setting.own(f"single {run}"))
        depth = stream.prompt
        return stream.decode_rate

    def once(run: int) -> Figures:
        # The prompt's length is the same in every run, so it may be known from the text where edged has not had its turn.
        at = depth or agent.prompt_tokens + _OWN + setting.texts.count("<|im_end|>\n<|im_start|>assistant\n")
        turns = {
            "edged": lambda: ours(run),
            "llama-bench": lambda: llama_bench(model, at, tokens, threads),
            "llama-batched-bench": lambda: llama_batched_bench(model, at, tokens, 1, threads),
        }
        return {f"stream.{name}": rate for name, rate in _turns(run, turns).items()}

    return once


def _waves(setting: Setting) -> Run:
    """Eight clients at once, an agent's prompt in common: nothing cached, and then twice with other questions."""
    agent, warm = setting.texts.agent("shared", 600, "shared"), _warm(setting)
    server = ("-c", _SERVER_CONTEXT, "-np", str(_CLIENTS))

    def asked(run: int, opened: AbstractContextManager[Engine]) -> Figures:
        with opened as engine:
            engine.ask(warm, "Hello")
            waves = [
                wave(engine, agent, [setting.own(f"shared {run} {number} {client}") for client in range(_CLIENTS)])
                for number in range(1 + _LATER_WAVES)
            ]
        first, *later = waves
        figures = {
            "first": first.rate,
            "later": statistics.mean(w.rate for w in later),
            "decode": 0.0,
            "prompt": first.streams[0].prompt,
            "cached": statistics.mean(stream.cached for w in later for stream in w.streams),
            "short": sum(stream.tokens < agent.max_tokens for w in waves for stream in w.streams),
        }
        if all(w.overlap > 0 for w in later):
            figures["decode"] = statistics.mean(w.decode_rate for w in later)
        return figures

    def once(run: int) -> Figures:
        found = _turns(
            run,
            {
                "edged": lambda: asked(run, setting.edged(setting.fresh(), agent, warm)),
                "llama-server": lambda: asked(run, setting.llama_server(*server)),
                "llama-server -kvu": lambda: asked(run, setting.llama_server(*server, "-kvu")),
                "llama_cpp.server": lambda: asked(run, PythonServer(setting.model, setting.threads, setting.folder)),
                "llama-batched-bench": lambda: {
                    "decode": llama_batched_bench(
                        setting.model, 600 + _OWN, agent.max_tokens, _CLIENTS, setting.threads
                    )
                },
            },
        )
        return {f"{what}.{name}": value for name, figures in found.items() for what, value in figures.items()}

    return once


def _restart(setting: Setting) -> Run:
    """From the start of a process to the first token, with an agent's prompt that an earlier process has seen."""
    agent = setting.texts.agent("long", 1000, "long")
    site, snapshots = setting.fresh(), setting.fresh()
    with setting.edged(site, agent) as engine:
        engine.ask(agent, setting.own("long before"))
        kept_on_disk(site)
    asyncio.run(
        worker_first(setting.model, setting.threads, snapshots, agent, setting.own("long before"), prepare=True)
    )

    def edged(text: str) -> float:
        with setting.edged(site, agent) as engine:
            return engine.ask(agent, text).times[0] - engine.began

    def server(text: str) -> float:
        with setting.llama_server("-c", "4096") as engine:
            return engine.ask(agent, text).times[0] - engine.began

    def once(run: int) -> Figures:
        text = setting.own(f"long {run}")
        turns = {
            "worker": lambda: asyncio.run(worker_first(setting.model, setting.threads, snapshots, agent, text)),
            "edged": lambda: edged(text),
            "llama-server": lambda: server(text),
        }
        return {f"restart.{name}": seconds for name, seconds in _turns(run, turns).items()}

    return once


def _gap(setting: Setting) -> Run:
    """A stream runs; a request with a long prompt comes. How long does the stream stand still, and when does the other begin?"""
    runner = setting.texts.agent("runner", 40, "runner", max_tokens=768)
    arriving = setting.texts.agent("arriving", 1000, "arriving", max_tokens=16)

    def asked(run: int, opened: AbstractContextManager[Engine]) -> Figures:
        with opened as engine:
            engine.ask(runner, "Hello", lambda number: number > 4)
            return _meet(engine, (runner, setting.own(f"runner {run}")), (arriving, setting.own(f"arriving {run}")))

    def once(run: int) -> Figures:
        found = _turns(
            run,
            {
                "edged": lambda: asked(run, setting.edged(setting.fresh(), runner, arriving)),
                "llama-server": lambda: asked(run, setting.llama_server("-c", "4096")),
            },
        )
        return {f"{what}.{name}": value for name, figures in found.items() for what, value in figures.items()}

    return once


def _meet(engine: Engine, running: tuple[Agent, str], arriving: tuple[Agent, str]) -> Figures:
    """`gap`: the stream's longest silence from the other's arrival to its first token; `arriving`: the other's first token."""
    under_way, begun = threading.Event(), threading.Event()
    heard_since = 0

    def on_running(number: int) -> bool:
        nonlocal heard_since
        if number == _AHEAD:
            under_way.set()
        heard_since += begun.is_set()
        return heard_since > 1  # the first may have come in the same step, and so a little earlier

    def on_arriving(number: int) -> bool:
        begun.set()
        return number > 4

    with client_threads(1) as client:
        answer = client.submit(engine.ask, *running, on_running)
        answer.add_done_callback(lambda _: under_way.set())
        if not under_way.wait(_PATIENCE) or answer.done():
            raise RuntimeError("the running stream did not last") from answer.exception() if answer.done() else None
        other = engine.ask(*arriving, on_arriving)
        times = answer.result().times
    if times[-1] < other.times[0]:
        raise RuntimeError("the running stream was over before the other began")
    gaps = [after - before for before, after in pairwise(times) if after > other.began and before < other.times[0]]
    return {"gap": max(gaps), "arriving": other.first_seconds}


def _schema(setting: Setting) -> Run:
    """Decoding under a JSON schema and without, in one worker."""
    agent = setting.texts.agent("schema", 200, "schema", max_tokens=128)

    def once(run: int) -> Figures:
        return asyncio.run(_constrained(setting, agent, run))

    return once


# Most of its tokens are chosen, not forced: texts up to their limit, numbers, and which of them comes next. A random model likes
# white space better than a trained one does, so there is none.
_ITEM = {"anyOf": [{"type": "string", "maxLength": 60}, {"type": "number"}, {"type": "boolean"}]}
_COMPACT = {"whitespace_flexible": False}
_SCHEMA = {"type": "array", "minItems": 200, "items": _ITEM, "x-guidance": _COMPACT}


async def _constrained(setting: Setting, agent: Agent, run: int) -> Figures:
    grammars = {"schema": {"kind": "json_schema", "source": _SCHEMA}, "free": None}
    order = ["schema", "free"] if run % 2 else ["free", "schema"]
    text = setting.own(f"schema {run}")
    rates = {}
    async with Child("edged.workers.gguf") as child:
        await child.call("load", load_call(setting.model, setting.threads, setting.fresh()))
        for grammar in grammars.values():  # the prompt is cached, and so is the tokenizer's table
            await child.call("generate", generate_call(agent, text, 8, grammar))
        for name in order:
            result = await child.call("generate", generate_call(agent, text, agent.max_tokens, grammars[name]))
            if result["completion_tokens"] < agent.max_tokens / 2:
                raise RuntimeError(f"the {name} output ended after {result['completion_tokens']} tokens")
            rates[f"json.{name}"] = result["completion_tokens"] / result["decode_seconds"]
    return rates


PARTS: dict[str, Callable[[Setting], Run]] = {
    "stream": _stream,
    "waves": _waves,
    "restart": _restart,
    "gap": _gap,
    "schema": _schema,
}
