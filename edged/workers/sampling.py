"""From logits to the next token, under a grammar or without one.

The rule: the grammar masks first, then the choice is made; temperature 0 is argmax. Tokens that the grammar forces are
returned along with the chosen one, so that the model reads them in one batch: a tool call is mostly such tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edged.domain.errors import BadRequest
from edged.workers.llama import Llama

__all__ = ["Sampler", "guidance_tokenizer"]


def guidance_tokenizer(model: Llama) -> Any:
    """llguidance's table of the model's vocabulary. Built once a worker, at the first grammar: about 5 µs a token.

    The work of `llguidance.llamacpp.lltokenizer_from_vocab`, without the package import and the deprecated call for every
    token that it makes.
    """
    from llguidance import LLTokenizer

    tokens = [(b"\xff" if model.is_control(t) else b"") + model.piece(t) for t in range(model.n_vocab)]
    vocab, address, end = model.guidance_inputs()
    return LLTokenizer.from_llamacpp(tokens=tokens, vocab_ptr=vocab, tokenize_fptr=address, eos_token=end, slices=None)


class Sampler:
    """Chooses the tokens of one generation. `finished` is true when the grammar is complete.

    `grammar` is Lark in llguidance's dialect, or None. Raises `BadRequest` for a grammar that is not one.
    """

    def __init__(
        self, n_vocab: int, tokenizer: Callable[[], Any], grammar: str | None, temperature: float, seed: int
    ) -> None:
        import numpy as np

        self._np = np
        self._temperature = temperature
        self._random = np.random.default_rng(seed) if temperature > 0 else None
        self._matcher: Any = None
        if grammar is not None:
            from llguidance import LLMatcher

            self._n_vocab = n_vocab
            self._mask = np.zeros((n_vocab + 31) // 32, dtype=np.int32)
            self._matcher = LLMatcher(tokenizer(), LLMatcher.grammar_from_lark(grammar), log_level=0)
            self._check()

    @property
    def finished(self) -> bool:
        return self._matcher is not None and bool(self._matcher.is_stopped())

    def next(self, logits: Any, room: int) -> list[int]:
        """The chosen token, then those that the grammar forces after it; at most `room` tokens. Changes `logits`."""
        if self._matcher is None:
            return [self._choose(logits)]
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        allowed = self._np.unpackbits(self._mask.view(self._np.uint8), bitorder="little", count=self._n_vocab)
        logits[allowed == 0] = -self._np.inf
        tokens = [self._choose(logits)]
        self._matcher.consume_token(tokens[0])
        self._check()
        forced = [] if self.finished else self._matcher.compute_ff_tokens()[: room - 1]
        if forced:
            self._matcher.consume_tokens(forced)
            self._check()
        return tokens + forced

    def _choose(self, logits: Any) -> int:
        if self._random is None:
            return int(logits.argmax())
        weights = self._np.exp((logits - logits.max()) / self._temperature, dtype=self._np.float64)
        return int(self._random.choice(len(weights), p=weights / weights.sum()))

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadRequest(f"the grammar failed: {self._matcher.get_error()}")
