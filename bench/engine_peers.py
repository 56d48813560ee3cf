"""The peers of the engine bench: llama.cpp's own programs, from the sdist of the installed llama-cpp-python, and that one's server.

They are configured from the sdist's top folder, so that every option of the library is what it is in the installed build. The
server of llama-cpp-python is the installed one; what it needs besides is kept in a folder of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.engine_ask import OnPiece, Stream, ask_openai
from bench.engine_model import CACHE, VERSION, Agent, Model, llama_cpp_python, run_logged
from bench.process import free_port

__all__ = ["LlamaServer", "PythonServer", "build", "llama_batched_bench", "llama_bench"]

_PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-server")
# The library's are those of scripts/setup.sh. No page of the server's is fetched or built; nothing is asked over TLS.
_OPTIONS = (
    "CMAKE_BUILD_TYPE=Release",
    "LLAVA_BUILD=OFF",
    "LLAMA_BUILD_TOOLS=ON",
    "LLAMA_BUILD_SERVER=ON",
    "LLAMA_BUILD_EXAMPLES=OFF",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_UI=OFF",
    "LLAMA_USE_PREBUILT_UI=OFF",
    "LLAMA_OPENSSL=OFF",
    # or they would be those of the repository around the tree, and each commit would build everything anew
    "LLAMA_BUILD_NUMBER=0",
    "LLAMA_BUILD_COMMIT=sdist",
)
_READY_SECONDS = 120.0
_BENCH_SECONDS = 900.0
_POLL = 0.005
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@functools.cache
def build() -> Path:
    """The folder with the peers' programs; built once, which takes some minutes."""
    source, target = llama_cpp_python(), CACHE / f"build-{VERSION}"
    programs = target / "bin"
    if not all((programs / name).exists() for name in _PROGRAMS):
        # The sdist's CMake files name the folder that scikit-build installs to; nothing is installed here.
        options = [f"-D{option}" for option in (*_OPTIONS, f"SKBUILD_PLATLIB_DIR={target / 'unused'}")]
        configure = ["cmake", "-S", str(source), "-B", str(target), "-Wno-dev", *options]
        run_logged(configure, CACHE / "configure.log", "configuring llama.cpp's programs")
        compile_ = ["cmake", "--build", str(target), "-j", str(os.cpu_count()), "--target", *_PROGRAMS]
        run_logged(compile_, CACHE / "build.log", "building llama.cpp's programs")
    return programs


@functools.cache
def _server_packages() -> Path:
    """A folder with what `python -m llama_cpp.server` imports besides the package itself, as its sdist names it."""
    folder = CACHE / f"server-{VERSION}"
    if not folder.exists():
        facts = tomllib.loads((llama_cpp_python() / "pyproject.toml").read_text())
        wanted = facts["project"]["optional-dependencies"]["server"]
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        unfinished = folder.with_suffix(".unfinished")
        run_logged([*pip, "--target", str(unfinished), *wanted], CACHE / "server.log", "what llama_cpp.server needs")
        unfinished.rename(folder)
    return folder


def llama_bench(model: Model, depth: int, tokens: int, threads: int) -> float:
    """Decode tokens a second of one sequence that has `depth` tokens before."""
    counts = ["-p", "0", "-n", str(tokens), "-d", str(depth), "-r", "1", "-t", str(threads)]
    out = _output([str(build() / "llama-bench"), "-m", str(model.path), *counts, "-o", "json"])
    return float(json.loads(out)[0]["avg_ts"])


def llama_batched_bench(model: Model, prompt: int, tokens: int, sequences: int, threads: int) -> float:
    """Decode tokens a second of `sequences` together, each with `tokens` of its own after a shared prompt."""
    counts = ["-npp", str(prompt), "-ntg", str(tokens), "-npl", str(sequences), "-t", str(threads)]
    shared = ["-pps", "-kvu", "-c", "4096", "--output-format", "jsonl"]
    out = _output([str(build() / "llama-batched-bench"), "-m", str(model.path), *counts, *shared])
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return float(rows[0]["speed_tg"])


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=_BENCH_SECONDS,
        check=False,
        preexec_fn=_die_with_us,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-1000:]}")
    return done.stdout.decode(errors="replace")


def _die_with_us() -> None:
    """In the child, before exec: the kernel ends it when the bench ends, however that happens."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _Server:
    """A server on a free loopback port, from exec to its model being loaded. A context manager; `began` is the moment of exec."""

    def __init__(
        self, command: Sequence[str], ready_path: str, log: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.began = 0.0
        self._command = [*command, "--host", "127.0.0.1", "--port", str(self.port)]
        self._ready_path = ready_path
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                preexec_fn=_die_with_us,
            )
        try:
            self._wait_ready(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Ask every few milliseconds: these servers tell nobody when they are ready."""
        ended = os.pidfd_open(process.pid)
        try:
            while time.monotonic() < self.began + _READY_SECONDS:
                if self._is_ready():
                    return
                if select.select([ended], [], [], _POLL)[0]:
                    break
        finally:
            os.close(ended)
        tail = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self._command[0]} did not become ready:\n{tail}")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == 200
        return False

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LlamaServer(_Server):
    """llama.cpp's server. `options` are added to its defaults."""

    def __init__(self, model: Model, threads: int, folder: Path, options: Sequence[str] = ()) -> None:
        count = str(threads)
        command = [str(build() / "llama-server"), "-m", str(model.path), "-t", count, "-tb", count, *options]
        super().__init__(command, "/health", folder / "llama-server.log")

    def ask(self, agent: Agent, text: str, on_piece: OnPiece | None = None) -> Stream:
        return ask_openai(self.port, agent, text, on_piece)


class PythonServer(_Server):
    """llama-cpp-python's server with its defaults, but that a new request does not break off the one before it."""

    def __init__(self, model: Model, threads: int, folder: Path) -> None:
        count = str(threads)
        counts = ["--n_threads", count, "--n_threads_batch", count]
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model.path), *counts]
        environment = {**os.environ, "PYTHONPATH": str(_server_packages())}
        super().__init__(
            [*command, "--interrupt_requests", "false"], "/v1/models", folder / "llama_cpp.log", environment
        )

    def ask(self, agent: Agent, text: str, on_piece: OnPiece | None = None) -> Stream:
        """Not streamed: only so does this server count its tokens, and it is not slower. There is one piece, at the end."""
        body = {"messages": agent.messages(text), "max_tokens": agent.max_tokens, "temperature": 0}
        stream = Stream(time.monotonic())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_BENCH_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"llama_cpp.server: status {response.status}: {str(answer)[:500]}")
        stream.prompt, stream.tokens = answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]
        stream.heard(answer["choices"][0]["message"]["content"] or "", on_piece)
        return stream
