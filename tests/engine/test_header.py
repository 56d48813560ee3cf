"""Where tensors lie: the table of their sizes beside the library's own, and files that end before their tensors do."""

from __future__ import annotations

import ctypes
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
from workers.tiny_gguf import write

from edged.domain.errors import ModelBroken
from edged.engine.catalog import check_tensors
from edged.engine.header import HeaderReader

from .gguf_header import string, value

_TYPES = 43  # of the library that is installed; the table may know fewer, never others


def ggml() -> ctypes.CDLL:
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.origin is not None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libggml-base.so"))
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    return library


def made(path: Path, kind: int, *shape: int, offset: int = 0, data: int = 0, **meta: int) -> Path:
    """A file of one tensor and `data` bytes of it."""
    pairs = {"general.architecture": "llama", **{key.replace("__", "."): item for key, item in meta.items()}}
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(pairs)) + b"".join(string(k) + value(v) for k, v in pairs.items())
    head += string("t") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    step = meta.get("general__alignment", 32)
    path.write_bytes(head + bytes(-len(head) % step) + bytes(data))
    return path


def test_sizes_are_those_of_ggml(tmp_path: Path) -> None:
    library = ggml()
    seen = 0
    for kind in range(_TYPES):
        block, size = library.ggml_blck_size(kind), library.ggml_type_size(kind)
        if not size:
            continue
        file = made(tmp_path / "one.gguf", kind, block, 3, data=3 * size)
        with file.open("rb") as stream:
            reader = HeaderReader(stream, file.stat().st_size)
            reader.metadata()
            assert next(reader.tensors()).size == 3 * size
        check_tensors(str(file))
        seen += 1
    assert seen > 30


def test_a_whole_file_and_the_same_without_its_last_byte(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.gguf")
    check_tensors(str(file))
    check_tensors("bundled")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelBroken, match=r"tiny\.gguf .*ends before its tensor"):
        check_tensors(str(file))


def test_alignment_and_offset_count(tmp_path: Path) -> None:
    check_tensors(str(made(tmp_path / "a.gguf", 0, 8, offset=64, data=96, general__alignment=64)))
    with pytest.raises(ModelBroken, match="ends before"):
        check_tensors(str(made(tmp_path / "a.gguf", 0, 8, offset=64, data=95, general__alignment=64)))


def test_one_of_several_files_is_no_model(tmp_path: Path) -> None:
    check_tensors(str(made(tmp_path / "a.gguf", 0, 8, data=32, split__count=1)))
    with pytest.raises(ModelBroken, match="one of 3 files"):
        check_tensors(str(made(tmp_path / "a.gguf", 0, 8, data=32, split__count=3)))


@pytest.mark.parametrize(
    ("kind", "shape", "more", "said"),
    [
        (0, (1, 1, 1, 1, 1), {}, "5 dimensions"),
        (0, (1 << 63, 1 << 63), {}, "ends before"),
        (4, (32,), {}, "type 4"),
        (999, (32,), {}, "type 999"),
        (0, (8,), {"general__alignment": 0}, "alignment"),
        (0, (8,), {"offset": (1 << 64) - 1}, "ends before"),
    ],
)
def test_headers_that_lie(tmp_path: Path, kind: int, shape: tuple[int, ...], more: dict[str, int], said: str) -> None:
    meta = {key: item for key, item in more.items() if key != "offset"}
    file = tmp_path / "m.gguf"
    if meta.get("general__alignment") == 0:
        file = made(file, kind, *shape, general__alignment=32)
        file.write_bytes(file.read_bytes().replace(struct.pack("<II", 4, 32), struct.pack("<II", 4, 0)))
    else:
        made(file, kind, *shape, offset=more.get("offset", 0), **meta)
    with pytest.raises(ModelBroken, match=said):
        check_tensors(str(file))


def test_no_tensors_are_no_model(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    for count in (0, 1 << 40):
        file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, count, 0))
        with pytest.raises(ModelBroken, match="tensors"):
            check_tensors(str(file))
