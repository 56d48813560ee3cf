"""A packed row computes what its samples compute alone. Runs where the training's libraries are installed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from training.sentences import Sentences
    from training.tokenizer import train_tokenizer

    return train_tokenizer(Sentences().groups(1), 300)


def test_a_part_of_a_row_gets_the_logits_it_gets_alone(tokenizer: Any) -> None:
    from training.batches import batches
    from training.model import LlamaModel, Shape

    torch.manual_seed(1)
    model = LlamaModel(Shape(width=64, layers=2, heads=2, ffn=96)).eval()
    batch = next(batches(3, tokenizer, 3, 512))
    with torch.no_grad():
        packed = model(batch.ids, batch.positions, batch.mask())
        for row in range(3):
            group, part = batch.groups[row], batch.parts[row]
            for number in part[group == 1].unique()[1:]:
                at = ((group == 1) & ((part == 0) | (part == number))).nonzero()[:, 0]
                length = len(at)
                assert batch.positions[row, at].tolist() == list(range(length))
                plain = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
                alone = model(batch.ids[row : row + 1, at], torch.arange(length)[None], plain)
                assert torch.allclose(packed[row, at], alone[0], atol=1e-5)


def test_what_counts_is_what_the_model_writes(tokenizer: Any) -> None:
    from training.batches import encode_part
    from training.dialect import answer_text
    from training.sentences import Sentences

    for group in itertools.islice(Sentences().groups(2), 60):
        for part in group.parts:
            ids, weights = encode_part(tokenizer, part)
            heavy = [i for i, w in zip(ids, weights, strict=True) if w == 1.0]
            counted = tokenizer.decode(heavy, skip_special_tokens=False)
            call = answer_text(part).removesuffix("<|end|>") if part.wording else answer_text(part)
            assert counted == call + (f"{part.wording}<|end|>" if part.wording else "")
