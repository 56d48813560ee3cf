"""Training and held-out material are disjoint, and the shipped tools are the ones that the held-out set asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.heldout_samples import shipped_samples, unseen_samples
from edged.domain.meters import Meters
from edged.tools.host import Host
from training.material import FOLDER as TRAINING
from training.material import Field, read_beyond, read_tools

ROOT = Path(__file__).parents[1]
HELD_OUT = {name: read_tools(ROOT / "bench" / "heldout" / f"{name}.txt") for name in ("shipped", "unseen")}
SEEN = [read_tools(path) for path in sorted(TRAINING.glob("*.txt")) if path.name != "beyond.txt"]
BEYOND_WORDS, BEYOND = read_beyond(TRAINING / "beyond.txt")


def shape(sentence: str) -> str:
    """A template without its slots' names, case and punctuation."""
    return " ".join(re.findall(r"[a-z0-9']+|\{\}", re.sub(r"\{\w+\}", "{}", sentence.lower())))


def templates(field: Field) -> set[str]:
    said = [text for tool in field.tools for text in [*(ask.text for ask in (*tool.asks, *tool.lacks)), *tool.unfit]]
    return {shape(text) for text in said}


def phrases(field: Field) -> set[str]:
    return {phrase.lower() for phrases in field.vocabularies.values() for phrase in phrases}


@pytest.mark.parametrize("name", HELD_OUT)
def test_no_template_was_trained_on(name: str) -> None:
    trained = set().union(*(templates(field) for field in SEEN), {shape(text) for text in BEYOND})
    assert not templates(HELD_OUT[name]) & trained


@pytest.mark.parametrize("name", HELD_OUT)
def test_no_vocabulary_was_trained_on(name: str) -> None:
    trained = set().union(*(phrases(field) for field in SEEN), *({w.lower() for w in v} for v in BEYOND_WORDS.values()))
    assert not phrases(HELD_OUT[name]) & trained


def test_unseen_tools_are_unseen() -> None:
    """Parameters are named with common words ("depth", "desk"), some of which other tools have too; no tool has just these."""
    trained = {name for field in SEEN for tool in field.tools for name in tool.names}
    parameters = [{name for p in tool.params for name in p.names} for field in SEEN for tool in field.tools]
    unseen = HELD_OUT["unseen"].tools
    assert not {tool.key for tool in unseen} & trained
    shared = {p.key for tool in unseen for p in tool.params} & set().union(*parameters)
    assert len(shared) <= 0.25 * sum(len(tool.params) for tool in unseen), shared
    assert not [t.key for t in unseen if len(t.params) > 1 and any({p.key for p in t.params} <= s for s in parameters)]


async def test_the_samples_are_what_the_bars_ask_for(tmp_path: Path) -> None:
    async with Host([ROOT / "plugins"], tmp_path, lambda event: None, Meters()) as host:
        agents = {"kiosk": await host.specs(["kiosk.*"]), "home": await host.specs(["home.*", "clock.*"])}
        agents["desk"] = await host.specs(["clock.*", "units.*"])
    samples = shipped_samples(agents, 1200, seed=2026)
    none = [s for s in samples if s.wanted is None]
    assert len(none) == len(samples) / 4
    assert sum(s.kind == "near miss" for s in none) == len(none) / 2
    assert {s.wanted[0] for s in samples if s.wanted} == {spec.name for specs in agents.values() for spec in specs}
    assert all(2 <= len(s.specs) <= 8 for s in [*samples, *unseen_samples(200, 1)])
    assert [s.sentence for s in samples] == [s.sentence for s in shipped_samples(agents, 1200, seed=2026)]
