"""Questions that are open: what a caller had said before being asked back. In memory, for a few minutes."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edged.domain.messages import ToolCall

__all__ = ["Asked", "Question", "is_yes"]

_SECONDS = 180.0
_MOST = 256
_YES = frozenset(
    "yes|yes please|yeah|yep|yup|sure|ok|okay|right|correct|exactly|please|please do|do it|go ahead|that is right|that's right|"
    "ja|ja bitte|genau|richtig|oui|oui merci|exact|si|sí|claro|correcto|sì|esatto|giusto|ja graag|klopt|sim|isso|certo".split(
        "|"
    )
)


@dataclass(frozen=True, slots=True)
class Question:
    """`text` was understood but for what was asked. With `call` the question was whether that is meant."""

    text: str
    call: ToolCall | None = None


def is_yes(text: str) -> bool:
    """A plain yes and nothing more: "yes but louder" is another request."""
    return " ".join(re.findall(r"[^\W\d_']+(?:'[^\W\d_]+)?", text.lower())) in _YES


class Asked:
    """One open question a conversation. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[str, tuple[Question, float]] = OrderedDict()

    def note(self, conversation: str, question: Question) -> None:
        """This was asked just now."""
        self._open[conversation] = (question, self._clock())
        self._open.move_to_end(conversation)
        while len(self._open) > _MOST:
            self._open.popitem(last=False)

    def take(self, conversation: str) -> Question | None:
        """What is open, once, if that is not long ago."""
        question, at = self._open.pop(conversation, (None, 0.0))
        return question if self._clock() - at <= _SECONDS else None
