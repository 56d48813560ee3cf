"""One loaded GGUF model with one sequence: a thin veneer over llama-cpp-python's ctypes bindings.

The rule of this file: nothing here knows of messages, grammars or sampling. `llama_cpp/__init__` imports its high-level
`Llama`, a server's worth of types and jinja2 (0.1 s and 15 MB that a worker has no use for), so the package is entered
by its submodule; if a release ever breaks that, the whole package is imported instead.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edged.domain.errors import BadRequest, EdgedError, ModelBroken

__all__ = ["MODES", "Aborted", "Llama"]

# In the order in which they are proven. AMX builds fault in the repacked ("extra") buffers; one thread is the last resort.
MODES = ("default", "no_extra_buffers", "one_thread")
_THREADS_MAX = 8
_SMALL = 64 << 20  # bytes; below, a decode step is shorter than what its barriers cost
_ABORTED = 2
_NO_SLOT = 1


class Aborted(Exception):
    """The abort flag was raised while the model computed."""


def _bindings() -> Any:
    # OpenMP's threads spin at barriers, hundreds of them a token: where another process wants a core too, that made
    # decoding twenty times slower, and it burns power after each answer. Read when libgomp is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
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
    """A model, its context of `context_length` positions, and which tokens are in its KV cache (`past`).

    Raises `ModelBroken` when the file cannot be loaded. `facts` is what the daemon is told.
    """

    def __init__(self, path: str, context_length: int, batch_size: int, threads: int, mode: str) -> None:
        self._c = _bindings()
        self._quiet = self._c.llama_log_callback(_log)  # kept: native code holds only the pointer
        self._c.llama_log_set(self._quiet, ctypes.c_void_p())
        self._c.llama_backend_init()
        self._model = self._load(path, mode)
        self._vocab = self._c.llama_model_get_vocab(self._model)
        self.n_vocab = int(self._c.llama_vocab_n_tokens(self._vocab))
        trained = int(self._c.llama_model_n_ctx_train(self._model))
        self.context_length = min(context_length or trained, trained)
        self.batch_size = max(1, min(batch_size, self.context_length))
        self.threads, self._decode_threads = _threads(threads, mode, Path(path).stat().st_size)
        self._stop = ctypes.create_string_buffer(2)
        self._context = self._open()
        self._memory = self._c.llama_get_memory(self._context)
        self._piece = ctypes.create_string_buffer(1024)
        self.past: list[int] = []

    def _load(self, path: str, mode: str) -> Any:
        params = self._c.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = mode == "default"
        model = self._c.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise ModelBroken(f"llama.cpp cannot load {Path(path).name}")
        return model

    def _open(self) -> Any:
        params = self._c.llama_context_default_params()
        params.n_ctx = self.context_length
        params.n_batch = params.n_ubatch = self.batch_size
        params.n_seq_max = params.n_outputs_max = 1
        params.n_threads, params.n_threads_batch = self._decode_threads, self.threads
        params.no_perf = True
        # Between any two graph nodes ggml asks this callback whether to stop. A Python callback would cost the GIL some
        # hundred times a token; strlen of a two-byte buffer is "is the first byte set?" in native code.
        strlen = ctypes.CDLL(None).strlen
        params.abort_callback = ctypes.cast(strlen, self._c.ggml_abort_callback)
        params.abort_callback_data = ctypes.cast(self._stop, ctypes.c_void_p)
        context = self._c.llama_init_from_model(self._model, params)
        if not context:
            raise ModelBroken("llama.cpp cannot make a context for this model (memory?)")
        return context

    @property
    def stopping(self) -> bool:
        return self._stop[0] != b"\0"

    def stop(self, on: bool) -> None:
        """Raise or lower the abort flag; any thread may."""
        self._stop[0] = b"\1" if on else b"\0"

    def meta(self, key: str) -> str:
        """A metadata value as text, "" when absent."""
        size = 1 << 16
        buffer = ctypes.create_string_buffer(size)
        return (
            buffer.value.decode()
            if self._c.llama_model_meta_val_str(self._model, key.encode(), buffer, size) >= 0
            else ""
        )

    def chat_template(self) -> str:
        raw = self._c.llama_model_chat_template(self._model, None)
        return raw.decode() if raw else ""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of `text`; with `special`, control tokens written in it are parsed as such."""
        data = text.encode()
        room = len(data) + 8
        tokens = (self._c.llama_token * room)()
        count = self._c.llama_tokenize(self._vocab, data, len(data), tokens, room, False, special)
        if count < 0:
            raise EdgedError("the tokenizer refused the text")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The token's bytes; control tokens as their text."""
        count = self._c.llama_token_to_piece(self._vocab, token, self._piece, len(self._piece), 0, True)
        if count < 0:
            self._piece = ctypes.create_string_buffer(-count)
            return self.piece(token)
        return self._piece.raw[:count]

    def is_end(self, token: int) -> bool:
        return bool(self._c.llama_vocab_is_eog(self._vocab, token))

    def is_control(self, token: int) -> bool:
        """Control tokens, and user-defined ones that look like them: llama.cpp parses those even where it is told not to."""
        attr = self._c.llama_vocab_get_attr(self._vocab, token)
        if attr & self._c.LLAMA_TOKEN_ATTR_USER_DEFINED:
            text = self.piece(token)
            return text.startswith(b"<") and text.endswith(b">")
        return bool(attr & self._c.LLAMA_TOKEN_ATTR_CONTROL)

    def begin_token(self) -> int | None:
        """The token that the vocabulary wants in front of everything, or None."""
        return int(self._c.llama_vocab_bos(self._vocab)) if self._c.llama_vocab_get_add_bos(self._vocab) else None

    def special_text(self, which: str) -> str:
        """The text of "bos" or "eos", as chat templates want it."""
        token = getattr(self._c, f"llama_vocab_{which}")(self._vocab)
        return self.piece(token).decode(errors="replace") if token >= 0 else ""

    def guidance_inputs(self) -> tuple[Any, int, int]:
        """What llguidance needs to tokenize natively: the vocabulary, the address of llama_tokenize, the end token."""
        address = ctypes.cast(self._c._lib.llama_tokenize, ctypes.c_void_p).value
        end = self._c.llama_vocab_eot(self._vocab)
        if end < 0:
            end = self._c.llama_vocab_eos(self._vocab)
        return self._vocab, address or 0, int(end)

    def keep(self, count: int) -> int:
        """Forget all but the first `count` tokens; returns how many are left (0 where a part cannot be forgotten)."""
        if count < len(self.past):
            if not self._c.llama_memory_seq_rm(self._memory, 0, count, -1):
                self._c.llama_memory_clear(self._memory, True)
                count = 0
            del self.past[count:]
        return len(self.past)

    def evaluate(self, tokens: Sequence[int]) -> None:
        """Append tokens to the sequence; afterwards `logits` are those of the last. Raises `Aborted`, `BadRequest`."""
        if len(self.past) + len(tokens) > self.context_length:
            raise BadRequest("the context is full", tokens=len(self.past) + len(tokens), limit=self.context_length)
        at, size = 0, self.batch_size
        while at < len(tokens):
            part = tokens[at : at + size]
            status = self._decode(part)
            if status == _NO_SLOT and size > 1:  # retryable by contract: a smaller batch may find room
                size //= 2
                continue
            if status != 0:
                self._c.llama_memory_seq_rm(self._memory, 0, len(self.past), -1)
                raise Aborted if status == _ABORTED else EdgedError(f"llama_decode returned {status}")
            self.past += part
            at += len(part)

    def _decode(self, tokens: Sequence[int]) -> int:
        array = (self._c.llama_token * len(tokens))(*tokens)
        return int(self._c.llama_decode(self._context, self._c.llama_batch_get_one(array, len(tokens))))

    def logits(self) -> Any:
        """`float32[n_vocab]` of the last token; native memory, valid until the next `evaluate`."""
        import numpy as np

        return np.ctypeslib.as_array(self._c.llama_get_logits_ith(self._context, -1), shape=(self.n_vocab,))


def _threads(asked: int, mode: str, size: int) -> tuple[int, int]:
    """(threads for prefill, threads for decoding) of a model whose file has `size` bytes."""
    if mode == "one_thread":
        return 1, 1
    cores = min(_THREADS_MAX, len(os.sched_getaffinity(0)))
    return asked or cores, asked or (1 if size < _SMALL else cores)


def _log(level: int, text: bytes, data: int | None) -> None:
    if level == 4:  # GGML_LOG_LEVEL_ERROR; the rest is chatter of hundreds of lines a load
        sys.stderr.write(text.decode(errors="replace"))
