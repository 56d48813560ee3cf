"""Takes personal numbers and addresses out of what goes to the cloud, and puts them back into what returns. Pure.

A placeholder such as `[EMAIL_1]` stands for the same value everywhere in one conversation, numbered in order of first
appearance: the next step of the same request repeats the same prefix, so it hits the provider's prompt cache and the
same idempotency key. A placeholder that a caller typed literally is never used, so restoring cannot put one caller's
value where a text merely looked like a placeholder.

This is a net with known holes, not a guarantee: names and street addresses pass. An agent whose texts must not leave is
`local_only`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edged.domain.errors import ConfigError

__all__ = ["KINDS", "Redactor"]

_EMAIL = re.compile(r"[\w.+%-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
# International, national with a leading 0, and the North American forms. Dates, times and prices must pass.
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d(?:[ ().-]{0,2}\d){7,14}"
    r"|\(?0\d{1,4}\)?(?:[ /-]{0,2}\d){6,10}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}"
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}"
    r")(?![\w-]|[.:/]\d)"
)
# In this order: a card number's digits also look like a telephone's.
_PATTERNS: Mapping[str, re.Pattern[str]] = {"email": _EMAIL, "card": _CARD, "phone": _PHONE}
_PLACEHOLDER = re.compile(r"\[(?:EMAIL|CARD|PHONE)_\d{1,6}\]")

KINDS: tuple[str, ...] = tuple(_PATTERNS)


def _luhn(digits: str) -> bool:
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


class Redactor:
    """The values hidden in one conversation. `texts` is everything that will be sent, to know which placeholders are taken.

    `kinds` are from `KINDS`; an unknown one is a ConfigError. Not shared between requests.
    """

    def __init__(self, kinds: Sequence[str], texts: Sequence[str] = ()) -> None:
        if unknown := [kind for kind in kinds if kind not in _PATTERNS]:
            raise ConfigError(f"redact: unknown kind {unknown[0]!r}; known: {', '.join(KINDS)}", key="redact")
        self._kinds = tuple(kind for kind in KINDS if kind in kinds)
        self._taken = {match for text in texts for match in _PLACEHOLDER.findall(text)}
        self._by_value: dict[tuple[str, str], str] = {}
        self._by_placeholder: dict[str, str] = {}

    @property
    def hidden(self) -> int:
        """How many distinct values are hidden."""
        return len(self._by_placeholder)

    def hide(self, text: str) -> str:
        for kind in self._kinds:
            text = _PATTERNS[kind].sub(lambda match, kind=kind: self._replace(kind, match.group()), text)  # type: ignore[misc]
        return text

    def restore(self, text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: self._by_placeholder.get(match.group(), match.group()), text)

    def hide_in(self, value: Any) -> Any:
        """The same in every string of a JSON value (the arguments of a call); keys are names and stay."""
        return _walk(value, self.hide)

    def restore_in(self, value: Any) -> Any:
        return _walk(value, self.restore)

    def _replace(self, kind: str, value: str) -> str:
        if kind == "card" and not _luhn(re.sub(r"\D", "", value)):
            return value
        if (known := self._by_value.get((kind, value))) is not None:
            return known
        number = 1
        while (placeholder := f"[{kind.upper()}_{number}]") in self._taken:
            number += 1
        self._taken.add(placeholder)
        self._by_value[kind, value] = placeholder
        self._by_placeholder[placeholder] = value
        return placeholder


def _walk(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _walk(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, change) for item in value]
    return value
