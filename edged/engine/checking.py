"""Is it a model that edged serves, and is it still what it was? Of files and of encoders' folders, wherever they lie. Blocking."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from edged.domain.errors import DigestMismatch, EdgedError, LengthMismatch, ModelBroken, NotAModel
from edged.domain.resources import ModelSpec
from edged.engine.catalog import ModelFacts, check_tensors, describe, need
from edged.engine.encoders import describe_encoder, need_of_encoder
from edged.engine.notes import read_note

__all__ = ["check", "check_name", "digest_of", "faults", "look", "need_of", "proposed", "spec_name"]

_CHUNK = 1 << 20
_CONTEXT = 4096  # what a device has memory for, rather than what a model was trained with
_SHORTEST, _LONGEST_NAME = 64, 64  # as the configuration has it
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
Read = Callable[[int], None]


def look(path: Path) -> ModelFacts:
    """What it says of itself; a file's digest is left empty. Raises `ModelBroken`."""
    return describe_encoder(str(path)) if path.is_dir() else describe(str(path), digest="")


def check(path: Path) -> ModelFacts:
    """The same, of what can be served. Raises `NotAModel`, `ModelBroken`."""
    if path.is_dir():
        if not (path / "encoder.onnx").exists():
            raise NotAModel(f"{path} is no encoder: there is no encoder.onnx in it; a language model is one GGUF file")
        return describe_encoder(str(path))
    check_name(path.name)
    check_tensors(str(path))
    return describe(str(path), digest="")


def check_name(file: str) -> None:
    """Raises `NotAModel` for what is told by its name alone, before gigabytes of it are fetched."""
    if _SPLIT.search(file):
        raise NotAModel(f"{file} is one of several files of a model; edged serves models of one file: join them")


def faults(path: Path, read: Read = lambda size: None) -> Iterator[EdgedError]:
    """What is wrong with it; nothing where all is well. `read` gets the bytes of each piece that was read."""
    try:
        check(path)
    except (ModelBroken, NotAModel) as error:
        yield error
    try:
        note = read_note(path)
        for name, (digest, size) in (note.files if note else {}).items():
            file = path / name if path.is_dir() else path
            yield from _changed(file, digest, size, read)
    except ModelBroken as error:
        yield error


def _changed(file: Path, digest: str, size: int, read: Read) -> Iterator[EdgedError]:
    try:
        have = file.stat().st_size
    except OSError as error:
        yield ModelBroken(f"cannot read {file.name}: {error.strerror}; add it again", path=str(file))
        return
    if have != size:
        yield LengthMismatch(f"{file.name} has {have} bytes, and had {size} when it was added; add it again")
    elif (found := digest_of(file, read)) != digest:
        yield DigestMismatch(f"{file.name} is sha256 {found}, and was {digest} when it was added; add it again")


def digest_of(file: Path, read: Read = lambda size: None) -> str:
    """sha256 in hex. Raises `ModelBroken`."""
    made = hashlib.sha256()
    try:
        with file.open("rb", buffering=0) as stream:
            while data := stream.read(_CHUNK):
                made.update(data)
                read(len(data))
    except OSError as error:
        raise ModelBroken(f"cannot read {file.name}: {error.strerror}; is its disk failing?", path=str(file)) from error
    return made.hexdigest()


def need_of(facts: ModelFacts, spec: ModelSpec) -> int:
    """Bytes that it holds when resident and run as `spec` says."""
    return need_of_encoder(facts) if spec.kind == "encoder" else need(facts, spec).total


def proposed(name: str, path: Path, facts: ModelFacts) -> ModelSpec:
    """How to run what nobody has configured yet."""
    if facts.architecture == "encoder":
        return ModelSpec(name, str(path), "encoder")
    return ModelSpec(name, str(path), context_length=max(_SHORTEST, min(facts.context_length or 1024, _CONTEXT)))


def spec_name(text: str) -> str:
    """A name that the configuration takes, made of a file's."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).lstrip("_.-")
    return plain[:_LONGEST_NAME].rstrip("_.-") or "model"
