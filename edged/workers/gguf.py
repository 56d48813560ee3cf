"""The child that runs one GGUF model: `python -m edged.workers.gguf`.

Verbs: `load`, `prove`, `generate`, `ping` (answers when the call before it is over: the daemon's way to see that a cancel
took). One sequence; the longest common prefix with the last prompt stays in the KV cache. Heavy modules are imported
on another thread while the daemon proves the model and llama.cpp reads the file; nobody touches them before that thread
has ended, for two threads that enter one package's import cycle see half a module.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from edged.domain.errors import BadRequest, Cancelled, DeadlineExceeded, EdgedError, ModelBroken
from edged.workers.llama import Aborted, Llama
from edged.workers.sampling import Sampler, guidance_tokenizer
from edged.workers.serve import Call, arguments, serve
from edged.workers.template import ChatTemplate

_PROOF_TOKENS = 32
_PROOF_STEPS = 4


class Backend:
    """The one model of this process and the handlers of its verbs."""

    def __init__(self, imports: threading.Thread) -> None:
        self._imports = imports
        self._llama: Llama | None = None
        self._template: ChatTemplate | None = None
        self._tokenizer: Any = None

    @property
    def model(self) -> Llama:
        if self._llama is None:
            raise ModelBroken("no model is loaded")
        return self._llama

    def load(self, call: Call) -> dict[str, Any]:
        """{path, context_length, batch_size, threads, mode} -> {context_length, n_vocab, threads, load_seconds}."""
        started = time.monotonic()
        p = call.params
        model = self._llama = Llama(p["path"], p["context_length"], p["batch_size"], p["threads"], p["mode"])
        self._imports.join()
        specials = [model.piece(t).decode(errors="ignore") for t in range(model.n_vocab) if model.is_control(t)]
        self._template = ChatTemplate(
            model.chat_template(), bos=model.special_text("bos"), eos=model.special_text("eos"), specials=specials
        )
        return {
            "context_length": model.context_length,
            "n_vocab": model.n_vocab,
            "threads": model.threads,
            "load_seconds": time.monotonic() - started,
        }

    def prove(self, call: Call) -> dict[str, Any]:
        """A real batch and some decoding; a faulty kernel kills the process here. Raises `ModelBroken` on logits not finite."""
        import numpy as np

        model = self.model
        started = time.monotonic()
        count = min(_PROOF_TOKENS, model.context_length - _PROOF_STEPS)
        model.evaluate([(7 * i + 1) % model.n_vocab for i in range(count)])
        for _ in range(_PROOF_STEPS):
            if not np.isfinite(model.logits()).all():
                raise ModelBroken("the model computes numbers that are not finite")
            model.evaluate([int(model.logits().argmax())])
        model.keep(0)
        return {"seconds": time.monotonic() - started}

    def ping(self, call: Call) -> None:
        """Nothing: the answer is that it was reached."""

    def generate(self, call: Call) -> dict[str, Any]:
        """See the module of the pool for the parameters. Streams {"text"}; returns text, finish_reason, counts, seconds."""
        p = call.params
        model = self.model
        prompt = self._prompt(p["messages"], p["tools"])
        sampler = Sampler(model.n_vocab, self._guidance, p["grammar"], p["temperature"], p["seed"])
        with _watched(call, model, p["deadline_monotonic"]):
            try:
                return _Turn(call, model, sampler, p["max_tokens"]).run(prompt)
            except Aborted:
                if call.cancelled.is_set():
                    raise Cancelled("the generation was cancelled") from None
                raise DeadlineExceeded("the deadline passed while the model computed") from None

    def _prompt(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> list[int]:
        assert self._template is not None
        model = self.model
        pieces = self._template.render(messages, tools)
        tokens = [token for text, special in pieces for token in model.tokenize(text, special=special)]
        begin = model.begin_token()
        if begin is not None and tokens[:1] != [begin]:
            tokens.insert(0, begin)
        if not tokens:
            raise BadRequest("the prompt is empty")
        if len(tokens) >= model.context_length:
            detail = f"the prompt has {len(tokens)} tokens; the model reads {model.context_length - 1}"
            raise BadRequest(detail, tokens=len(tokens), limit=model.context_length - 1)
        return tokens

    def _guidance(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = guidance_tokenizer(self.model)
        return self._tokenizer


class _Turn:
    """One generation: prefill, then steps until the end token, the grammar's end, or a limit."""

    def __init__(self, call: Call, model: Llama, sampler: Sampler, max_tokens: int) -> None:
        self._call = call
        self._model = model
        self._sampler = sampler
        self._max_tokens = max_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text: list[str] = []

    def run(self, prompt: list[int]) -> dict[str, Any]:
        model = self._model
        started = time.monotonic()
        cached = model.keep(_common(model.past, prompt[:-1]))
        model.evaluate(prompt[cached:])
        prefilled = time.monotonic()
        finish_reason, made = self._decode()
        self._emit(b"", final=True)
        return {
            "text": "".join(self._text),
            "finish_reason": finish_reason,
            "prompt_tokens": len(prompt),
            "cached_tokens": cached,
            "completion_tokens": made,
            "prefill_seconds": prefilled - started,
            "decode_seconds": time.monotonic() - prefilled,
        }

    def _decode(self) -> tuple[str, int]:
        """(finish_reason, tokens made). The last tokens are not evaluated: nothing is read from them."""
        model, made = self._model, 0
        while True:
            if model.stopping:
                raise Aborted
            room = min(self._max_tokens - made, model.context_length - len(model.past))
            if room <= 0:
                return "length", made
            tokens = self._sampler.next(model.logits(), room)
            made += len(tokens)
            ended = [i for i, token in enumerate(tokens) if model.is_end(token)]
            kept = tokens[: ended[0]] if ended else tokens
            self._emit(b"".join(map(model.piece, kept)))
            if ended or self._sampler.finished:
                return "stop", made
            if made >= self._max_tokens:
                return "length", made
            model.evaluate(kept)

    def _emit(self, data: bytes, final: bool = False) -> None:
        text = self._decoder.decode(data, final)
        if text:
            self._text.append(text)
            self._call.chunk({"text": text})


def _common(a: list[int], b: list[int]) -> int:
    """The length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@contextlib.contextmanager
def _watched(call: Call, model: Llama, deadline: float | None) -> Iterator[None]:
    """Raise the model's abort flag as soon as the call is cancelled or its deadline passes: prefill cannot look itself."""
    over = threading.Event()

    def watch() -> None:
        call.cancelled.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        if not over.is_set():
            model.stop(True)

    model.stop(False)
    watcher = threading.Thread(target=watch, name="watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        call.cancelled.set()  # lets the watcher go; the call is over
        watcher.join()
        model.stop(False)


def _import_ahead() -> None:
    with contextlib.suppress(ImportError, EdgedError):
        for name in ("numpy", "jinja2.sandbox", "llguidance"):
            importlib.import_module(name)


def main() -> None:
    connection, _ = arguments()
    imports = threading.Thread(target=_import_ahead, name="imports", daemon=True)
    imports.start()
    backend = Backend(imports)
    serve(
        connection,
        {"load": backend.load, "prove": backend.prove, "ping": backend.ping, "generate": backend.generate},
    )


if __name__ == "__main__":
    main()
