"""From chat messages to the model's tokens: the template, the agent's fixed part, and what happens when it is too long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edged.domain.errors import BadRequest, ContextOverflow
from edged.workers.prefix import common
from edged.workers.template import ChatTemplate
from edged.workers.vocabulary import Vocabulary

__all__ = ["Prompter"]

_PROBES = ("\ue000", "A")  # two messages that begin with nothing in common
_REMEMBERED = 32

Messages = Sequence[dict[str, Any]]
Tools = Sequence[dict[str, Any]] | None


class Prompter:
    """Renders and tokenizes. `limit` is how many tokens a prompt may have."""

    def __init__(self, vocabulary: Vocabulary, template: ChatTemplate, limit: int) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._limit = limit
        self._prefixes: dict[str, list[int]] = {}

    def tokens(self, messages: Messages, tools: Tools) -> list[int]:
        """The whole prompt. Raises `BadRequest` for messages that the template refuses or that say nothing."""
        pieces = self._template.render(list(messages), list(tools) if tools else None)
        tokens = [token for text, special in pieces for token in self._vocabulary.tokenize(text, special=special)]
        begin = self._vocabulary.begin_token()
        if begin is not None and tokens[:1] != [begin]:
            tokens.insert(0, begin)
        if not tokens:
            raise BadRequest("the prompt is empty")
        return tokens

    def fitted(self, messages: Messages, tools: Tools, fixed: int, overflow: str) -> tuple[list[int], int]:
        """(tokens, messages dropped). For a prompt that is too long, `overflow` "error" raises `ContextOverflow`; "drop_oldest"
        leaves out the oldest turns after the first `fixed` messages, and raises only when the last turn alone is too long."""
        dropped = 0
        while True:
            kept = [*messages[:fixed], *messages[fixed + dropped :]]
            tokens = self.tokens(kept, tools)
            if len(tokens) <= self._limit:
                return tokens, dropped
            more = _next_turn(messages, fixed + dropped)
            if overflow != "drop_oldest" or more is None:
                detail = f"the prompt has {len(tokens)} tokens; the model reads {self._limit}. Say less or raise context_length"
                raise ContextOverflow(detail, tokens=len(tokens), limit=self._limit)
            dropped += more

    def fixed(self, tokens: Sequence[int], messages: Messages, tools: Tools) -> int:
        """How many tokens at the beginning come from `messages` and tools alone, whatever is said after them."""
        key = json.dumps([list(messages), list(tools or ())], sort_keys=True, default=str)
        prefix = self._prefixes.get(key)
        if prefix is None:
            one, other = (self.tokens([*messages, {"role": "user", "content": probe}], tools) for probe in _PROBES)
            prefix = one[: common(one, other)]
            if len(self._prefixes) >= _REMEMBERED:
                del self._prefixes[next(iter(self._prefixes))]
            self._prefixes[key] = prefix
        return common(tokens, prefix)


def _next_turn(messages: Messages, at: int) -> int | None:
    """How many messages from `at` on are one turn; None when it is the last one."""
    return next((i - at for i in range(at + 1, len(messages)) if messages[i]["role"] == "user"), None)
