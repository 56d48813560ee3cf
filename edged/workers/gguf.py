"""The child that runs one GGUF model: `python -m edged.workers.gguf`.

Verbs: `load`, `prove`, `generate` (many at a time: see `batcher`), `ping` (answered between two steps: the daemon's way to see that
native code has not hung). Heavy modules are imported on another thread while the daemon proves the model and llama.cpp reads the
file; nobody touches them before that thread has ended, for two threads that enter one package's import cycle see half a module.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import threading
import time
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # numpy multiplies nothing here; a stack and buffers for each core are dear

from edged.domain.errors import BadRequest, EdgedError, ModelBroken
from edged.domain.ports import Sampling
from edged.workers import wall
from edged.workers.batcher import Batcher
from edged.workers.generation import Ask, Generation
from edged.workers.guiding import Guide, Table, compiled
from edged.workers.llama import Llama, Row, Runtime
from edged.workers.lookup import Lookup
from edged.workers.prompting import Prompter
from edged.workers.sampling import Sampler
from edged.workers.serve import LATER, Call, Connection, arguments
from edged.workers.snapshots import Snapshots
from edged.workers.speaking import Speech
from edged.workers.template import ChatTemplate

_LAST_SECONDS = 0.4  # to write a snapshot when the daemon has hung up; it kills a child that stays longer
_PROOF_TOKENS = 32
_PROOF_STEPS = 4


class Backend:
    """The one model of this process and the handlers of its verbs."""

    def __init__(self, connection: Connection, imports: threading.Thread) -> None:
        self._connection = connection
        self._imports = imports
        self._llama: Llama | None = None
        self._batcher: Batcher | None = None
        self._prompter: Prompter | None = None
        self._table: Table | None = None
        self._postponed: list[Call] = []
        self._handlers = {"load": self.load, "prove": self.prove, "ping": self.ping, "generate": self.generate}

    def serve(self) -> None:
        """Calls and steps in turn, until the daemon hangs up. Returns when llama.cpp has failed."""
        connection = self._connection
        threading.Thread(target=connection.read_forever, name="reader", daemon=True).start()
        while True:
            for call in self._calls():
                connection.run(call, self._handlers.get(call.verb))
            batcher = self._batcher
            if batcher is not None and batcher.busy:
                with connection.together():
                    batcher.step()
                if not batcher.busy:
                    batcher.idle()

    def _calls(self) -> Iterator[Call]:
        """What there is to do now; waits for something when nothing is."""
        batcher, table = self._batcher, self._table
        busy = batcher is not None and batcher.busy
        if self._postponed and table is not None and (table.ready or not busy):
            postponed, self._postponed = self._postponed, []
            yield from postponed
        elif not busy:
            yield self._connection.inbox.get()
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._connection.inbox.get_nowait()

    @property
    def model(self) -> Llama:
        if self._llama is None:
            raise ModelBroken("no model is loaded")
        return self._llama

    def load(self, call: Call) -> dict[str, Any]:
        """{path, context_length, batch_size, threads, mode} and, if wanted, {cells, slots, kv_type, adapters: {name: path}, digest,
        snapshots: {directory, bytes}} -> {context_length, cells, n_vocab, threads, load_seconds}."""
        started = time.monotonic()
        p = dict(call.params)
        path, digest, snapshots = p.pop("path"), p.pop("digest", ""), p.pop("snapshots", None)
        runtime = Runtime(**p)
        model = self._llama = Llama(path, runtime)
        self._imports.join()
        vocabulary = model.vocabulary
        template = ChatTemplate(
            model.chat_template(),
            bos=vocabulary.special_text("bos"),
            eos=vocabulary.special_text("eos"),
            specials=vocabulary.controls,
        )
        self._table = Table(vocabulary)
        self._prompter = Prompter(vocabulary, template, model.context_length - 1)
        kept = None
        if snapshots is not None:
            kept = Snapshots(Path(snapshots["directory"]), snapshots["bytes"], _basis(digest or path, runtime))
            self._connection.on_hangup = partial(kept.finish, _LAST_SECONDS)
        self._batcher = Batcher(model, kept)
        self._connection.on_cancel = self._batcher.poke
        return {
            "context_length": model.context_length,
            "cells": model.cells,
            "n_vocab": vocabulary.size,
            "threads": model.threads,
            "load_seconds": time.monotonic() - started,
        }

    def prove(self, call: Call) -> dict[str, Any]:
        """A real batch and some decoding; a faulty kernel kills the process here. Raises `ModelBroken` on logits not finite."""
        import numpy as np

        model, size = self.model, self.model.vocabulary.size
        started = time.monotonic()
        count = min(_PROOF_TOKENS, model.context_length - _PROOF_STEPS, model.batch_size)
        rows = [Row((7 * i + 1) % size, i, 0, i == count - 1) for i in range(count)]
        for _ in range(_PROOF_STEPS):
            model.decode(rows)
            logits = model.logits(len(rows) - 1)
            if not np.isfinite(logits).all():
                raise ModelBroken("the model computes numbers that are not finite")
            rows = [Row(int(logits.argmax()), rows[-1].position + 1, 0, True)]
        model.cut(0, 0)
        return {"seconds": time.monotonic() - started}

    def ping(self, call: Call) -> None:
        """Nothing: the answer is that it was reached."""

    def generate(self, call: Call) -> Any:
        """See `engine/resident` for the parameters. Streams {"text"}; the result is that of `Generation.result`."""
        p, model, batcher, table = call.params, self.model, self._batcher, self._table
        assert batcher is not None
        assert table is not None
        if p["grammar"] is not None and not table.ready and batcher.busy:
            table.begin()
            self._postponed.append(call)
            return LATER
        ask, dropped = self._ask(p)
        how = Sampling(**p.get("sampling", {}))
        sampler = Sampler(how, self._guide(p))

        def finish(outcome: dict[str, Any] | EdgedError) -> None:
            if isinstance(outcome, dict):
                outcome["dropped_messages"] = dropped
            self._connection.end(call, outcome)

        generation = Generation(
            0,
            ask,
            sampler,
            Speech(how.stop),
            model.vocabulary,
            cancelled=call.cancelled.is_set,
            on_text=lambda text: call.chunk({"text": text}),
            finish=finish,
            lookup=Lookup() if p.get("speculate", True) else None,
        )
        if generation.lookup is not None:
            generation.lookup.feed(ask.prompt)
        batcher.add(generation)
        return LATER

    def _ask(self, p: dict[str, Any]) -> tuple[Ask, int]:
        model, prompter = self.model, self._prompter
        assert prompter is not None
        messages, tools, agent = p["messages"], p["tools"], p.get("agent", "")
        lane = p.get("adapter")
        if lane is not None and lane not in model.adapters:
            raise BadRequest(f"the model has no adapter {lane!r}", adapters=sorted(model.adapters))
        heading = p.get("fixed", 0)
        tokens, dropped = prompter.fitted(messages, tools, heading, p.get("overflow", "error"))
        fixed = prompter.fixed(tokens, messages[:heading], tools) if agent and (heading or tools) else 0
        deadline = p["deadline_monotonic"]
        return Ask(
            tokens,
            p["max_tokens"],
            rank=p.get("rank", 1),
            deadline=float("inf") if deadline is None else deadline,
            agent=agent,
            fixed=min(fixed, len(tokens) - 1),
            lane=lane,
        ), dropped

    def _guide(self, p: dict[str, Any]) -> Guide | None:
        if p["grammar"] is None:
            return None
        assert self._table is not None
        vocabulary = self.model.vocabulary
        return Guide(compiled(p["grammar"], vocabulary), self._table, vocabulary, p.get("triggers", ()))


def _basis(digest: str, runtime: Runtime) -> str:
    """What a computed prefix depends on besides its tokens. `digest` names the file and the library's version."""
    files = {name: Path(path).stat() for name, path in runtime.adapters.items()}
    stamps = {name: [runtime.adapters[name], file.st_size, file.st_mtime_ns] for name, file in files.items()}
    how = {"kv": runtime.kv_type, "mode": runtime.mode, "adapters": stamps, "cells": runtime.cells}
    return json.dumps([digest, how], sort_keys=True)


def _import_ahead() -> None:
    with contextlib.suppress(ImportError, EdgedError):
        for name in ("numpy", "jinja2.sandbox", "llguidance"):
            importlib.import_module(name)


def main() -> None:
    connection, _ = arguments()
    imports = threading.Thread(target=_import_ahead, name="imports", daemon=True)
    imports.start()
    try:
        Backend(connection, imports).serve()
    except Exception as error:  # the state of native code is not to be trusted: the daemon starts another process
        if wall.looks_like_it(error):
            wall.fell()
        traceback.print_exc()
    os._exit(70)


if __name__ == "__main__":
    main()
