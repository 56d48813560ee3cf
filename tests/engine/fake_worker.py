"""A scripted model worker: the real child loop, a pretended model.

The text of the last message says what generate does: "ok", "crash", "hang" (deaf to cancels), "slow" (until cancelled),
"bug", "refuse", "deadline", "greedy" (takes memory until it gets no more), "oom" (ends as the kernel would end it, and writes
to MODEL.kills), "gate PATH" (until somebody opens that FIFO). A sidecar MODEL.json says what load and prove do
in each mode. What was done is appended to MODEL.log.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import threading
from pathlib import Path
from typing import Any

from edged.domain.errors import BadRequest, Cancelled
from edged.workers.serve import Call, arguments, serve


class Script:
    def __init__(self) -> None:
        self.path = Path()
        self.mode = ""

    def _act(self, verb: str) -> None:
        with self.path.with_suffix(".log").open("a") as log:
            log.write(f"{verb} {self.mode}\n")
        sidecar = self.path.with_suffix(".json")
        script = json.loads(sidecar.read_text()) if sidecar.exists() else {}
        what = script.get(verb, {})
        what = what if isinstance(what, str) else what.get(self.mode, "ok")
        self.oom() if what == "oom" else act(what, None)

    def oom(self) -> None:
        with self.path.with_suffix(".kills").open("a") as kills:
            kills.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    def load(self, call: Call) -> dict[str, Any]:
        self.path, self.mode = Path(call.params["path"]), call.params["mode"]
        self._act("load")
        return {}

    def prove(self, call: Call) -> None:
        self._act("prove")

    def generate(self, call: Call) -> dict[str, Any]:
        text = call.params["messages"][-1]["content"]
        call.chunk({"text": "a"})
        self.oom() if text == "oom" else act(text, call)
        call.chunk({"text": "b"})
        return {
            "text": f"ab {text}",
            "finish_reason": "stop",
            "prompt_tokens": 3,
            "cached_tokens": 1,
            "completion_tokens": 2,
            "prefill_seconds": 0.25,
            "decode_seconds": 0.5,
        }


def act(what: str, call: Call | None) -> None:
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "hang":
        threading.Event().wait()
    elif what == "greedy":
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # never touched: asked for is what counts
        taken = [mmap.mmap(-1, 32 << 20, flags=kind) for _ in range(128)]
        raise RuntimeError(f"nothing stopped it at {sum(map(len, taken))}")
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "bug":
        raise RuntimeError("a bug")
    elif what == "refuse":
        raise BadRequest("no", tokens=9, limit=8)
    elif what.startswith("gate "):
        with Path(what[5:]).open() as gate:
            gate.read()
    elif what == "slow" and call is not None:
        call.cancelled.wait()
        raise Cancelled("cancelled")


def main() -> None:
    connection, _ = arguments()
    script = Script()
    serve(
        connection,
        {"load": script.load, "prove": script.prove, "generate": script.generate, "ping": lambda call: None},
    )


if __name__ == "__main__":
    main()
