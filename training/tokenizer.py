"""The byte-level BPE of the bundled model, trained on its own generated text, and the encoding of samples.

The pre-tokenizer is GPT-2's behind a split of every digit, which llama.cpp knows as "smollm", so both make the same ids. A
number or an order code is then copied digit by digit, which a small model does reliably.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.sentences import Group, Part

__all__ = ["SPECIAL", "VOCABULARY", "answer_text", "group_prefix", "part_prompt", "train_tokenizer"]

VOCABULARY = 3072
SPECIAL = (
    "<|pad|>",
    "<|tools|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<tool_call>",
    "</tool_call>",
    "<escalate>",
    "<|tool|>",
)


def group_prefix(group: Group) -> str:
    """What the chat template writes of the tools."""
    return "<|tools|>" + "\n".join(card.line for card in group.cards)


def part_prompt(part: Part) -> str:
    return f"<|user|>{part.sentence}<|assistant|>"


def answer_text(part: Part) -> str:
    """What the model writes to choose."""
    return f"<tool_call>{part.call}</tool_call><|end|>" if part.call else "<escalate><|end|>"


def train_tokenizer(groups: Iterable[Group], count: int = 12_000) -> Tokenizer:
    """Learn the merges from the text of `count` groups."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = (
        group_prefix(group) + "".join(part_prompt(p) + answer_text(p) + p.result + p.wording for p in group.parts)
        for group in itertools.islice(groups, count)
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
