"""Checkpoint to what the daemon ships: `python -m training.intent.export --encoder FOLDER CHECKPOINT [--out edged/models/intent]`.

ONNX graphs with int8 weights, the encoder and the reader in three parts, and the word pieces. The encoder's matrices have
a scale a block of 128 and its activations too, and word vectors a scale each, so that its vectors stay those of the float model,
whatever they are batched with. The reader's matrices have a scale a column, and its activations one a run: half the time, and no
worse at choosing.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from training.intent.network import POSITIONS, WIDTH, Encoder, Reader, read_weights
from training.intent.rows import Groups, read_fields

__all__ = ["export"]

_OPSET = 17
_BLOCK = 128
_USUAL = 48  # sentences


class _Words(nn.Module):
    """Word vectors as int8 with a scale a row."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        self.register_buffer("table", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table[ids].to(torch.float32) * self.scale[ids]  # type: ignore[index,operator]


class _Encoding(nn.Module):
    """ids, mask, kind (B, S) -> states and tops (B, S, WIDTH), vector (B, WIDTH)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.words = _Words(encoder.words.weight.detach())  # type: ignore[assignment]

    def forward(self, ids: Tensor, mask: Tensor, kind: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, tops, vector = self.encoder(ids, mask, kind)
        return states, tops, vector


class _Ground(nn.Module):
    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, states: Tensor, tops: Tensor) -> Tensor:
        return self.reader.ground(states, tops)


class _First(nn.Module):
    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, ground: Tensor, mask: Tensor, said: Tensor, same: Tensor) -> tuple[Tensor, ...]:
        return self.reader.first(ground, mask, said, same)


class _Second(nn.Module):
    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, states: Tensor, mask: Tensor, markers: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        return self.reader.second(states, mask, markers, places)


def export(encoder: Encoder, reader: Reader, tokenizer: Path, out: Path) -> None:
    """Write encoder.onnx, ground.onnx, glance.onnx, reader.onnx, tokenizer.json, usual.txt and model.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    batch, sentence = "rows", "tokens"
    ids = torch.ones(2, 7, dtype=torch.long)
    names = ["ids", "mask", "kind"]
    outputs = ["states", "tops", "vector"]
    axes = {name: {0: batch, 1: sentence} for name in [*names, *outputs]} | {"vector": {0: batch}}
    _write(_Encoding(encoder), (ids, ids, ids * 0), names, outputs, axes, out / "encoder.onnx", blocks=True)
    states, mask = torch.randn(3, 9, WIDTH), torch.ones(3, 9, dtype=torch.long)
    axes["ground"] = axes["states"]
    _write(_Ground(reader), (states, states), ["states", "tops"], ["ground"], axes, out / "ground.onnx")
    names, outputs = ["ground", "mask", "said", "same"], ["states", "act", "part"]
    axes = {name: {0: batch, 1: sentence} for name in (*names, *outputs)} | {"act": {0: batch}, "part": {0: batch}}
    said = (torch.arange(9) < 4).long().expand(3, -1)
    _write(_First(reader), (states, mask, said, said), names, outputs, axes, out / "glance.onnx")
    names = ["states", "mask", "markers", "places"]
    outputs = ["act", "part", "start", "end", "inside", "absent", "option"]
    axes = axes | {
        "places": {0: batch, 1: "places"},
        **{name: {0: batch, 1: "slots"} for name in ("markers", "absent")},
        **{name: {0: batch, 1: "slots", 2: "places"} for name in ("start", "end", "inside")},
        "option": {0: batch, 1: "places"},
    }
    markers, places = torch.tensor([[5, 6]] * 3), torch.tensor([[0, 1, 2, 3, 4, 6, 7]] * 3)
    _write(_Second(reader), (states, mask, markers, places), names, outputs, axes, out / "reader.onnx")
    shutil.copy(tokenizer, out / "tokenizer.json")
    (out / "usual.txt").write_text("\n".join(_usual()) + "\n")
    facts = {"name": "edged-intent", "width": WIDTH, "longest": POSITIONS, "quantization": "int8"}
    (out / "model.json").write_text(json.dumps(facts, indent=1) + "\n")


def _usual() -> list[str]:
    """What people ask of tools, one sentence of each field: `edged/workers/shortlist.py` compares with it."""
    rng, fields = random.Random(5), [field for field in read_fields() if field.name != "shipped"]
    groups = Groups.load(fields, {})
    tools = [rng.choice(field.tools) for field in fields for _ in range(-(-_USUAL // len(fields)))]
    return [groups.say(rng, tool.params, rng.choice(tool.asks)) for tool in tools][:_USUAL]


def _write(
    module: nn.Module,
    example: tuple[Tensor, ...],
    names: list[str],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
    to: Path,
    *,
    blocks: bool = False,
) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        with torch.no_grad():
            torch.onnx.export(
                module.eval(), example, str(plain), input_names=names, output_names=outputs, dynamic_axes=axes,
                opset_version=_OPSET, dynamo=False, do_constant_folding=True,
            )  # fmt: skip
        if blocks:
            config = DefaultWeightOnlyQuantConfig(block_size=_BLOCK, is_symmetric=True, accuracy_level=4, bits=8)
            quantizer = MatMulNBitsQuantizer(onnx.load(plain), algo_config=config)
            quantizer.process()
            quantizer.model.save_model_to_file(str(to), False)
            return
        quantize_dynamic(plain, to, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--encoder", type=Path, required=True, help="folder with model.safetensors and tokenizer.json")
    parser.add_argument("--out", type=Path, default=Path("edged/models/intent"))
    options = parser.parse_args()
    encoder = read_weights(options.encoder / "model.safetensors")
    reader = Reader(encoder)
    reader.load_state_dict(torch.load(options.checkpoint))
    export(encoder, reader.eval(), options.encoder / "tokenizer.json", options.out)


if __name__ == "__main__":
    main()
