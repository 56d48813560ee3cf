"""The byte-level BPE of the bundled model, trained on its own generated text.

The pre-tokenizer is GPT-2's behind a split of every digit, which llama.cpp knows as "smollm", so both make the same ids. A
number or an order code is then copied digit by digit, which a small model does reliably.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.dialect import SPECIAL, answer_text, group_prefix, part_prompt
from training.sentences import Group

__all__ = ["VOCABULARY", "train_tokenizer"]

VOCABULARY = 3072


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
