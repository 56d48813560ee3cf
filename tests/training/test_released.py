"""A released reader gives back the weights it was exported from, but for what int8 rounds away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_a_released_reader_can_be_trained_on(tmp_path: Path) -> None:
    from training.intent.export import export
    from training.intent.network import Encoder, Reader
    from training.intent.released import reader_weights

    torch.manual_seed(3)
    encoder = Encoder().eval()
    reader = Reader(encoder)
    for p in reader.parameters():  # norms and zeros too: nothing may be right by being as it begins
        p.data.add_(0.02 * torch.randn_like(p))
    told = {name: weights.clone() for name, weights in reader.state_dict().items()}
    (tmp_path / "tokenizer.json").write_text("{}")
    export(encoder, reader.eval(), tmp_path / "tokenizer.json", tmp_path / "released")
    found = reader_weights(tmp_path / "released")
    assert set(found) == set(told)
    for name, weights in told.items():
        step = weights.abs().max() / 127
        assert (found[name] - weights).abs().max() <= 0.51 * step, name
