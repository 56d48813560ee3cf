"""A model file that is still being made: NAME.part beside its later name, held by a lock, hashed while it is written.

What survives is known, not hoped: the record NAME.part.json says what the bytes are of, how many of them reached the disk and
under which boot. After a power cut only those count; after a SIGKILL all do, for the kernel still had them. A part without a
record is rubbish of a copy that was cut off, and is begun anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edged.domain.errors import Busy, ConfigError, DiskFull, NameTaken
from edged.engine.notes import Note, sync_folder, write_json, write_note

__all__ = ["Origin", "Part", "part_of", "require", "require_free", "staged", "staged_folder", "writing"]

_SPARE = 32 << 20  # bytes that are left to everybody else on that disk
_SYNC_EVERY = 64 << 20
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part's bytes are of. `length` is of the whole; `etag` and `modified` are as the server sent them, or empty."""

    url: str
    length: int | None = None
    etag: str = ""
    modified: str = ""

    @property
    def validator(self) -> str:
        """For If-Range: only a strong one tells that bytes of two answers belong together."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Part:
    """Made by `staged`. Every method that writes raises `DiskFull` or `ConfigError`, never a bare OSError."""

    def __init__(self, target: Path, stream: io.FileIO) -> None:
        self.target = target
        self.path = part_of(target)
        self._stream = stream
        self._hash = hashlib.sha256()
        self._synced = 0
        self.origin: Origin | None = None  # what the bytes are of, once `resume` or `restart` was called
        self.size = os.fstat(stream.fileno()).st_size

    def resume(self) -> Origin | None:
        """What the bytes that are there are of, and they are hashed; None, and it is empty, where that is not known."""
        try:
            told = json.loads(self._record.read_text())
            origin = Origin(**told["origin"])
            kept = self.size if told["boot"] == _boot() else min(self.size, int(told["synced"]))
        except (OSError, ValueError, KeyError, TypeError):
            self.restart(None)
            return None
        self._cut(kept)
        self.origin, self._synced = origin, min(kept, int(told["synced"]))
        self._stream.seek(0)
        while data := self._stream.read(_CHUNK):
            self._hash.update(data)
        return origin

    def restart(self, origin: Origin | None) -> None:
        """Nothing of what was there counts; with `origin` what comes may be resumed."""
        with writing(self.path):
            self._record.unlink(missing_ok=True)
        self._cut(0)
        self._hash, self._synced, self.origin = hashlib.sha256(), 0, origin
        self._write_record()

    def write(self, data: bytes) -> None:
        with writing(self.path):
            left = memoryview(data)
            while left:
                left = left[self._stream.write(left) :]
        self._hash.update(data)
        self.size += len(data)
        if self.size - self._synced >= _SYNC_EVERY:
            self.keep()

    def keep(self) -> None:
        """Make what is there outlast a power cut."""
        with writing(self.path):
            os.fsync(self._stream.fileno())
        self._synced = self.size
        self._write_record()

    @property
    def digest(self) -> str:
        """sha256 of what is there, in hex."""
        return self._hash.hexdigest()

    def finish(self, note: Note) -> None:
        """Give it its name. It must be known to be good by now. Raises `NameTaken`."""
        require_free(self.target)
        with writing(self.path):
            os.fchmod(self._stream.fileno(), 0o644)
            os.fsync(self._stream.fileno())
            write_note(self.target, note)
            self.path.replace(self.target)
            self._record.unlink(missing_ok=True)
            sync_folder(self.target.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def _write_record(self) -> None:
        if self.origin is not None:
            with writing(self.path):
                write_json(self._record, {"origin": asdict(self.origin), "boot": _boot(), "synced": self._synced})

    def _cut(self, size: int) -> None:
        with writing(self.path):
            self._stream.truncate(size)
            self._stream.seek(size)
        self.size = size


def require(folder: Path, size: int) -> None:
    """Room for `size` more bytes in `folder`, and some for everybody else. Raises `DiskFull`."""
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if size + _SPARE > free:
        need, have = f"{(size + _SPARE) / (1 << 20):.0f} MiB", f"{free / (1 << 20):.0f} MiB"
        raise DiskFull(f"{folder}: {need} are needed and {have} are free; make room, or set device.models_dir")


def require_free(target: Path) -> None:
    """Whoever gives `target` its name holds its part, so this is still so a moment later. Raises `NameTaken`."""
    if target.exists():
        raise NameTaken(f"{target} is there; give another --name, or first: edged models rm {target.name}")


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Part]:
    """The part of `target`, made where there is none, held until the end. Raises `Busy`, `ConfigError`, `DiskFull`."""
    path = part_of(target)
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        stream = _locked(path)
    with stream:
        yield Part(target, stream)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What can go wrong on our own disk, in the words of whoever must act."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"{path.parent}: {error.strerror}; make room, or set device.models_dir") from error
        detail = f"{path}: {error.strerror}; run this as a user that may write there, or set device.models_dir"
        raise ConfigError(detail, key="device.models_dir", expected="a folder that this user may write") from error


@contextlib.contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """The same for a folder: an empty one, which is gone again unless it was given its name. Raises as `staged` does."""
    path = part_of(target)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        if not _held(fd, path):
            raise Busy(f"another edged was at work on {path.name}; try again")
        stack.callback(lambda: shutil.rmtree(path, ignore_errors=True) if _same(fd, path) else None)
        with writing(path):
            for left in path.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield path


def _locked(path: Path) -> io.FileIO:
    """Open and ours. Whoever held it before may have given it its name or removed it in between: then again."""
    while True:
        stream = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644), "r+")
        try:
            if _held(stream.fileno(), path):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _held(fd: int, path: Path) -> bool:
    """Is it ours now? False where it is not that file any more. Raises `Busy`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"another edged is at work on {path.name}; wait for it to end, or end it") from None
    return _same(fd, path)


def _same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:  # no /proc: then no two boots are the same
        return f"pid {os.getpid()}"
