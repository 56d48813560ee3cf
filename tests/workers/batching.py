"""Generations in this process: a tiny model, a batcher over it, and what became of each request.

The rule: a model is loaded once for all tests (`loaded`), and each test has a view of it (`Watched`) with limits of its own and an
empty cache. A view writes down each batch, and can do something before one or say that there was no room.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from edged.domain.errors import EdgedError
from edged.domain.ports import Sampling
from edged.workers.batcher import Batcher
from edged.workers.generation import Ask, Generation
from edged.workers.guiding import Guide, Table, compiled
from edged.workers.llama import SEQUENCES, Llama, Row, Runtime, Status
from edged.workers.lookup import Lookup
from edged.workers.sampling import Sampler
from edged.workers.snapshots import Snapshots
from edged.workers.speaking import Speech

from .tiny_gguf import CONTEXT, write, write_adapter, write_recurrent

BATCH = 64
SLOTS = 8
GREEDY = Sampling()


@cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tiny"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def _loaded(kind: str, whose: str) -> Llama:
    if kind == "mamba":
        path, adapters = write_recurrent(folder() / f"{whose} mamba.gguf"), {}
    else:
        path = write(folder() / f"{whose} llama.gguf")
        adapters = {name: str(write_adapter(folder() / f"{name}.gguf", i)) for i, name in enumerate("xy")}
    return Llama(str(path), Runtime(CONTEXT, slots=SLOTS, batch_size=BATCH, threads=1, adapters=adapters))


def loaded(kind: str = "llama") -> Llama:
    """A "llama" with the adapters "x" and "y", or a "mamba"."""
    return _loaded(kind, "served")


@cache
def table() -> Table:
    return Table(loaded().vocabulary)


def guide(grammar: str | dict[str, Any], triggers: Sequence[str] = ()) -> Guide:
    vocabulary = loaded().vocabulary
    return Guide(compiled(grammar, vocabulary), table(), vocabulary, triggers)


class Watched(Llama):
    """A loaded model, empty, with limits of its own. `batches` are the rows of each one; `before` is called with a batch that comes
    and says what to make of it, if not None."""

    def __init__(self, model: Llama, **limits: Any) -> None:
        self.__dict__ |= model.__dict__ | limits
        self._model_of_all = model
        self.batches: list[list[Row]] = []
        self.statuses: list[Status] = []
        self.before: Callable[[Sequence[Row]], Status | None] = lambda rows: None
        for sequence in range(SEQUENCES if self.partial else self.sequences):
            self.cut(sequence, 0)

    def decode(self, rows: Sequence[Row], adapter: str | None = None) -> Status:
        status = self.before(rows)
        self.batches.append(list(rows))
        if status is None:
            self._adapted = self._model_of_all._adapted
            status = super().decode(rows, adapter)
            self._model_of_all._adapted = self._adapted
        self.statuses.append(status)
        return status

    def last_position(self, sequence: int) -> int:
        """Of what llama.cpp itself holds; -1 for nothing."""
        return int(self._c.llama_memory_seq_pos_max(self._memory, sequence))


@dataclass(slots=True)
class Told:
    """One request and what was heard of it."""

    parts: list[str] = field(default_factory=list)
    ends: list[dict[str, Any] | EdgedError] = field(default_factory=list)
    gone: bool = False
    generation: Generation | None = None

    @property
    def result(self) -> dict[str, Any]:
        (end,) = self.ends
        assert isinstance(end, dict), end
        assert end["text"] == "".join(self.parts)
        return end

    @property
    def error(self) -> EdgedError:
        (end,) = self.ends
        assert isinstance(end, EdgedError), end
        return end

    @property
    def text(self) -> str:
        return str(self.result["text"])

    @property
    def made(self) -> list[int]:
        """The tokens that were chosen."""
        assert self.generation is not None
        return self.generation.tokens[len(self.generation.ask.prompt) :]


def greedy(prompt: Sequence[int], most: int, lane: str | None = None, kind: str = "llama") -> list[tuple[int, float]]:
    """What the model says by itself, one token after the other, and by how much it preferred each to the next best.

    By another copy of it, and without any of the code between. The end token, which ends it, is the last.
    """
    llama, found = Watched(_loaded(kind, "judging")), list[tuple[int, float]]()
    tokens, at = list(prompt), 0
    while len(found) < most:
        part = tokens[at : at + BATCH]
        rows = [Row(token, at + i, 0, i == len(part) - 1) for i, token in enumerate(part)]
        assert llama.decode(rows, lane) is Status.DONE
        at += len(part)
        if at == len(tokens):
            logits = llama.logits(len(part) - 1)
            token, second = int(logits.argmax()), float(sorted(logits)[-2])
            found.append((token, float(logits[token]) - second))
            if llama.vocabulary.is_end(token):
                break
            tokens.append(token)
    return found


class Clock:
    """Stands in for the module `time`; `now` is seconds."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Desk:
    """A batcher and its requests."""

    def __init__(self, model: Llama | None = None, snapshots: Snapshots | None = None, **limits: Any) -> None:
        self.llama = Watched(model or loaded(), **limits)
        self.batcher = Batcher(self.llama, snapshots)
        self.steps = 0

    @property
    def cache(self) -> Any:
        return self.batcher.cache

    def ask(
        self,
        prompt: Sequence[int] | bytes,
        most: int = 8,
        *,
        how: Sampling = GREEDY,
        grammar: str | dict[str, Any] | None = None,
        triggers: Sequence[str] = (),
        guess: bool = False,
        **more: Any,
    ) -> Told:
        told = Told()
        generation = told.generation = Generation(
            0,
            Ask(list(prompt), most, **more),
            Sampler(how, None if grammar is None else guide(grammar, triggers)),
            Speech(how.stop),
            self.llama.vocabulary,
            cancelled=lambda: told.gone,
            on_text=told.parts.append,
            finish=told.ends.append,
            lookup=Lookup() if guess else None,
        )
        if generation.lookup is not None:
            generation.lookup.feed(generation.tokens)
        self.batcher.add(generation)
        return told

    def step(self) -> list[Row]:
        """One step; its rows."""
        before = len(self.llama.batches)
        self.batcher.step()
        self.steps += 1
        return [row for batch in self.llama.batches[before:] for row in batch]

    def until(self, done: Callable[[], bool], most: int = 2000) -> None:
        for _ in range(most):
            if done():
                return
            self.step()
        raise AssertionError("it goes on and on")

    def run(self, most: int = 2000) -> None:
        """Until nothing is left to do."""
        self.until(lambda: not self.batcher.busy, most)
        self.batcher.idle()

    def alone(self, prompt: Sequence[int] | bytes, most: int = 8, **more: Any) -> Told:
        told = self.ask(prompt, most, **more)
        self.run()
        return told

    def leaks(self) -> list[str]:
        """What is wrong with the books when nobody works; everything is forgotten on the way."""
        cache, llama = self.batcher.cache, self.llama
        wrong = [
            f"sequence {s}: {llama.last_position(s) + 1} positions, {cache.length(s) if s in cache._tree else 0} in the tree"
            for s in range(llama.sequences)
            if llama.last_position(s) + 1 != (cache.length(s) if s in cache._tree else 0)
        ]
        cache.clear()
        if cache.used or sorted(cache._slots) != list(range(llama.slots)):
            wrong.append(f"{cache.used} cells, slots {cache._slots}")
        if sorted(cache._parked) != list(range(llama.slots, llama.sequences)):
            wrong.append("a number is lost")
        return wrong + [f"sequence {s} is left" for s in range(llama.sequences) if llama.last_position(s) >= 0]
