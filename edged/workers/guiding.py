"""Grammars: which tokens may come next, by llguidance.

A grammar binds from the first token on, or, with triggers, only after one of those strings was written: until then the model speaks
freely, and from there on what it writes must complete the grammar, which begins with the trigger itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from edged.domain.errors import BadRequest, GenerationFailed
from edged.workers.vocabulary import Vocabulary

__all__ = ["Guide", "Table", "compiled"]


class Table:
    """llguidance's table of the model's vocabulary: built once a worker, at the first grammar; about 5 µs a token.

    `begin` builds it on another thread, so that those who speak meanwhile are not held up; `get` waits for it.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._thread: threading.Thread | None = None
        self._made: Any = None

    @property
    def ready(self) -> bool:
        return self._made is not None

    def begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._make, name="grammar table", daemon=True)
            self._thread.start()

    def get(self) -> Any:
        self.begin()
        assert self._thread is not None
        self._thread.join()
        if self._made is None:
            raise GenerationFailed("the grammar table of this model could not be built")
        return self._made

    def _make(self) -> None:
        self._made = _tokenizer(self._vocabulary)


def _tokenizer(vocabulary: Vocabulary) -> Any:
    """The work of `llguidance.llamacpp.lltokenizer_from_vocab`, without the package import and the deprecated call for every
    token that it makes."""
    from llguidance import LLTokenizer

    controls = set(vocabulary.controls.values())
    tokens = [b"\xff" + vocabulary.piece(t) if t in controls else vocabulary.piece(t) for t in range(vocabulary.size)]
    pointer, address, end = vocabulary.guidance_inputs()
    return LLTokenizer.from_llamacpp(
        tokens=tokens, vocab_ptr=pointer, tokenize_fptr=address, eos_token=end, slices=None
    )


def compiled(grammar: str | dict[str, Any], vocabulary: Vocabulary) -> str:
    """llguidance's form of a grammar: Lark as a string, or {"kind": "lark" | "json_schema" | "regex", "source"}.

    Raises `BadRequest` for a kind that there is not, or a schema that is not one.
    """
    from llguidance import LLMatcher

    kind, source = ("lark", grammar) if isinstance(grammar, str) else (grammar.get("kind"), grammar.get("source"))
    try:
        if kind == "lark":
            return str(LLMatcher.grammar_from_lark(vocabulary.marked(str(source))))
        if kind == "json_schema":
            text = source if isinstance(source, str) else json.dumps(source)
            return str(LLMatcher.grammar_from_json_schema(text))
        if kind == "regex":
            return str(LLMatcher.grammar_from_regex(str(source)))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"the grammar cannot be read: {error}") from error
    raise BadRequest(f"there is no grammar of kind {kind!r}; use lark, json_schema or regex")


class Guide:
    """One generation's place in its grammar. Raises `BadRequest` for a grammar that is not one, or that cannot go on."""

    def __init__(
        self,
        grammar: str,
        table: Table,
        vocabulary: Vocabulary,
        triggers: Sequence[str] = (),
    ) -> None:
        import numpy as np
        from llguidance import LLMatcher

        self._np = np
        self._vocabulary = vocabulary
        self._tokenizer = table.get()
        self._matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        self._mask = np.zeros((vocabulary.size + 31) // 32, dtype=np.int32)
        self._triggers = tuple(t.encode() for t in triggers)
        self._written = b""
        self._bound = not self._triggers
        self._check()

    @property
    def finished(self) -> bool:
        return self._bound and bool(self._matcher.is_stopped())

    def admits(self, token: int) -> bool:
        return not self._bound or bool(self._matcher.validate_tokens([token]))

    def mask(self, logits: Any) -> None:
        """Make impossible what may not come next."""
        if not self._bound:
            return
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        allowed = self._np.unpackbits(self._mask.view(self._np.uint8), bitorder="little", count=len(logits))
        self._np.copyto(logits, -self._np.inf, where=allowed == 0)

    def accept(self, tokens: Sequence[int]) -> None:
        if self._bound:
            self._matcher.consume_tokens(list(tokens))
            self._check()
            return
        for i, token in enumerate(tokens):
            self._written += self._vocabulary.piece(token)
            begun = self._begun()
            if begun is not None:
                self._bound = True
                rest = [*self._tokenizer.tokenize_bytes(begun, parse_special=True), *tokens[i + 1 :]]
                self._matcher.consume_tokens(rest)
                self._check()
                return

    def _begun(self) -> bytes | None:
        """What was written from the first trigger on."""
        places = [at for at in map(self._written.find, self._triggers) if at >= 0]
        if places:
            return self._written[min(places) :]
        longest = max(map(len, self._triggers))
        self._written = self._written[-longest:]
        return None

    def forced(self) -> list[int]:
        return [] if not self._bound else list(self._matcher.compute_ff_tokens())

    def _check(self) -> None:
        if self._matcher.is_error():
            said = str(self._matcher.get_error()).partition("\n")[0]
            raise BadRequest(f"the grammar failed: {said}")
