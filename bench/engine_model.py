"""The model of the engine bench: Qwen2.5-0.5B-Instruct's shape, random weights, Qwen2's real tokenizer; made once, then kept.

`python -m bench.engine_model` makes it, in a process of its own: quantizing leaves a gigabyte behind. The tokenizer and the chat
template come from the llama.cpp tree in the sdist of the llama-cpp-python that is installed, and so does the program that writes
GGUF files; the peers are built from the same tree.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import random
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["CACHE", "VERSION", "Agent", "Model", "Texts", "llama_cpp_python", "model", "run_logged"]

CACHE = Path(__file__).parents[1] / ".run" / "bench" / "engine"
VERSION = importlib.metadata.version("llama-cpp-python")

_NAME = "qwen2.5-0.5b-shape"
_LAYERS, _WIDTH, _HEADS, _KV_HEADS, _FFN, _CONTEXT = 24, 896, 14, 2, 4864, 32768
_KV_WIDTH = _WIDTH // _HEADS * _KV_HEADS
_END_OF_TURN = 151645  # <|im_end|>: the instruct models' end token, where the vocabulary file has the base models'
_NORMAL = 1  # a token's type
_SCALE = 0.02  # of an initialised network
# Sharp attention, and little of it: were it even, all tokens would go the same way, and greedy output would run in small circles.
_SCALES = {"attn_q": 3 * _SCALE, "attn_k": 3 * _SCALE, "attn_output": _SCALE / 3}
# Whole words of ASCII letters, with and without the space before them, as byte-level BPE writes it.
_WORD = re.compile("Ġ?[A-Za-z]+")
_COMMON = 12_000  # tokens are numbered by frequency


@dataclass(frozen=True, slots=True)
class Model:
    """A GGUF file. `weights` are the bytes of its tensors; one decode step reads them all, since embeddings and output are tied."""

    path: Path
    weights: int


@dataclass(frozen=True, slots=True)
class Agent:
    """A shared prompt: all that is the same for every request has `prompt_tokens` tokens. Replies have `max_tokens`."""

    name: str
    instructions: str
    prompt_tokens: int
    max_tokens: int = 64

    def messages(self, text: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.instructions}, {"role": "user", "content": text}]


def run_logged(command: list[str], log: Path, title: str) -> None:
    """Run a long step; its output goes to a file. Raises RuntimeError with the file's end."""
    print(f"{title} ...", file=sys.stderr, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        code = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        raise RuntimeError(f"{title} failed:\n{log.read_text(errors='replace')[-2000:]}")


def llama_cpp_python() -> Path:
    """The unpacked sdist of the installed llama-cpp-python; fetched once."""
    folder = CACHE / f"llama_cpp_python-{VERSION}"
    if not folder.exists():
        wanted = ["--no-deps", "--no-binary", "llama-cpp-python", f"llama-cpp-python=={VERSION}"]
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *wanted, "-d", str(CACHE)]
        run_logged(pip, CACHE / "sdist.log", f"the source of llama-cpp-python {VERSION}")
        unpacked = CACHE / "unpacking"
        with tarfile.open(CACHE / f"{folder.name}.tar.gz") as archive:
            archive.extractall(unpacked, filter="data")
        (unpacked / folder.name).rename(folder)
        unpacked.rmdir()
    return folder


def model() -> Model:
    """The cached model, made now if there is none."""
    path, facts = CACHE / f"{_NAME}-q4_k_m.gguf", CACHE / f"{_NAME}-q4_k_m.json"
    if not facts.exists():
        llama_cpp_python()
        run_logged([sys.executable, "-m", "bench.engine_model"], CACHE / "model.log", "the bench model")
    return Model(path, json.loads(facts.read_text())["weights"])


class Texts:
    """Prompts of common English words with exact numbers of tokens, by the model's own tokenizer and template."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _vocabulary(self) -> Any:
        import llama_cpp

        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept: native code holds a pointer
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p())
        return llama_cpp.Llama(str(self._path), vocab_only=True, verbose=False)

    @cached_property
    def _words(self) -> list[str]:
        pieces = (self._vocabulary.detokenize([token]).decode(errors="replace") for token in range(_COMMON))
        return [piece for piece in pieces if re.fullmatch(" [a-z]{3,9}", piece)]

    def count(self, text: str) -> int:
        return len(self._vocabulary.tokenize(text.encode(), add_bos=False, special=True))

    def text(self, tokens: int, seed: str) -> str:
        """`tokens` tokens; another `seed`, other words."""
        chosen = random.Random(seed)
        # Every word is one token with its space; the first has none, so it is one that is a token without it.
        words = ["Please", *(chosen.choice(self._words) for _ in range(tokens - 1))]
        text = "".join(words)
        if self.count(text) != tokens:
            raise RuntimeError(f"the text has {self.count(text)} tokens, not {tokens}")
        return text

    def agent(self, name: str, tokens: int, seed: str, max_tokens: int = 64) -> Agent:
        """An agent whose prompt up to the caller's first word has `tokens` tokens."""
        around = self.count("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n")
        return Agent(name, self.text(tokens - around, seed), tokens, max_tokens)


def _make() -> None:
    """Write the float model, quantize it, and note what it weighs."""
    tree = llama_cpp_python() / "vendor" / "llama.cpp"
    sys.path.insert(0, str(tree / "gguf-py"))
    import gguf

    rough, made = CACHE / f"{_NAME}-f16.gguf", CACHE / f"{_NAME}-q4_k_m.gguf"
    _write(gguf, tree, rough)
    _quantize(rough, made)
    rough.unlink()
    weights = sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(made).tensors)
    made.with_suffix(".json").write_text(json.dumps({"weights": weights}))


def _quantize(source: Path, target: Path) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    status = llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params))
    if status != 0:
        raise RuntimeError(f"llama_model_quantize returned {status}")


def _write(gguf: Any, tree: Path, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name(f"{_NAME}, random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FFN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    vocabulary = gguf.GGUFReader(tree / "models" / "ggml-vocab-qwen2.gguf").fields
    tokens = _add_tokenizer(writer, vocabulary, tree)
    _add_weights(writer, tokens, vocabulary["tokenizer.ggml.token_type"].contents())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, vocabulary: Any, tree: Path) -> list[str]:
    """The file has all 151,936 entries of the real one, the unused ones as [PAD...]. Returns the tokens as GGUF spells them."""
    tokens: list[str] = vocabulary["tokenizer.ggml.tokens"].contents()
    writer.add_tokenizer_model(vocabulary["tokenizer.ggml.model"].contents())
    writer.add_tokenizer_pre(vocabulary["tokenizer.ggml.pre"].contents())
    writer.add_token_list(tokens)
    writer.add_token_types(vocabulary["tokenizer.ggml.token_type"].contents())
    writer.add_token_merges(vocabulary["tokenizer.ggml.merges"].contents())
    writer.add_bos_token_id(vocabulary["tokenizer.ggml.bos_token_id"].contents())
    writer.add_pad_token_id(vocabulary["tokenizer.ggml.padding_token_id"].contents())
    writer.add_eos_token_id(_END_OF_TURN)
    writer.add_add_bos_token(False)
    writer.add_chat_template((tree / "models" / "templates" / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text())
    return tokens


def _add_weights(writer: Any, tokens: list[str], types: list[int]) -> None:
    """Random, as an initialised network has them, and the same each time.

    Embeddings of what is no plain word are small: such a token is never the likeliest. So no output ends before its limit, and
    no piece of text waits for the rest of its character.
    """
    import numpy as np

    random_state = np.random.default_rng(0)

    def normal(*shape: int, scale: float = _SCALE) -> Any:
        return random_state.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    words = [kind == _NORMAL and _WORD.fullmatch(token) is not None for token, kind in zip(tokens, types, strict=True)]
    scales = np.where(words, 1.0, 0.1).astype(np.float32)
    writer.add_tensor("token_embd.weight", (normal(len(tokens), _WIDTH) * scales[:, None]).astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    shapes = {
        "attn_q": (_WIDTH, _WIDTH),
        "attn_k": (_KV_WIDTH, _WIDTH),
        "attn_v": (_KV_WIDTH, _WIDTH),
        "attn_output": (_WIDTH, _WIDTH),
        "ffn_gate": (_FFN, _WIDTH),
        "ffn_up": (_FFN, _WIDTH),
        "ffn_down": (_WIDTH, _FFN),
    }
    for layer in range(_LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
        for name, (rows, columns) in shapes.items():
            weights = normal(rows, columns, scale=_SCALES.get(name, _SCALE))
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights.astype(np.float16))
        for name in ("attn_q", "attn_k", "attn_v"):
            writer.add_tensor(f"blk.{layer}.{name}.bias", normal(shapes[name][0]))


if __name__ == "__main__":
    _make()
