"""The surface of sentences: politeness, fillers, capitals, punctuation, typing mistakes. Pure but for the given generator.

All functions take and return templates whose slots still stand in braces, so no argument is ever altered.
"""

from __future__ import annotations

import random
import re

__all__ = ["dress", "mistype"]

_BEFORE = (
    "please|can you|could you|would you|hey,|hi,|hello,|hi there,|good morning,|good evening,|excuse me,|ok,|okay,|so,|uh,|um,|"
    "well,|right,|now|quick,|listen,|sorry,|i need you to|i want you to|i would like you to|i'd like you to|can you please|"
    "could you please|would you mind and|be so kind and|do me a favour and|quick question:|one thing:|next:|also,|and|then|"
    "for me:|edge,|computer,|assistant,|hey assistant,|ok box,|would it be possible to|any chance you could|maybe you can|"
    "kindly|if you can,|when you have a second,|before i forget,|my question is:|tell me,|just|yes,|no wait,|alright,"
).split("|")
_AFTER = (
    "please|now|thanks|thank you|right away|for me|if you can|if possible|would you|will you|ok|okay|asap|quickly|right now|"
    "when you can|thanks a lot|cheers|please and thank you|if you don't mind|would be great|that would help|i am in a hurry|"
    "i need to know|it is urgent|today|again|as usual|and that's all|for a start|for the customer here|for my colleague"
).split("|")
_PREFACE = (
    "i just came in|we are very busy today|there is a customer waiting|it is early|my boss asked me|i forgot my glasses|"
    "the queue is long|i hope you can help|this is my first day here|we are about to close|i have my hands full|"
    "nobody else is here|i'm on the phone|somebody asked me this|it has been a long day|we had a visitor this morning|"
    "i can't find my notes|the shift has just changed|my phone is empty|it is getting late|the delivery was late|"
    "i am standing at the counter|we opened an hour ago|the weather is awful|i am driving|my hands are wet|"
    "i had asked already|let me try this|there is some noise here|one more thing"
).split("|")
_LOOSE = (
    (r"\bwhat is\b", "what's"),
    (r"\bwhat's\b", "what is"),
    (r"\bi am\b", "i'm"),
    (r"\bi'm\b", "i am"),
    (r"\bhow much is\b", "how much's"),
    (r"\bplease\b", "pls"),
    (r"\bdo not\b", "don't"),
    (r"\bcannot\b", "can't"),
    (r"\bdo you have\b", "have you got"),
    (r"\bi would like\b", "i'd like"),
    (r"\bi want\b", "i wanna"),
    (r"\byou\b", "u"),
)
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_PIECE = re.compile(r"\{\w+\}|[^{}]+")


def dress(rng: random.Random, template: str) -> str:
    """One of the many ways in which people type or say the sentence `template`."""
    if rng.random() < 0.12:
        pattern, instead = rng.choice(_LOOSE)
        template = re.sub(pattern, instead, template)
    if rng.random() < 0.05:
        template = re.sub(r"\b(the|a|an) ", "", template)
    if rng.random() < 0.24:
        template = f"{rng.choice(_BEFORE)} {template}"
    if rng.random() < 0.16:
        template = f"{template.rstrip('?')}{',' if rng.random() < 0.3 else ''} {rng.choice(_AFTER)}"
    if rng.random() < 0.06:
        template = f"{rng.choice(_PREFACE)}{rng.choice(['. ', ', ', ' - ', ' so '])}{template}"
    if rng.random() < 0.07:
        template = mistype(rng, template)
    return _punctuate(rng, template)


def _punctuate(rng: random.Random, text: str) -> str:
    if rng.random() < 0.35 and not text.startswith("{"):
        text = text[0].upper() + text[1:]
        text = re.sub(r"\bi\b(?![^{]*\})", "I", text)
    chance = rng.random()
    if chance < 0.25 and text[-1] not in "?!.":
        text += rng.choice(".....!?")
    elif chance < 0.5:
        text = text.rstrip("?!.")
    if rng.random() < 0.02:
        text = text.replace(" ", "  ", 1)
    return text


def mistype(rng: random.Random, template: str) -> str:
    """One or two slips of the keys in the words outside of slots."""
    pieces = _PIECE.findall(template)
    words = [i for i, piece in enumerate(pieces) if piece[0] != "{" and re.search(r"[a-z]{4}", piece)]
    for _ in range(rng.choice((1, 1, 2))):
        if words:
            at = rng.choice(words)
            pieces[at] = _slip(rng, pieces[at])
    return "".join(pieces)


def _slip(rng: random.Random, text: str) -> str:
    spots = [found.start() for found in re.finditer(r"(?<=[a-z])[a-z](?=[a-z])", text)]
    if not spots:
        return text
    i, kind = rng.choice(spots), rng.random()
    if kind < 0.3:
        return text[:i] + text[i + 1 :]
    if kind < 0.55:
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind < 0.75:
        return text[:i] + text[i] + text[i:]
    row = next(row for row in _KEYS if text[i] in row)
    near = row[max(0, min(len(row) - 1, row.index(text[i]) + rng.choice((-1, 1))))]
    return text[:i] + near + text[i + 1 :]
