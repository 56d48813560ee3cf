"""What is on disk of an encoder: facts, a stamp that tells of changes, a digest that tells which vectors can be compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edged.domain.errors import ModelBroken
from edged.engine.encoders import describe_encoder, need_of_encoder, stamp_of_encoder


def encoder(folder: Path, body: bytes = b"weights", **facts: object) -> Path:
    folder.mkdir()
    (folder / "encoder.onnx").write_bytes(body)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.json").write_text(json.dumps({"width": 384, "longest": 512, **facts}))
    return folder


def test_the_bundled_one() -> None:
    facts = describe_encoder("bundled")
    assert (facts.n_embd, facts.context_length, facts.quantization) == (384, 512, "int8")
    assert facts.file_bytes < need_of_encoder(facts) < 256 << 20


def test_a_digest_is_of_what_is_in_the_files(tmp_path: Path) -> None:
    one, same, other = (encoder(tmp_path / name, body) for name, body in (("a", b"w"), ("b", b"w"), ("c", b"v")))
    os.utime(same / "encoder.onnx", (1, 1))
    digests = [describe_encoder(str(folder)).digest for folder in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_replaced_file_changes_the_stamp(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "a")
    before = stamp_of_encoder(str(folder))
    (folder / "reader.onnx").write_bytes(b"later")
    assert stamp_of_encoder(str(folder)) != before


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json", "model.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = encoder(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(ModelBroken, match=name):
        describe_encoder(str(folder))
    with pytest.raises(ModelBroken, match=name):
        stamp_of_encoder(str(folder))


@pytest.mark.parametrize("text", ["", "[]", '{"width": 384}', '{"width": "wide", "longest": 512}'])
def test_facts_that_are_none(tmp_path: Path, text: str) -> None:
    folder = encoder(tmp_path / "a")
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelBroken, match=r"model\.json"):
        describe_encoder(str(folder))
