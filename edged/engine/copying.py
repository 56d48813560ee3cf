"""Putting a model on the shelf from another place on this machine: a memory stick, a folder of a build.

The rule: a source can go away at any byte. What stands under a model's name is whole and on disk; else nothing is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from edged.domain.errors import ModelBroken
from edged.engine.encoders import PARTS
from edged.engine.notes import Note, sync_folder, write_note
from edged.engine.parts import require, require_free, staged, staged_folder, writing

__all__ = ["Tick", "copy_file", "copy_folder", "now"]

_CHUNK = 1 << 20
Tick = Callable[[int, int], None]  # bytes done, bytes in all


def copy_file(source: Path, target: Path, tick: Tick) -> None:
    """`target` gets the bytes of `source`, and a note. Raises `ModelBroken` where the source fails, and as `Part` does."""
    with staged(target) as part:
        try:
            part.restart(None)
            whole = _size(source)
            require(target.parent, whole)
            for data in _read(source, whole):
                part.write(data)
                tick(part.size, whole)
            part.finish(Note(str(source), now(), {source.name: (part.digest, part.size)}))
        except BaseException:
            part.discard()
            raise


def copy_folder(source: Path, target: Path, tick: Tick) -> None:
    """The same for the files of an encoder."""
    files = {name: _size(source / name) for name in PARTS if (source / name).exists()}
    whole, done, noted = sum(files.values()), 0, {}
    with staged_folder(target) as stage:
        require(stage, whole)
        for name, size in files.items():
            noted[name] = (_copy(source / name, stage / name, size), size)
            done += size
            tick(done, whole)
        require_free(target)
        with writing(target):
            sync_folder(stage)
            write_note(target, Note(str(source), now(), noted))
            stage.replace(target)
            sync_folder(target.parent)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _copy(source: Path, target: Path, size: int) -> str:
    """sha256 of what was copied, in hex."""
    made = hashlib.sha256()
    with writing(target), target.open("wb") as stream:
        for data in _read(source, size):
            stream.write(data)
            made.update(data)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    return made.hexdigest()


def _read(source: Path, size: int) -> Iterator[bytes]:
    """All of it, or `ModelBroken`: what grows or shrinks meanwhile is not what was checked."""
    left = size
    with _reading(source), source.open("rb", buffering=0) as stream:
        while data := stream.read(_CHUNK):
            left -= len(data)
            yield data
    if left:
        raise ModelBroken(f"{source.name} has changed while it was read; is it still being written?", path=str(source))


def _size(source: Path) -> int:
    with _reading(source):
        return source.stat().st_size


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        detail = f"cannot read {source}: {error.strerror}; nothing was added. Is its disk still there?"
        raise ModelBroken(detail, path=str(source)) from error
