"""The models folder: sources that go away in the middle, kills, two commands at once, and which models belong together."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from workers.tiny_gguf import write

from edged.domain.errors import BadRequest, Busy, DigestMismatch, ModelBroken, NameTaken, NotFound
from edged.engine.checking import faults, need_of, proposed, spec_name
from edged.engine.copying import copy_file, copy_folder
from edged.engine.notes import read_note
from edged.engine.parts import Origin, part_of, staged, staged_folder
from edged.engine.shelf import Shelf, base_of

from .gguf_header import write as header
from .test_encoders import encoder

TESTS = Path(__file__).parents[1]


def quiet(done: int, whole: int) -> None: ...


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source.gguf")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "state" / "models")


# copying


def test_a_source_that_shrinks_or_grows_leaves_nothing(shelf: Shelf, source: Path) -> None:
    size = 3 << 20
    for other in (size // 2, size + 1):
        source.write_bytes(bytes(size))
        with pytest.raises(ModelBroken, match="still being written"):
            copy_file(source, shelf.place("a"), lambda done, whole, other=other: os.truncate(source, other))  # type: ignore[misc]
        assert names(shelf.folder) == []


class _Stick:
    """Reads one piece, then fails as a pulled stick does. Nothing here can be pulled, so this stands for it."""

    def __init__(self) -> None:
        self._left = [b"GGUF"]

    def __enter__(self) -> _Stick:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, size: int) -> bytes:
        if self._left:
            return self._left.pop()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_stick_that_is_pulled_leaves_nothing(
    shelf: Shelf, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        return _Stick() if mode == "rb" else real(path, mode, *arguments, **more)

    folder = encoder(tmp_path / "enc")
    target = shelf.place("a")
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ModelBroken, match="Input/output error; nothing was added"):
        copy_file(source, target, quiet)
    with pytest.raises(ModelBroken, match="Input/output error; nothing was added"):
        copy_folder(folder, shelf.place("enc", folder=True), quiet)
    assert names(shelf.folder) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_copy_is_no_model_and_is_swept_up(shelf: Shelf, source: Path, tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        source = encoder(tmp_path / "enc")
    target = shelf.place("a", folder=kind == "folder")
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-m", "engine.kill_child", str(source), str(target)]
    assert subprocess.run(command, cwd=TESTS, env=environment, check=False).returncode == -signal.SIGKILL
    assert names(shelf.folder) == [part_of(target).name]
    assert (shelf.entries(), shelf.parts()) == ([], [part_of(target)])
    shelf.sweep()
    assert names(shelf.folder) == []
    (copy_folder if kind == "folder" else copy_file)(source, target, quiet)
    assert [entry.name for entry in shelf.entries()] == ["a"]
    assert list(faults(target)) == []


def test_sweeping_spares_downloads_and_what_is_held(shelf: Shelf, source: Path) -> None:
    with staged(shelf.place("download")) as part:
        part.restart(Origin("http://host/a", 9, '"tag"'))
        part.write(b"GGUF")
        part.keep()
    with staged(shelf.place("held")) as part, staged_folder(shelf.place("stage", folder=True)):
        part.restart(None)
        shelf.sweep()
        assert names(shelf.folder) == ["download.gguf.part", "download.gguf.part.json", "held.gguf.part", "stage.part"]


def test_one_at_a_time(shelf: Shelf, source: Path) -> None:
    with staged(shelf.place("a")), pytest.raises(Busy, match="another edged"):
        copy_file(source, shelf.place("a"), quiet)
    with staged_folder(shelf.place("b", folder=True)) as stage:
        (stage / "kept").touch()
        with pytest.raises(Busy), staged_folder(shelf.place("b", folder=True)):
            pass
        with pytest.raises(Busy):
            shelf.remove("b")
        assert names(stage) == ["kept"]


def test_a_part_that_got_its_name_while_it_was_opened_is_not_ours(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    path = part_of(shelf.place("a"))

    def flock(fd: int, how: int) -> None:
        """The one before ends between our opening and our locking."""
        monkeypatch.undo()
        path.replace(shelf.folder / "a.gguf")
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with staged(shelf.place("a")) as part:
        part.write(b"GGUF")
    assert ((shelf.folder / "a.gguf").read_bytes(), path.read_bytes()) == (b"", b"GGUF")


def test_many_at_once_make_one_whole_model(shelf: Shelf, source: Path) -> None:
    ended: list[str] = []

    def add() -> None:
        try:
            copy_file(source, shelf.place("a"), quiet)
            ended.append("added")
        except (Busy, NameTaken) as error:
            ended.append(error.code)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "added" in ended and len(ended) == 8
    assert names(shelf.folder) == ["a.gguf", "a.gguf.json"]
    assert list(faults(shelf.find("a"))) == []


def test_a_name_that_was_taken_meanwhile_is_not_written_over(shelf: Shelf, source: Path, tmp_path: Path) -> None:
    for source_, target in ((source, shelf.place("a")), (encoder(tmp_path / "enc"), shelf.place("b", folder=True))):
        copy = copy_folder if source_.is_dir() else copy_file
        with pytest.raises(NameTaken):
            copy(source_, target, lambda done, whole, target=target: target.mkdir(exist_ok=True))  # type: ignore[misc]
    assert names(shelf.folder) == ["a.gguf", "b"]


# names, notes, variants


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "x" * 65, "a.part", "a.json", "-a"])
def test_names_that_leave_the_folder_or_mean_something_else(shelf: Shelf, name: str) -> None:
    for call in (shelf.place, shelf.find, shelf.remove):
        with pytest.raises(BadRequest):
            call(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen 2.5 (0.5B)", "Qwen-2.5-0.5B"),
        ("../../etc", "etc"),
        ("", "model"),
        ("ü" * 9, "model"),
        ("a" * 99, "a" * 64),
    ],
)
def test_a_files_name_becomes_one_that_the_configuration_takes(text: str, name: str) -> None:
    assert spec_name(text) == name


def test_a_name_is_one_models(shelf: Shelf, source: Path, tmp_path: Path) -> None:
    copy_file(source, shelf.place("a"), quiet)
    for folder in (True, False):
        with pytest.raises(NameTaken):
            shelf.place("a", folder=folder)
    assert shelf.find("a.gguf") == shelf.find("a")
    assert shelf.remove("a") == [shelf.folder / "a.gguf"]
    with pytest.raises(NotFound, match="there are: none"):
        shelf.find("a")


def test_removing_takes_a_folder_its_note_and_its_parts(shelf: Shelf, tmp_path: Path) -> None:
    copy_folder(encoder(tmp_path / "enc"), shelf.place("enc", folder=True), quiet)
    assert names(shelf.folder) == ["enc", "enc.json"]
    assert shelf.remove("enc") == [shelf.folder / "enc"]
    assert names(shelf.folder) == []


def test_a_note_that_cannot_be_read_is_a_fault(shelf: Shelf, source: Path) -> None:
    copy_file(source, shelf.place("a"), quiet)
    note = shelf.folder / "a.gguf.json"
    for text in ("", "[]", "{}", '{"source": "", "added": "", "files": {"a": 3}}', '{"files": []}'):
        note.write_text(text)
        assert [error.code for error in faults(shelf.find("a"))] == ["model_broken"]
        assert "note" in shelf.entries()[0].fault
    note.unlink()
    assert list(faults(shelf.find("a"))) == []
    assert shelf.entries()[0].digest == ""


def test_one_bit_is_found(shelf: Shelf, source: Path) -> None:
    copy_file(source, shelf.place("a"), quiet)
    noted = read_note(shelf.find("a"))
    assert noted is not None and noted.source == str(source)
    body = bytearray(source.read_bytes())
    body[-9] ^= 1
    shelf.find("a").write_bytes(body)
    assert [type(error) for error in faults(shelf.find("a"))] == [DigestMismatch]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"general__file_type": 10}, True),
        ({"general__name": "Small Q4_K_M"}, {"general__name": "Small-q8_0.gguf"}, True),
        ({"general__name": "Small-IQ4_XS"}, {"general__name": "Small.F16"}, True),
        ({"general__name": "small-1"}, {"general__name": "small-2"}, False),
        ({}, {"llama__block_count": 4}, False),
        ({}, {"llama__embedding_length": 256}, False),
    ],
)
def test_variants_of_one_model(shelf: Shelf, one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    shelf.folder.mkdir(parents=True)
    for name, meta in (("one", one), ("other", other)):
        header(shelf.folder / f"{name}.gguf", **meta)
    bases = {base_of(entry.facts) for entry in shelf.entries() if entry.facts}
    assert len(bases) == (1 if same else 2)


def test_variants_stand_together_the_smallest_first(shelf: Shelf) -> None:
    shelf.folder.mkdir(parents=True)
    for name, size, base in (("a", 9000, "x"), ("b", 5000, "y"), ("c", 5000, "x")):
        header(shelf.folder / f"{name}.gguf", size=size, general__name=base)
    (shelf.folder / "0.gguf").touch()
    assert [entry.name for entry in shelf.entries()] == ["c", "a", "b", "0"]


def test_the_need_is_stated_at_the_proposed_context(shelf: Shelf) -> None:
    shelf.folder.mkdir(parents=True)
    header(shelf.folder / "a.gguf", llama__context_length=131072)
    facts = shelf.entries()[0].facts
    assert facts is not None
    spec = proposed("a", shelf.folder / "a.gguf", facts)
    assert spec.context_length == 4096
    assert (
        need_of(facts, spec) > 4096 * 2 * 3 * 32 * 2 * 2
    )  # the KV cache alone: K and V of 2 heads of 32 in 3 layers, f16
