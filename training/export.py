"""Write a run's checkpoint as GGUF with 8-bit matrices: `python -m training.export RUN [--to FILE]`.

The file carries all that serving needs: the tokenizer, the chat template, and under `edged.dialect` how calls are written.
Rows are multiples of 32 wide, so every matrix can be Q8_0; norms stay f32. The output matrix is the embedding's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import torch

from training.dialect import SPECIAL
from training.model import Shape

__all__ = ["export"]

_TEMPLATE = Path(__file__).parent / "chat_template.jinja"
_TARGET = Path("edged/models/edged-bundled.gguf")


def export(run: Path, target: Path) -> None:
    """`run` is the folder that `training.train` wrote. `target` is replaced whole: a reader never sees half a file."""
    weights = torch.load(run / "checkpoint.pt", map_location="cpu")["model"]
    tokenizer = json.loads((run / "tokenizer.json").read_text())
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    writer = gguf.GGUFWriter(draft, "llama")
    _describe(writer, Shape())
    _vocabulary(writer, tokenizer["model"])
    for name, tensor in weights.items():
        values = tensor.float().numpy()
        kind = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    draft.replace(target)


def _describe(writer: Any, shape: Shape) -> None:
    writer.add_name("edged-bundled")
    writer.add_description("Chooses a tool and its arguments, or says that none fits; words results.")
    writer.add_license("apache-2.0")
    writer.add_string("edged.dialect", "edged")
    writer.add_chat_template(_TEMPLATE.read_text())
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def _vocabulary(writer: Any, model: dict[str, Any]) -> None:
    ids: dict[str, int] = model["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # every digit by itself, then GPT-2's pattern, as the tokenizer was trained
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(ids["<|tools|>"])
    writer.add_eos_token_id(ids["<|end|>"])
    writer.add_pad_token_id(ids["<|pad|>"])
    writer.add_add_bos_token(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, default=_TARGET)
    options = parser.parse_args()
    export(options.run, options.to)
    print(f"{options.to}: {options.to.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
