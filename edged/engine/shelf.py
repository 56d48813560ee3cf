"""The models folder: what lies there, what may be put there, taking something away.

NAME.gguf is a language model, the folder NAME an encoder; each has a note beside it (`engine/notes`) and, while it is made, a
part (`engine/parts`). Blocking, for commands: the daemon serves what its configuration names, wherever that lies.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from edged.domain.errors import BadRequest, Busy, ConfigError, ModelBroken, NotFound
from edged.engine.catalog import ModelFacts
from edged.engine.checking import look
from edged.engine.notes import forget, read_note
from edged.engine.parts import part_of, require_free, staged, staged_folder, writing

__all__ = ["Entry", "Shelf", "base_of"]

_SUFFIX, _PART = ".gguf", ".part"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# what names of files and models say of their weights, at the end
_WEIGHTS = re.compile(r"[-_. ]+(i?q\d\w*|f16|f32|bf16|fp16|int[48]|gguf)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the folder. Where it cannot be read `facts` are None and `fault` says why. `digest` is as noted, or empty."""

    name: str
    path: Path
    facts: ModelFacts | None
    digest: str
    fault: str = ""


class Shelf:
    """`folder` need not exist. Everything raises errors of `domain/errors`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Variants of one model stand together, the smallest first; what cannot be read stands last."""
        return sorted(map(_entry, self._models()), key=_order)

    def parts(self) -> list[Path]:
        """What is being made now, or was when a command was cut off."""
        return [path for path in self._all() if path.name.endswith(_PART)]

    def find(self, name: str) -> Path:
        """The model of that name. Raises `NotFound`."""
        for path in self._places(name):
            if path.exists():
                return path
        there = ", ".join(_name(path) for path in self._models()) or "none"
        raise NotFound(f"there is no model {name} in {self.folder}; there are: {there}")

    def place(self, name: str, *, folder: bool = False) -> Path:
        """Where a model of that name belongs. Raises `NameTaken` where there is one."""
        file, encoder = self._places(name)
        for path in (file, encoder):
            require_free(path)
        return encoder if folder else file

    def remove(self, name: str) -> list[Path]:
        """Take it away with its note and what is left of a download of it; what was there. Raises `NotFound`, `Busy`."""
        places = self._places(name)
        removed = [path for place in places for path in (place, part_of(place)) if path.exists()]
        if not removed:
            self.find(name)
        for place in places:
            if place.exists() or part_of(place).exists():
                _remove(place)
        return removed

    def sweep(self) -> None:
        """Remove what a copy that was cut off has left behind. A download that can be resumed stays."""
        for path in self.parts():
            place = path.with_name(path.name.removesuffix(_PART))
            if path.is_dir() or not path.with_name(path.name + ".json").exists():
                with contextlib.suppress(Busy):
                    _remove(place, keep=True)

    def _all(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            detail = (
                f"cannot read {self.folder}: {error.strerror}; run this as the daemon's user, or set device.models_dir"
            )
            raise ConfigError(detail, key="device.models_dir", expected="a folder that this user may read") from error

    def _models(self) -> list[Path]:
        return [path for path in self._all() if _is_model(path)]

    def _places(self, name: str) -> tuple[Path, Path]:
        stem = name.removesuffix(_SUFFIX)
        if not _NAME.fullmatch(stem) or stem.endswith((_PART, ".json")):
            raise BadRequest(f"{name[:80]!r} is no name of a model; give letters, digits, hyphens, up to 64 of them")
        return self.folder / f"{stem}{_SUFFIX}", self.folder / stem


def base_of(facts: ModelFacts) -> str:
    """What variants of one model have in common, for people."""
    name = facts.name
    while (shorter := _WEIGHTS.sub("", name)) != name:
        name = shorter
    size = f"{facts.n_layer} layers, {facts.n_embd} wide" if facts.n_layer else f"{facts.n_embd} wide"
    return f"{name} ({facts.architecture}, {size})"


def _order(entry: Entry) -> tuple[bool, str, int, str]:
    if entry.facts is None:
        return True, "", 0, entry.name
    return False, base_of(entry.facts).lower(), entry.facts.file_bytes, entry.name


def _entry(path: Path) -> Entry:
    try:
        facts = look(path)
        note = read_note(path)
    except ModelBroken as error:
        return Entry(_name(path), path, None, "", error.detail)
    digest = facts.digest or next((digest for digest, _ in note.files.values()), "") if note else facts.digest
    return Entry(_name(path), path, facts, digest)


def _is_model(path: Path) -> bool:
    if path.name.endswith(_PART) or path.name.startswith("."):
        return False
    return (path / "encoder.onnx").exists() if path.is_dir() else path.name.endswith(_SUFFIX)


def _name(path: Path) -> str:
    return path.name.removesuffix(_SUFFIX)


def _remove(place: Path, *, keep: bool = False) -> None:
    """The part of `place`, and unless it is to be kept what has that name already. Nobody else may be at work on it."""
    if place.is_dir() or part_of(place).is_dir():
        with staged_folder(place) as stage, writing(place):
            if place.is_dir() and not keep:
                place.replace(stage / place.name)
                forget(place)
        return
    with staged(place) as part, writing(place):
        if not keep:
            place.unlink(missing_ok=True)
            forget(place)
        part.discard()
