"""What was noted of a model when it was put on the shelf: a small JSON file beside it, NAME.gguf.json for NAME.gguf.

A note is written whole or not at all, and before the model gets its name: there may be a note without a model, which says
nothing, but no model of ours without its note.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.domain.errors import ModelBroken

__all__ = ["Note", "forget", "read_note", "sync_folder", "write_json", "write_note"]

_VERSION = 1
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Note:
    """`files` are (sha256 in hex, bytes) by name; `source` is where it came from; `added` is UTC, ISO 8601."""

    source: str
    added: str
    files: Mapping[str, tuple[str, int]]


def _beside(model: Path) -> Path:
    return model.with_name(model.name + ".json")


def read_note(model: Path) -> Note | None:
    """None where there is none. Raises `ModelBroken` for one that cannot be read."""
    file = _beside(model)
    try:
        with file.open("rb") as stream:
            told = json.loads(stream.read(_LONGEST))
        files = {str(name): (str(digest), int(size)) for name, (digest, size) in told["files"].items()}
        return Note(str(told["source"]), str(told["added"]), files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        detail = f"the note {file.name} cannot be read ({error!r:.80}); remove the model and add it again"
        raise ModelBroken(detail, path=str(model)) from error


def write_note(model: Path, note: Note) -> None:
    """Raises OSError."""
    write_json(_beside(model), {"version": _VERSION, "source": note.source, "added": note.added, "files": note.files})


def forget(model: Path) -> None:
    _beside(model).unlink(missing_ok=True)


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all, whenever the power goes. Raises OSError."""
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with temporary.open("w") as stream:
            json.dump(value, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """A new name lasts only once its folder is on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
