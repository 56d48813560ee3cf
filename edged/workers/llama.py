"""One loaded GGUF model and its KV cache for many sequences: a thin veneer over llama-cpp-python's ctypes bindings.

The rule of this file: nothing here knows of messages, grammars, sampling, or why a sequence is there.
`llama_cpp/__init__` imports its high-level `Llama`, a server's worth of types and jinja2 (0.1 s and 15 MB that a
worker has no use for), so the package is entered by its submodule; if a release ever breaks that, the whole package
is imported instead.

The cache is one buffer that all sequences share ("unified"): a cell holds a position and the set of sequences that
own it, so sharing a prefix copies no keys and values. Sequences below `slots` may be decoded; up to `SEQUENCES` they
may only be held, which costs nothing (the output buffer has a row for each of the former).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from edged.domain.errors import ModelBroken
from edged.workers import wall
from edged.workers.vocabulary import Vocabulary

__all__ = ["KV_TYPES", "MODES", "SEQUENCES", "Llama", "Row", "Runtime", "Status"]

# In the order in which they are proven. AMX builds fault in the repacked ("extra") buffers; one thread is the last resort.
MODES = ("default", "no_extra_buffers", "one_thread")
SEQUENCES = 256  # llama.cpp's LLAMA_MAX_SEQ
KV_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}  # enum ggml_type
_THREADS_MAX = 8
_SMALL = 64 << 20  # bytes; below, a decode step is shorter than what its barriers cost


class Status(Enum):
    """What became of a batch. NO_ROOM: it was not computed, a smaller one may find cells. ABORTED: as asked by `stop`."""

    DONE = 0
    NO_ROOM = 1
    ABORTED = 2


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a model is run. `cells` is what the KV cache holds of all sequences together, in tokens; 0 means `context_length`."""

    context_length: int = 0
    cells: int = 0
    slots: int = 1
    batch_size: int = 512
    threads: int = 0
    mode: str = "default"
    kv_type: str = "f16"
    adapters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One token of a batch; `wanted` rows have logits afterwards."""

    token: int
    position: int
    sequence: int
    wanted: bool


def _bindings() -> Any:
    # OpenMP's threads wait at barriers, hundreds of them a token, and by default they spin. Beside a busy process that halves
    # the speed of decoding again, and it burns power after each answer; never to spin costs two fifths of the speed when
    # alone. Spinning for some microseconds has nearly all of both. Read when libgomp is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # an assertion would start a debugger for seconds before it aborts
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or not spec.submodule_search_locations:
            raise ModelBroken("llama-cpp-python is not installed")
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
        try:
            return importlib.import_module("llama_cpp.llama_cpp")
        except ImportError:
            del sys.modules["llama_cpp"]
    return importlib.import_module("llama_cpp.llama_cpp")


class Llama:
    """A model and its context. Raises `ModelBroken` when the file, an adapter or the context cannot be had.

    `partial` says whether a sequence can be cut anywhere; where it cannot (recurrent models), only whole sequences
    can be copied.
    """

    def __init__(self, path: str, runtime: Runtime) -> None:
        self._c = _bindings()
        _quieten(self._c)
        self._c.llama_backend_init()
        self._model = self._load(path, runtime.mode)
        self.vocabulary = Vocabulary(self._c, self._model)
        trained = int(self._c.llama_model_n_ctx_train(self._model))
        self.context_length = min(runtime.context_length or trained, trained)
        self.cells = max(runtime.cells, self.context_length)
        self.threads, self._decode_threads = _threads(runtime.threads, runtime.mode, Path(path).stat().st_size)
        self.partial = not (self._c.llama_model_is_recurrent(self._model) or self._c.llama_model_is_hybrid(self._model))
        self.slots = runtime.slots
        # a recurrent model has one state a sequence and no cells to share: what is held costs as much as what is decoded
        self.sequences = SEQUENCES if self.partial else 2 * runtime.slots + 2
        least = self.slots if self.partial else self.sequences  # llama.cpp wants a row for each
        self.batch_size = max(least, min(runtime.batch_size, self.cells))
        self._stop = ctypes.create_string_buffer(2)
        self._context = self._open(runtime)
        self._memory = self._c.llama_get_memory(self._context)
        self._adapters = {name: self._adapter(file) for name, file in runtime.adapters.items()}
        self._adapted: str | None = None
        self._batch = _Batch(self._c, self.batch_size)

    def _load(self, path: str, mode: str) -> Any:
        params = self._c.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = mode == "default"
        _complaints.clear()
        model = self._c.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise ModelBroken(f"llama.cpp cannot load {Path(path).name}: {_said()}")
        return model

    def _open(self, runtime: Runtime) -> Any:
        params = self._c.llama_context_default_params()
        params.n_ctx = self.cells
        params.n_batch = params.n_ubatch = self.batch_size
        params.n_seq_max = self.slots if self.partial else self.sequences
        params.kv_unified = True
        params.swa_full = True  # a sliding window that forgets cannot be cut or shared
        params.type_k = params.type_v = KV_TYPES[runtime.kv_type]
        params.flash_attn_type = 1  # skips what a sequence may not see; a quantized cache needs it
        params.n_threads, params.n_threads_batch = self._decode_threads, self.threads
        params.no_perf = True
        # Between any two graph nodes ggml asks this callback whether to stop. A Python callback would cost the GIL some
        # hundred times a token; strlen of a two-byte buffer is "is the first byte set?" in native code.
        strlen = ctypes.CDLL(None).strlen
        params.abort_callback = ctypes.cast(strlen, self._c.ggml_abort_callback)
        params.abort_callback_data = ctypes.cast(self._stop, ctypes.c_void_p)
        context = self._c.llama_init_from_model(self._model, params)
        if not context:
            raise ModelBroken(f"llama.cpp cannot make a context for this model (memory?): {_said()}")
        return context

    def _adapter(self, path: str) -> Any:
        adapter = self._c.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not adapter:
            raise ModelBroken(f"llama.cpp cannot load the adapter {Path(path).name}: {_said()}", path=path)
        return adapter

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._adapters)

    def stop(self, on: bool) -> None:
        """Raise or lower the abort flag; any thread may."""
        self._stop[0] = b"\1" if on else b"\0"

    def chat_template(self) -> str:
        raw = self._c.llama_model_chat_template(self._model, None)
        return raw.decode(errors="replace") if raw else ""

    def decode(self, rows: Sequence[Row], adapter: str | None = None) -> Status:
        """Compute a batch of at most `batch_size` rows. What was aborted is out of the cache. Raises `ModelBroken`."""
        self._adapt(adapter)
        _complaints.clear()
        status = int(self._c.llama_decode(self._context, self._batch.filled(rows)))
        if status < 0:
            raise ModelBroken(f"llama_decode returned {status}: {_said()}")
        if status == Status.ABORTED.value:
            firsts: dict[int, int] = {}
            for row in rows:
                firsts[row.sequence] = min(row.position, firsts.get(row.sequence, row.position))
            for sequence, position in firsts.items():  # llama.cpp takes out only the part that it was computing
                self.cut(sequence, position if self.partial else 0)
        return Status(status)

    def _adapt(self, name: str | None) -> None:
        if name == self._adapted:
            return
        count = 0 if name is None else 1
        pointers = (self._c.llama_adapter_lora_p_ctypes * 1)(None if name is None else self._adapters[name])
        self._c.llama_set_adapters_lora(self._context, pointers, count, (ctypes.c_float * 1)(1.0))
        self._adapted = name

    def logits(self, row: int) -> Any:
        """`float32[vocabulary.size]` of a wanted row of the last batch; native memory, valid until the next one."""
        import numpy as np

        pointer = self._c.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary.size,))

    def cut(self, sequence: int, length: int) -> None:
        """Forget all but the first `length` positions of a sequence; where that cannot be, `length` must be 0."""
        self._c.llama_memory_seq_rm(self._memory, sequence, length if length else -1, -1)

    def copy(self, source: int, target: int, length: int) -> None:
        """Let an empty sequence share the first `length` positions of another (all of them where parts cannot be had)."""
        self._c.llama_memory_seq_cp(self._memory, source, target, 0, length if self.partial else -1)

    def state(self, sequence: int) -> bytes:
        """What the cache holds of a sequence, as llama.cpp writes it."""
        size = self._c.llama_state_seq_get_size(self._context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = self._c.llama_state_seq_get_data(self._context, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> bool:
        """Put a state into an empty sequence; false when llama.cpp does not take it."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if self._c.llama_state_seq_set_data(self._context, buffer, len(state), sequence):
            return True
        self.cut(sequence, 0)
        return False


class _Batch:
    """A `llama_batch` whose arrays are ours and are filled again for each step."""

    def __init__(self, bindings: Any, size: int) -> None:
        self._tokens = (bindings.llama_token * size)()
        self._positions = (bindings.llama_pos * size)()
        self._counts = (ctypes.c_int32 * size)(*[1] * size)
        self._wanted = (ctypes.c_int8 * size)()
        self._sequences = (bindings.llama_seq_id * size)()
        pointer = ctypes.POINTER(bindings.llama_seq_id)
        step, base = ctypes.sizeof(bindings.llama_seq_id), ctypes.addressof(self._sequences)
        self._owners = (pointer * size)(*(ctypes.cast(base + i * step, pointer) for i in range(size)))
        self._batch = bindings.llama_batch(
            n_tokens=0,
            token=self._tokens,
            embd=None,
            pos=self._positions,
            n_seq_id=self._counts,
            seq_id=self._owners,
            logits=self._wanted,
        )

    def filled(self, rows: Sequence[Row]) -> Any:
        count = len(rows)
        self._tokens[:count] = [row.token for row in rows]
        self._positions[:count] = [row.position for row in rows]
        self._sequences[:count] = [row.sequence for row in rows]
        self._wanted[:count] = [row.wanted for row in rows]
        self._batch.n_tokens = count
        return self._batch


def _threads(asked: int, mode: str, size: int) -> tuple[int, int]:
    """(threads for prefill, threads for decoding) of a model whose file has `size` bytes."""
    if mode == "one_thread":
        return 1, 1
    cores = min(_THREADS_MAX, len(os.sched_getaffinity(0)))
    return asked or cores, asked or (1 if size < _SMALL else cores)


_complaints: list[str] = []
_callback: Any = None


def _quieten(bindings: Any) -> None:
    """llama.cpp says hundreds of lines a load; only its errors are passed on."""
    global _callback
    if _callback is None:  # kept for good: native code holds only the pointer
        _callback = bindings.llama_log_callback(_log)
    bindings.llama_log_set(_callback, ctypes.c_void_p())


def _log(level: int, text: bytes, data: int | None) -> None:
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        if wall.looks_like_it(text.decode(errors="replace")):  # some of its functions abort next
            wall.fell()
        _complaints.append(text.decode(errors="replace").strip())
        sys.stderr.write(text.decode(errors="replace"))


def _said() -> str:
    """What llama.cpp complained of, the cause first: its functions tell only that they failed."""
    return _complaints[0] if _complaints else "it does not say why"
