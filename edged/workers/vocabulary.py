"""The tokens of one GGUF model: text to tokens and back, and which of them are more than text."""

from __future__ import annotations

import ctypes
import re
from functools import cached_property
from typing import Any

from edged.domain.errors import EdgedError

__all__ = ["Vocabulary"]

_MARK = re.compile("⟦([^⟧]+)⟧")


class Vocabulary:
    """`bindings` are llama-cpp-python's, `model` is its pointer to a loaded model, which must outlive this."""

    def __init__(self, bindings: Any, model: Any) -> None:
        self._c = bindings
        self._pointer = bindings.llama_model_get_vocab(model)
        self.size = int(bindings.llama_vocab_n_tokens(self._pointer))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of `text`; with `special`, control tokens written in it are parsed as such."""
        data = text.encode()
        room = len(data) + 8
        tokens = (self._c.llama_token * room)()
        count = self._c.llama_tokenize(self._pointer, data, len(data), tokens, room, False, special)
        if count < 0:
            raise EdgedError("the tokenizer refused the text")
        return list(tokens[:count])

    def piece(self, token: int, size: int = 64) -> bytes:
        """The token's bytes; control tokens as their text."""
        buffer = ctypes.create_string_buffer(size)  # one a call: two threads ask
        count = self._c.llama_token_to_piece(self._pointer, token, buffer, size, 0, True)
        return ctypes.string_at(buffer, count) if count >= 0 else self.piece(token, -count)

    def is_end(self, token: int) -> bool:
        return bool(self._c.llama_vocab_is_eog(self._pointer, token))

    def is_control(self, token: int) -> bool:
        """Control tokens, and user-defined ones that look like them: llama.cpp parses those even where it is told not to."""
        attr = self._c.llama_vocab_get_attr(self._pointer, token)
        if attr & self._c.LLAMA_TOKEN_ATTR_USER_DEFINED:
            text = self.piece(token)
            return text.startswith(b"<") and text.endswith(b">")
        return bool(attr & self._c.LLAMA_TOKEN_ATTR_CONTROL)

    @cached_property
    def controls(self) -> dict[str, int]:
        """Control tokens by their text."""
        attribute, pointer = self._c.llama_vocab_get_attr, self._pointer
        kinds = self._c.LLAMA_TOKEN_ATTR_CONTROL | self._c.LLAMA_TOKEN_ATTR_USER_DEFINED
        special = [t for t in range(self.size) if attribute(pointer, t) & kinds]  # of 152k tokens in 30 ms
        return {self.piece(t).decode(errors="ignore"): t for t in special if self.is_control(t)}

    def marked(self, lark: str) -> str:
        """A grammar whose marks (`⟦<tool_call>⟧`) became the control tokens that the vocabulary has for them, or plain text."""

        def term(match: re.Match[str]) -> str:
            token = self.controls.get(match[1])
            escaped = match[1].replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"' if token is None else f"<[{token}]>"

        return _MARK.sub(term, lark)

    def begin_token(self) -> int | None:
        """The token that the vocabulary wants in front of everything, or None."""
        return int(self._c.llama_vocab_bos(self._pointer)) if self._c.llama_vocab_get_add_bos(self._pointer) else None

    def special_text(self, which: str) -> str:
        """The text of "bos" or "eos", as chat templates want it."""
        token = getattr(self._c, f"llama_vocab_{which}")(self._pointer)
        return self.piece(token).decode(errors="replace") if token >= 0 else ""

    def guidance_inputs(self) -> tuple[Any, int, int]:
        """What llguidance needs to tokenize natively: the vocabulary, the address of llama_tokenize, the end token."""
        address = ctypes.cast(self._c._lib.llama_tokenize, ctypes.c_void_p).value
        end = self._c.llama_vocab_eot(self._pointer)
        if end < 0:
            end = self._c.llama_vocab_eos(self._pointer)
        return self._pointer, address or 0, int(end)
