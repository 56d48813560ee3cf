"""Finding the mode in which a model survives, with children that really crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edged.domain.errors import ModelBroken
from edged.engine.catalog import ModelFacts, describe
from edged.engine.proof import MODES, Prover, cpu_digest

from .conftest import MakePool, ask
from .gguf_header import write

CRASH = "crash"


def model(tmp_path: Path, script: dict[str, Any]) -> tuple[ModelFacts, dict[str, Any], Path]:
    file = write(tmp_path / "m.gguf")
    file.with_suffix(".json").write_text(json.dumps(script))
    return describe(str(file)), {"path": str(file)}, file.with_suffix(".log")


@pytest.mark.parametrize(
    ("script", "mode", "tried"),
    [
        ({}, "default", {"default": "ok"}),
        ({"prove": {"default": CRASH}}, "no_extra_buffers", {"default": "SIGSEGV", "no_extra_buffers": "ok"}),
        (
            {"prove": {"default": CRASH, "no_extra_buffers": "bug"}},
            "one_thread",
            {"default": "SIGSEGV", "no_extra_buffers": "RuntimeError: a bug", "one_thread": "ok"},
        ),
        ({"load": {"default": CRASH}}, "no_extra_buffers", {"default": "SIGSEGV", "no_extra_buffers": "ok"}),
        ({"prove": {"default": "hang"}}, "no_extra_buffers", {"default": "no answer in 1 s", "no_extra_buffers": "ok"}),
    ],
)
async def test_the_first_mode_that_survives(
    tmp_path: Path, worker: str, script: dict[str, Any], mode: str, tried: dict[str, str]
) -> None:
    facts, load, _ = model(tmp_path, script)
    prover = Prover(tmp_path / "state", worker, seconds=1.0, wall=lambda: 1234.0)
    assert await prover.mode(facts, load) == mode
    proof = prover.proofs()[0]
    assert (proof["mode"], proof["tried"], proof["at"]) == (mode, tried, 1234.0)


async def test_a_proof_is_remembered_over_restarts(tmp_path: Path, worker: str) -> None:
    facts, load, log = model(tmp_path, {"prove": {"default": CRASH}})
    state = tmp_path / "state"
    await Prover(state, worker).mode(facts, load)
    before = log.read_text()
    later = Prover(state, worker)
    assert later.known(facts.digest) == "no_extra_buffers"
    assert await later.mode(facts, load) == "no_extra_buffers"
    assert log.read_text() == before
    later.forget(facts.digest)
    assert Prover(state, worker).known(facts.digest) is None


@pytest.mark.parametrize("key", ["digest", "engine", "cpu"])
async def test_another_file_engine_or_cpu_is_proven_anew(tmp_path: Path, worker: str, key: str) -> None:
    facts, load, _ = model(tmp_path, {})
    state = tmp_path / "state"
    await Prover(state, worker).mode(facts, load)
    proofs = json.loads((state / "proofs.json").read_text())
    proofs[0][key] = "other"
    (state / "proofs.json").write_text(json.dumps(proofs))
    assert Prover(state, worker).known(facts.digest) is None


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"a": 1}', '[{"digest": "x", "mode": "rm -rf"}]'])
def test_a_damaged_file_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "proofs.json").write_text(content)
    assert Prover(tmp_path, "x").proofs() == []


async def test_none_survives(tmp_path: Path, worker: str) -> None:
    facts, load, log = model(tmp_path, {"prove": CRASH})
    prover = Prover(tmp_path / "state", worker)
    with pytest.raises(ModelBroken) as broken:
        await prover.mode(facts, load)
    assert broken.value.fields["tried"] == dict.fromkeys(MODES, "SIGSEGV")
    assert prover.proofs() == []
    assert log.read_text().split("\n")[1::2] == [f"prove {m}" for m in MODES]


async def test_the_pool_serves_in_the_proven_mode(tmp_path: Path, make_pool: MakePool) -> None:
    async with make_pool("a", script={"prove": {"default": CRASH}}) as pool:
        assert (await pool.generate(ask("ok"))).text == "ab ok"
        assert pool.status()[0]["mode"] == "no_extra_buffers"
        assert pool.status()[0]["restarts"] == 0  # the throw-away child is no crash of the model
    assert (tmp_path / "a.log").read_text().splitlines()[-1] == "load no_extra_buffers"


def test_cpu_digest(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor: 0\nflags\t\t: b a\n\nprocessor: 1\nflags\t\t: b a\n")
    first = cpu_digest(info)
    info.write_text("processor: 7\nflags\t\t: a b\n")
    assert cpu_digest(info) == first
    info.write_text("Features\t: asimd\n")
    assert cpu_digest(info) != first
    assert cpu_digest(tmp_path / "none") == "unknown"
