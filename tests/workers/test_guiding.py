"""Grammars of each kind: what they admit, what they force, when they bind, and what is refused as no grammar."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import numpy as np
import pytest

from edged.domain.errors import BadRequest
from edged.domain.ports import Sampling

from .batching import Desk, guide, loaded

CALL = 'start: ⟦<tool_call>⟧ "{" /[a-z]+/ "}" ⟦</tool_call>⟧'
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["lamp", "fan"]}, "level": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "level"],
    "additionalProperties": False,
}


def tokens(text: str) -> list[int]:
    """Letter by letter, but for control tokens."""
    controls = loaded().vocabulary.controls
    return [controls[text]] if text in controls else list(text.encode())


def admitted(grammar: str | dict[str, Any], text: str, triggers: tuple[str, ...] = ()) -> str:
    """How far the text gets: "no", "open" (more is wanted), "may end" or "done"."""
    guiding = guide(grammar, triggers)
    for token in loaded().vocabulary.tokenize(text, special=True):
        if not guiding.admits(token):
            return "no"
        guiding.accept([token])
    if guiding.finished:
        return "done"
    row = np.zeros(loaded().vocabulary.size, dtype=np.float32)
    guiding.mask(row)
    return "may end" if np.isfinite(row[loaded().vocabulary.controls["<|end|>"]]) else "open"


@pytest.mark.parametrize(
    ("grammar", "text", "how"),
    [
        ('start: "a" "b"', "ab", "done"),
        ('start: "a" "b"', "a", "open"),
        ('start: "a" "b"', "b", "no"),
        ({"kind": "lark", "source": 'start: "a" "b"?'}, "a", "may end"),
        ({"kind": "regex", "source": "[0-9]+"}, "12", "may end"),
        ({"kind": "regex", "source": "[0-9]{2}"}, "12", "done"),
        ({"kind": "regex", "source": "[0-9]+"}, "1x", "no"),
        ({"kind": "json_schema", "source": SCHEMA}, '{"name": "fan", "level": 7}', "done"),
        ({"kind": "json_schema", "source": SCHEMA}, '{"name": "f', "open"),
        ({"kind": "json_schema", "source": SCHEMA}, '{"name": "door"', "no"),
        ({"kind": "json_schema", "source": SCHEMA}, '{"name": "fan", "level": 12', "no"),
        ({"kind": "json_schema", "source": json.dumps(SCHEMA)}, '{"name":"lamp","level":0}', "done"),
        ('start: x\nx: %json {"type": "boolean"}', "true", "done"),
        (CALL, "<tool_call>{ab}</tool_call>", "done"),
        (CALL, "<tool_call>{ab}", "open"),
        (CALL, "<tool_call>{ab}<|end|>", "no"),
        ("start: ⟦<nowhere>⟧", "<nowhere>", "done"),  # a mark that is no control token is text
        ('start: ⟦a"b\\c⟧', 'a"b\\c', "done"),
        ("start: /[a-z]*/", "<tool_call>", "no"),  # a control token is no text
        ("start: /(?s:.)*/", "<|end|>", "done"),
    ],
)
def test_admits(grammar: str | dict[str, Any], text: str, how: str) -> None:
    assert admitted(grammar, text) == how


@pytest.mark.parametrize(
    ("grammar", "begun", "forced"),
    [
        ('start: "lamp" "s"?', "", "lamp"),
        ('start: "lamp" | "late"', "", "la"),
        ('start: "lamp" | "late"', "lam", "p"),
        ("start: /[ab]+/", "", ""),
        ({"kind": "json_schema", "source": {"const": "on"}}, '"', 'on"'),
        (CALL, "", "<tool_call>{"),
        (CALL, "<tool_call>{ab}", "</tool_call>"),
    ],
)
def test_forces(grammar: str | dict[str, Any], begun: str, forced: str) -> None:
    vocabulary, guiding = loaded().vocabulary, guide(grammar)
    guiding.accept(vocabulary.tokenize(begun, special=True))
    assert b"".join(map(vocabulary.piece, guiding.forced())).decode() == forced


def test_the_mask_leaves_what_is_admitted() -> None:
    size = loaded().vocabulary.size
    guiding = guide("start: /[a-c]/ | ⟦<think>⟧")
    row = np.arange(size, dtype=np.float32)
    guiding.mask(row)
    left = set(np.flatnonzero(np.isfinite(row)))
    assert (
        left
        == {token for token in range(size) if guiding.admits(token)}
        == set(b"abc") | {loaded().vocabulary.controls["<think>"]}
    )
    assert all(row[token] == token for token in left)


@pytest.mark.parametrize(
    ("said", "how"),
    [
        ("whatever <tool_ca", "open"),
        ("<|user|>", "open"),
        ("so: <tool_call>", "open"),
        ("so: <tool_call>{", "open"),
        ("so: <tool_call>[", "no"),
        ("so: <tool_call>{x}</tool_call>", "done"),
        ("<tool_ <tool_call>{x}</tool_call>", "done"),
    ],
)
def test_a_trigger_binds_from_its_first_letter_on(said: str, how: str) -> None:
    assert admitted(CALL, said, ("<tool_call>",)).replace("may end", "open") == how


@pytest.mark.parametrize(
    ("triggers", "said", "forced"),
    [
        (("CALL(",), b"so CAL", b""),
        (("CALL(",), b"so CALL(", b"7"),
        (("no", "CALL("), b"so CALL(", b"7"),
        (("CALL(", "CALL"), b"so CALL", b"(7"),
        (("ALL(", "CALL("), b"so CALL(", b"7"),  # of those that are there the first
    ],
)
def test_triggers_of_text(triggers: tuple[str, ...], said: bytes, forced: bytes) -> None:
    guiding = guide('start: "CALL(7" /[0-9]*/ ")"', triggers)
    for byte in said:
        guiding.accept([byte])
    assert bytes(guiding.forced()) == forced


def test_a_trigger_may_end_inside_a_token_and_tokens_may_come_together() -> None:
    vocabulary = loaded().vocabulary
    (the,) = vocabulary.tokenize("the", special=False)
    inside = guide('start: "he" "x"', ("he",))
    inside.accept([the])
    assert inside.forced() == list(b"x")
    together = guide(CALL, ("<tool_call>",))
    together.accept([*b"so ", vocabulary.controls["<tool_call>"], *b"{a"])
    assert (together.admits(ord("}")), together.admits(ord("{"))) == (True, False)


def test_free_text_before_the_trigger_and_bound_text_after_it() -> None:
    """What a model at random says: a digit begins a call."""
    found = []
    for seed in range(6):
        how = Sampling(temperature=4.0, seed=seed)
        grammar = "start: /[0-9]/ /[xy]{3}/"
        text = Desk().alone(b"hello", 400, how=how, grammar=grammar, triggers=tuple("0123456789")).text
        at = next((i for i, letter in enumerate(text) if letter in "0123456789"), None)
        if at is not None:  # else it has ended before: it was free to
            found.append(at)
            assert len(text) == at + 4
            assert set(text[at + 1 :]) <= set("xy")
    assert len(found) >= 4
    assert max(found) > 3


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "start: (((",
        "start: nowhere",
        'begin: "x"',
        "start: <[99999]>",
        {"kind": "lark"},
        {"kind": "lark", "source": 5},
        {"kind": "regex", "source": "(a"},
        {"kind": "regex", "source": r"(a)\1"},
        {"kind": "json_schema", "source": "{no json"},
        {"kind": "json_schema", "source": 5},
        {"kind": "json_schema", "source": [1]},
        {"kind": "json_schema", "source": {"type": "nothing"}},
        {"kind": "json_schema", "source": {"$ref": "http://localhost/x"}},
        {"kind": "json_schema", "source": {"type": "string", "pattern": "(a"}},
        {"kind": "json_schema", "source": {"minimum": 5, "maximum": 3, "type": "integer"}},
        {"kind": "json_schema", "source": {"const": float("nan")}},
        {"kind": "gbnf", "source": "x"},
        {},
    ],
)
def test_what_is_no_grammar_is_a_bad_request(grammar: str | dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="grammar"):
        guide(grammar)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    return schema


def test_a_schema_may_be_deep() -> None:
    schema = {"kind": "json_schema", "source": nested(50)}
    assert admitted(schema, '{"a":' * 50 + '"x"' + "}" * 50) == "done"
    assert admitted(schema, '{"a":' * 50 + "}") == "no"


@pytest.mark.parametrize(
    "schema",
    [
        nested(300),
        nested(5000),  # Once: a RecursionError of json.dumps, which counts as a bug and costs the worker
        {"const": b"bytes"},  # Once: a TypeError of json.dumps
    ],
    ids=["deep", "deeper", "bytes"],
)
def test_strange_schemas_are_bad_requests(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="grammar"):
        guide({"kind": "json_schema", "source": schema})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("grammar", ["start: start", 'start: start "x"'])
def test_a_grammar_without_a_sentence_ends_the_generation(grammar: str, temperature: float) -> None:
    told = Desk().alone(b"hi", grammar=grammar, how=Sampling(temperature=temperature))
    assert isinstance(told.error, BadRequest)
    assert "\n" not in told.error.detail  # Once: pages of llguidance's insides instead of one sentence


@pytest.mark.parametrize(
    "grammar",
    [
        {"kind": "regex", "source": "(.*a.{200}b.*){9}"},
        {"kind": "regex", "source": "(a{1,1000}){1,1000}"},
        'start: x\nx: x x | "a" | "" | x x x',
        "start: T\nT: /(.*a.{30})*/ & ~/(.*b.{31})*/",
    ],
)
def test_grammars_that_would_like_to_explode_do_not(grammar: str | dict[str, Any]) -> None:
    told = Desk().alone(b"hi", 60, grammar=grammar, how=Sampling(temperature=5.0))
    assert told.ends


def test_two_threads_ask_for_the_bytes_of_tokens() -> None:
    """The table is made on one, while the other one streams."""
    # Once: they share a buffer, and native code lets the other thread go on before it is read
    vocabulary = loaded().vocabulary
    right = [vocabulary.piece(token) for token in range(vocabulary.size)]
    wrong = list[int]()

    def ask() -> None:
        for _ in range(100):
            wrong.extend(token for token, piece in enumerate(right) if vocabulary.piece(token) != piece)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


def test_a_broken_grammar_leaves_the_others_alone() -> None:
    """It breaks in the middle: what follows the trigger is nothing that the model could go on with."""
    desk = Desk()
    alone = desk.alone(b"other", 20).made
    other = desk.ask(b"other", 20)
    broken = desk.ask(b"hello", 20, grammar='start: "nothing like it"', triggers=tuple(chr(c) for c in range(32, 127)))
    third = desk.ask(b"thirds", 20)
    desk.run()
    assert isinstance(broken.error, BadRequest)
    assert other.made == alone
    assert third.result["completion_tokens"] == 20
    assert desk.leaks() == []
