"""Computed prefixes on disk, so that a restart does not compute an agent's prompt again.

A file is named by what its content depends on: the model's digest, how it is run, and the tokens. It is written whole
or not at all (temporary name, fsync, rename), verified before llama.cpp sees a byte of it, and the files together
stay below a bound: the one that was not used for longest goes. Whatever is wrong with a file only means that its
prefix is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import struct
import sys
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Snapshots"]

_MAGIC = b"edged-kv"
_HEADER = struct.Struct("<8s32sII")  # magic, sha256 of what follows it, tokens, reserved
_SUFFIX = ".kv"


class Snapshots:
    """Files in `directory`, at most `limit` bytes together. `basis` is all that a state depends on besides its tokens."""

    def __init__(self, directory: Path, limit: int, basis: str) -> None:
        self._directory = directory
        self._limit = limit
        self._basis = basis
        self._writing: queue.SimpleQueue[tuple[Path, bytes, bytes] | threading.Event] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        with contextlib.suppress(OSError):
            for unfinished in directory.glob(f"*{_SUFFIX}.tmp"):
                unfinished.unlink()

    def _path(self, tokens: Sequence[int], lane: str | None) -> Path:
        name = hashlib.sha256(f"{self._basis}\0{lane or ''}\0".encode() + array("i", tokens).tobytes()).hexdigest()
        return self._directory / f"{name[:40]}{_SUFFIX}"

    def load(self, tokens: Sequence[int], lane: str | None) -> bytes | None:
        """The state of exactly these tokens, or None."""
        path = self._path(tokens, lane)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        state = _verified(data, tokens)
        with contextlib.suppress(OSError):
            if state is None:
                sys.stderr.write(f"the snapshot {path.name} is damaged; it is computed again\n")
                path.unlink()
            else:
                os.utime(path)  # when it was last of use
        return state

    def has(self, tokens: Sequence[int], lane: str | None) -> bool:
        return os.path.exists(self._path(tokens, lane))  # noqa: PTH110  (Path.exists raises for some errors)

    def discard(self, tokens: Sequence[int], lane: str | None) -> None:
        """llama.cpp does not take it."""
        with contextlib.suppress(OSError):
            self._path(tokens, lane).unlink()

    def save(self, tokens: Sequence[int], lane: str | None, state: bytes) -> None:
        """Write it on another thread: an fsync may take longer than a step."""
        if _HEADER.size + 4 * len(tokens) + len(state) > self._limit:
            return
        self._writing.put((self._path(tokens, lane), array("i", tokens).tobytes(), state))
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_forever, name="snapshots", daemon=True)
            self._writer.start()

    def finish(self, seconds: float) -> None:
        """Wait until what is to be written is written, but not for ever."""
        if self._writer is not None:
            done = threading.Event()
            self._writing.put(done)
            done.wait(seconds)

    def _write_forever(self) -> None:
        while True:
            job = self._writing.get()
            if isinstance(job, threading.Event):
                job.set()
                continue
            path, tokens, state = job
            try:
                self._write(path, tokens, state)
            except OSError as error:  # a full disk: nothing is lost but time after the next restart
                sys.stderr.write(f"cannot save the snapshot {path.name}: {error.strerror}\n")

    def _write(self, path: Path, tokens: bytes, state: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._bound(_HEADER.size + len(tokens) + len(state))
        rest = struct.pack("<II", len(tokens) // 4, 0) + tokens
        digest = hashlib.sha256(rest)
        digest.update(state)
        temporary = path.with_suffix(f"{_SUFFIX}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_MAGIC + digest.digest() + rest)
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _bound(self, coming: int) -> None:
        """Delete what was not used for longest until `coming` bytes fit."""
        known = [(path, path.stat()) for path in self._directory.glob(f"*{_SUFFIX}")]
        total = coming + sum(status.st_size for _, status in known)
        for path, status in sorted(known, key=lambda one: one[1].st_mtime_ns):
            if total <= self._limit:
                break
            path.unlink(missing_ok=True)
            total -= status.st_size


def _verified(data: bytes, tokens: Sequence[int]) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    magic, digest, count, _ = _HEADER.unpack_from(data)
    view = memoryview(data)
    if magic != _MAGIC or count != len(tokens) or hashlib.sha256(view[len(_MAGIC) + 32 :]).digest() != digest:
        return None
    at = _HEADER.size + 4 * count
    if view[_HEADER.size : at] != array("i", tokens).tobytes():
        return None
    return bytes(view[at:])
