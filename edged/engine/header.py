"""The header of a GGUF file, value by value: metadata, then where each tensor lies.

The rule: a file is a stranger's. Every count and length has a bound before anything is read or kept.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

__all__ = ["HeaderReader", "Tensor"]

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_KEPT_ARRAY = 512  # per-layer arrays are kept, vocabularies are only counted
_LONGEST = 1 << 20  # bytes of a text
_WORDS = 1 << 20  # texts of an array
_TENSORS = 1 << 17
_DIMENSIONS = 4
_ALIGNMENT = 32
# ggml's enum ggml_type: elements of a block, bytes of a block. Numbers left out were taken back.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: `offset` bytes into the data, `size` bytes long."""

    name: str
    offset: int
    size: int


class HeaderReader:
    """Reads key-values; arrays longer than `_KEPT_ARRAY` become their length. Raises ValueError, EOFError, struct.error."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._tensors = 0
        self._scalars: dict[int, Callable[[], Any]] = {
            kind: self._scalar_reader(struct.Struct(form)) for kind, form in _SCALARS.items()
        }

    def metadata(self) -> dict[str, Any]:
        if self._take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, self._tensors, count = struct.unpack("<IQQ", self._take(20))
        if version not in (2, 3):
            raise ValueError(f"its version is {version}")
        if count > 1 << 16:
            raise ValueError(f"it claims {count} metadata entries")
        return {self._string(): self._value(self._u32()) for _ in range(count)}

    def tensors(self) -> Iterator[Tensor]:
        """Once `metadata` was read."""
        if not 0 < self._tensors <= _TENSORS:
            raise ValueError(f"it claims {self._tensors} tensors")
        for _ in range(self._tensors):
            name = self._string()
            dimensions = self._u32()
            if dimensions > _DIMENSIONS:
                raise ValueError(f"its tensor {name[:40]!r} has {dimensions} dimensions")
            elements = math.prod(self._u64() for _ in range(dimensions))
            yield Tensor(name, size=_bytes_of(name, self._u32(), elements), offset=self._u64())

    def data_begins(self, metadata: dict[str, Any]) -> int:
        """Where the tensors' data begins, in bytes, once all `tensors` were read."""
        step = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(step, int) or not 0 < step <= _LONGEST:
            raise ValueError(f"its alignment is {str(step)[:40]!r}")
        return -(-self._stream.tell() // step) * step

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in self._scalars:
            raise ValueError(f"it uses value type {kind}")
        return self._scalars[kind]()

    def _array(self) -> Any:
        kind, count = self._u32(), self._u64()
        if kind == _ARRAY:
            raise ValueError("it nests arrays")
        if count <= _KEPT_ARRAY and kind != _STRING:
            return [self._value(kind) for _ in range(count)]
        if kind == _STRING:
            if count > _WORDS:
                raise ValueError(f"it claims {count} words")
            for _ in range(count):
                self._skip(self._u64())
        elif kind in _SCALARS:
            self._skip(struct.calcsize(_SCALARS[kind]) * count)
        else:
            raise ValueError("it nests arrays")
        return count

    def _scalar_reader(self, form: struct.Struct) -> Callable[[], Any]:
        return lambda: form.unpack(self._take(form.size))[0]

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _string(self) -> str:
        return self._take(self._u64()).decode()

    def _take(self, size: int) -> bytes:
        if size > _LONGEST:
            raise ValueError(f"it holds a value of {size} bytes")
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError("it ends early")
        return data

    def _skip(self, size: int) -> None:
        """Short ones are read (a seek drops the buffer), long ones are jumped over."""
        if size < 4096:
            self._take(size)
        elif size > self._size - self._stream.tell():
            raise EOFError("it ends early")
        else:
            self._stream.seek(size, os.SEEK_CUR)


def _bytes_of(name: str, kind: int, elements: int) -> int:
    if kind not in _BLOCKS:
        raise ValueError(f"its tensor {name[:40]!r} is of type {kind}, which this version does not know")
    block, size = _BLOCKS[kind]
    return -(-elements // block) * size
