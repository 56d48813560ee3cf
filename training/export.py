"""Write a checkpoint as GGUF: f16 first, then Q8_0 by llama.cpp's own quantizer.

`python -m training.export RUN [--to edged/models/edged-bundled.gguf]`, where RUN is the folder that `training.train` wrote.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from training.model import Shape
from training.tokenizer import SPECIAL

__all__ = ["main"]

_TEMPLATE = Path(__file__).parent / "chat_template.jinja"
_TARGET = Path("edged/models/edged-bundled.gguf")


def write_f16(run: Path, target: Path, shape: Shape) -> None:
    """Tensors and tokenizer of the run in `run`, matrices in f16, the embedding as output matrix too."""
    spec = json.loads((run / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(str(target), "llama")
    _describe(writer, shape)
    _vocabulary(writer, spec["model"])
    for name, tensor in torch.load(run / "checkpoint.pt", map_location="cpu")["model"].items():
        array = tensor.float().numpy()
        writer.add_tensor(name, array.astype(np.float16 if array.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, shape: Shape) -> None:
    writer.add_name("edged-bundled")
    writer.add_description("Chooses a tool and its arguments, or says that none fits; words results.")
    writer.add_license("apache-2.0")
    writer.add_string("edged.dialect", "edged")
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
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    # the template's own comments and line breaks are for readers of the source
    writer.add_chat_template("".join(line.strip() for line in _TEMPLATE.read_text().splitlines()[1:]))


def _vocabulary(writer: Any, model: dict[str, Any]) -> None:
    ids: dict[str, int] = model["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_bos_token_id(ids["<|tools|>"])
    writer.add_eos_token_id(ids["<|end|>"])
    writer.add_pad_token_id(ids["<|pad|>"])
    writer.add_add_bos_token(False)


def quantize(source: Path, target: Path) -> None:
    """Q8_0. Raises RuntimeError when llama.cpp refuses."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    if llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(options)) != 0:
        raise RuntimeError(f"llama.cpp could not quantize {source}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, default=_TARGET)
    options = parser.parse_args()
    middle = options.run / "f16.gguf"
    write_f16(options.run, middle, Shape())
    options.to.parent.mkdir(parents=True, exist_ok=True)
    quantize(middle, options.to)
    print(f"{options.to}: {options.to.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
