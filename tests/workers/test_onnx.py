"""The real worker process with the bundled encoder and reader."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.domain.errors import ModelBroken
from edged.ipc.channel import ChannelClosed
from edged.ipc.process import Child

MODULE = "edged.workers.onnx"
BUNDLED = Path(__file__).parents[2] / "edged" / "models" / "intent"


def slot(text: str, kind: str, choices: Sequence[str] = (), values: Sequence[str] = ()) -> dict[str, Any]:
    return {"text": text, "choices": list(choices), "kind": kind, "values": list(values), "most": None}


TOOLS: list[dict[str, Any]] = [
    {
        "head": "switch light : turn a light on or off",
        "slots": [slot("room text", "list", values=["attic", "hall"]), slot("state", "option", ["on", "off"])],
        "about": "turn a light on or off",
        "examples": ["lights on in the hall"],
    },
    {
        "head": "start timer : start a timer",
        "slots": [slot("minutes number", "integer")],
        "about": "start a timer",
        "examples": [],
    },
    {"head": "tell time : tell the time", "slots": [], "about": "tell the time", "examples": []},
]


@pytest.fixture
async def child() -> AsyncIterator[Child]:
    async with Child(MODULE) as child:
        await child.call("load", {"path": str(BUNDLED), "threads": 1})
        yield child


async def vectors(child: Child, texts: list[str]) -> Any:
    found = await child.call("embed", {"texts": texts})
    return np.frombuffer(found["vectors"], "<f4").reshape(len(texts), found["width"])


async def test_vectors_are_unit_and_mean_something(child: Child) -> None:
    near, like, far = await vectors(child, ["turn on the light", "switch the lamp on", "my invoice is wrong"])
    assert np.linalg.norm(near) == pytest.approx(1.0, abs=1e-3)
    assert near @ like > near @ far + 0.2


async def test_a_batch_does_not_change_its_members(child: Child) -> None:
    texts = ["hi", "a much longer sentence about nothing in particular at all", "turn on the light"]
    together, alone = await vectors(child, texts), [(await vectors(child, [text]))[0] for text in texts]
    assert min(float(a @ b) for a, b in zip(together, alone, strict=True)) > 0.98  # int8 scales are a batch's


async def test_any_text_can_be_embedded(child: Child) -> None:
    assert np.isfinite(
        await vectors(child, ["", " ", "[CLS] [SEP] [MASK]", "ж" * 5000, "word " * 3000, "\x00\ufffd🙂"])
    ).all()
    assert (await child.call("embed", {"texts": []}))["width"] == 0


async def test_tools_are_taught_once_and_sentences_read(child: Child) -> None:
    asked: dict[str, Any] = {"text": "switch the light in the attic off", "key": "k", "most": 2}
    assert await child.call("understand", asked) == {"known": False}
    await child.call("teach", {"key": "k", "tools": TOOLS})
    seen = await child.call("understand", asked)
    first = seen["tools"][0]
    assert seen["known"] and not seen["cut"] and len(seen["tools"]) == 1  # it is clear: nothing else is looked at
    assert first["index"] == 0 and first["llr"] > 0 and len(first["slots"]) == 2
    assert sum(first["slots"][1]["options"]) == pytest.approx(1.0, abs=1e-3)
    assert all(0 <= a < b <= len(asked["text"]) for a, b, _, _ in first["slots"][0]["spans"])
    assert first["slots"][0]["spans"][0][3] == ["attic"]
    assert first["slots"][0]["stated"] == [[24, 29, ["attic"]]]


async def test_as_many_are_looked_at_as_may_be_meant(child: Child) -> None:
    await child.call("teach", {"key": "k", "tools": TOOLS})
    seen = await child.call("understand", {"text": "the attic please", "key": "k", "most": 2})
    first, second = seen["tools"]
    assert first["index"] == 0 and first["llr"] > 0 == second["llr"]


async def test_pointed_words_come_with_their_value(child: Child) -> None:
    await child.call("teach", {"key": "k", "tools": TOOLS})
    seen = await child.call("understand", {"text": "give me half an hour on the timer", "key": "k", "most": 1})
    minutes = seen["tools"][0]["slots"][0]
    assert minutes["spans"][0][3] == [30]
    assert [values for *_, values in minutes["stated"]] == [[30]]


async def test_half_an_hour_is_thirty_minutes(child: Child) -> None:
    """Whichever unit the reader takes: the number is counted in it."""
    slots = [slot("amount number", "number"), slot("unit", "option", ["seconds", "minutes", "hours"])]
    timer = {**TOOLS[1], "slots": slots}
    await child.call("teach", {"key": "k", "tools": [timer]})
    seen = await child.call("understand", {"text": "start a timer for half an hour", "key": "k", "most": 1})
    amount, unit = seen["tools"][0]["slots"]
    chosen = max(range(3), key=unit["options"].__getitem__)
    assert amount["spans"][0][3] == [(1800, 30, 0.5)[chosen]]


async def test_a_sentence_is_read_the_same_beside_other_tools(child: Child) -> None:
    asked = {"text": "start a timer for 5 minutes", "most": 4}
    await child.call("teach", {"key": "one", "tools": TOOLS[1:2]})
    await child.call("teach", {"key": "all", "tools": TOOLS})
    [alone] = (await child.call("understand", {**asked, "key": "one"}))["tools"]
    among = next(t for t in (await child.call("understand", {**asked, "key": "all"}))["tools"] if t["index"] == 1)
    assert among["act"] == pytest.approx(alone["act"], abs=1e-3)


async def test_a_long_sentence_says_that_it_was_cut(child: Child) -> None:
    await child.call("teach", {"key": "k", "tools": TOOLS})
    assert (await child.call("understand", {"text": "light on " * 200, "key": "k", "most": 3}))["cut"]


async def test_what_is_taught_has_a_limit(child: Child) -> None:
    for number in range(20):
        await child.call("teach", {"key": str(number), "tools": TOOLS[2:]})
    asked = {"text": "what time is it", "most": 1}
    assert (await child.call("understand", {**asked, "key": "0"})) == {"known": False}
    assert (await child.call("understand", {**asked, "key": "19"}))["known"]


def broken(tmp_path: Path, name: str, content: bytes | None) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", ["encoder.onnx", "ground.onnx", "glance.onnx", "reader.onnx", "tokenizer.json"])
@pytest.mark.parametrize("how", ["truncated", "noise", "empty"])
async def test_a_broken_file_is_named(tmp_path: Path, name: str, how: str) -> None:
    whole = (BUNDLED / name).read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "noise": bytes(range(256)) * 40, "empty": b""}[how]
    async with Child(MODULE) as child:
        with pytest.raises(ModelBroken, match=name):
            await child.call("load", {"path": str(broken(tmp_path, name, content)), "threads": 1})


async def test_a_file_that_lies_about_what_it_is(tmp_path: Path) -> None:
    folder = broken(tmp_path, "reader.onnx", (BUNDLED / "encoder.onnx").read_bytes())
    async with Child(MODULE) as child:
        with pytest.raises(ModelBroken, match=r"reader\.onnx"):
            await child.call("load", {"path": str(folder), "threads": 1})
    words = json.loads((BUNDLED / "tokenizer.json").read_text())
    words["model"]["vocab"] |= {f"extra{i}": 30522 + i for i in range(9)}
    words["model"]["vocab"] = {k: v + 30000 for k, v in words["model"]["vocab"].items()}
    folder = tmp_path / "other"
    shutil.copytree(BUNDLED, folder)
    (folder / "tokenizer.json").write_text(json.dumps(words))
    async with Child(MODULE) as child:
        with pytest.raises(ModelBroken, match="tokenizer"):
            await child.call("load", {"path": str(folder), "threads": 1})


async def test_vectors_are_held_and_searched(child: Child) -> None:
    rows = np.eye(3, 8, dtype=np.int8) * 127
    ids = np.array([4, 7, 9], np.int64)
    wanted = {"key": "notes", "vector": rows[1].astype("<f4").tobytes(), "k": 1}
    assert await child.call("search", {**wanted, "stamp": [9, 3]}) == {"known": False, "stamp": [0, 0]}
    held = await child.call("hold", {"key": "notes", "after": 0, "ids": ids.tobytes(), "rows": rows.tobytes()})
    assert held == {"stamp": [9, 3]}
    found = await child.call("search", {**wanted, "stamp": [9, 3]})
    assert found == {"known": True, "found": [[7, pytest.approx(1.0)]]}


async def test_it_opens_no_socket(child: Child) -> None:
    await vectors(child, ["a sentence"])
    assert child.pid is not None
    await asyncio.to_thread(_has_one_socket, child.pid)


def _has_one_socket(pid: int) -> None:
    sockets = [link for fd in Path(f"/proc/{pid}/fd").iterdir() if (link := str(fd.readlink())).startswith("socket:")]
    assert len(sockets) == 1  # the one it was started with
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"ORT_DISABLE_TELEMETRY=1" in environment


async def test_killed_in_the_middle(child: Child) -> None:
    work = asyncio.ensure_future(child.call("embed", {"texts": ["word " * 250] * 400}))
    await asyncio.wait([work], timeout=0.2)
    assert child.pid is not None

    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChannelClosed):
        await work
