"""Grammars judged by llguidance over a tokenizer whose tokens are the bytes: marks are the text that they stand for."""

from __future__ import annotations

import json
import re

import llguidance

__all__ = ["admits"]


class _Bytes:
    def __init__(self) -> None:
        self.eos_token_id, self.bos_token_id = 256, None
        self.tokens = [*(bytes([i]) for i in range(256)), b"<|end|>"]
        self.special_token_ids = [256]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


_TOKENIZER = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))


def admits(grammar: str, text: str) -> bool:
    """Whether `text` is all that the grammar asks for."""
    marked = re.sub("⟦([^⟧]+)⟧", lambda mark: json.dumps(mark[1]), grammar)
    matcher = llguidance.LLMatcher(_TOKENIZER, llguidance.LLMatcher.grammar_from_lark(marked), log_level=0)
    assert not matcher.get_error(), matcher.get_error()
    return bool(matcher.consume_tokens(list(text.encode())) and matcher.is_accepting())
