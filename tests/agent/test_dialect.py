"""Every family's way of writing calls: what its grammar admits, and what is read back, whole and in pieces."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from admitting import admits

from edged.agent import turn
from edged.agent.dialect import DIALECTS, Dialect, Parsed, Reader, parse
from edged.agent.grammar import choosing
from edged.agent.grounding import Argument, Offer, ground
from edged.domain.messages import Tier, ToolCall
from edged.domain.ports import Completion
from edged.domain.resources import Agent, Grounding, ToolSpec

DIM = ToolSpec(
    "dim",
    "d",
    {
        "type": "object",
        "properties": {
            "percent": {"type": "integer"},
            "lamp": {"type": "string"},
            "note": {"type": "string"},
            "soft": {"type": "boolean"},
        },
        "required": ["percent", "lamp"],
    },
    grounding={
        "percent": Grounding("number"),
        "lamp": Grounding("choice", ("desk", "hall")),
        "note": Grounding("span"),
    },
)
NOW = ToolSpec("now", "d", {"type": "object", "properties": {}})
SAID = 'the desk to 30, they call it "cosy" <b>here</b>'
ARGUMENTS = {"percent": 30, "lamp": "desk", "note": "they call it", "soft": True}
JSON = '{"name": "dim", "arguments": {"percent": 30, "lamp": "desk", "note": "they call it", "soft": true}}'
BARE = '{"name": "now", "arguments": {}}'
LAMA, IDLE = JSON.replace("arguments", "parameters"), BARE.replace("arguments", "parameters")
LACK = '{"name": "dim", "missing": ["lamp"]}'
TIGHT = '{"name":"dim","arguments":{"percent":30,"lamp":"desk","note":"they call it","soft":true}}'


def tagged(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


def called(*calls: str, begin: str, end: str) -> str:
    return "".join(f"{begin}{call}{end}" for call in calls)


def function(*calls: str) -> str:
    return called(*calls, begin="<start_function_call>", end="<end_function_call>")


def gemma4(*calls: str) -> str:
    return called(*calls, begin="<|tool_call>", end="<tool_call|>")


NAMED = '[TOOL_CALLS]dim[ARGS]{"percent": 30, "lamp": "desk", "note": "they call it", "soft": true}'


class Written(NamedTuple):
    """One call of "dim", one of "now", both in one output where that is known, and "dim" without its "lamp"."""

    full: str
    bare: str
    both: str | None
    lack: str


def listed(begin: str, end: str) -> Written:
    return Written(*(f"{begin}{calls}{end}" for calls in (JSON, BARE, f"{JSON}, {BARE}", LACK)))


def own(write: Callable[..., str], quote: str) -> Written:
    call = f"call:dim{{lamp:{quote}desk{quote},note:{quote}they call it{quote},percent:30,soft:true}}"
    return Written(write(call), write("call:now{}"), write(call, "call:now{}"), write('call:dim?["lamp"]'))


TAGGED = Written(tagged(JSON), tagged(BARE), tagged(JSON, BARE), tagged(LACK))
WRITTEN = {
    "edged": Written(
        f"<tool_call>{TIGHT}</tool_call>",
        '<tool_call>{"name":"now","arguments":{}}</tool_call>',
        None,
        '<tool_call>{"name":"dim","missing":["lamp"]}</tool_call>',
    ),
    "hermes": TAGGED,
    "smollm3": TAGGED,
    "smollm2": listed("<tool_call>[", "]</tool_call>"),
    "llama3": Written(LAMA, f"<|python_tag|>{IDLE}", None, LACK),
    "mistral": listed("[TOOL_CALLS][", "]"),
    "mistral_args": Written(
        NAMED,
        "[TOOL_CALLS]now[CALL_ID]a1B2c3D4e[ARGS]{}",
        f"{NAMED}[TOOL_CALLS]now[ARGS]{{}}",
        '[TOOL_CALLS]dim?["lamp"]',
    ),
    "phi4": listed("<|tool_call|>[", "]<|/tool_call|>"),
    "functools": listed("functools[", "]"),
    "granite3": listed("<|tool_call|>[", "]"),
    "functiongemma": own(function, "<escape>"),
    "gemma4": own(gemma4, '<|"|>'),
    "gemma": Written(LAMA, IDLE, None, LACK),
    "json": Written(JSON, BARE, None, LACK),
}
FAMILIES = list(DIALECTS.values())
each = pytest.mark.parametrize("dialect", FAMILIES, ids=lambda dialect: dialect.name)


def escape(dialect: Dialect) -> str:
    return "<tool_call>[]</tool_call>" if dialect.name == "smollm2" else "<escalate>"


def offers(said: str = SAID) -> list[Offer]:
    return [ground(DIM, said), ground(NOW, said)]


def test_every_dialect_is_written_down_here() -> None:
    assert set(WRITTEN) == set(DIALECTS)


@each
def test_the_grammar_admits_what_is_read_back(dialect: Dialect) -> None:
    full, bare, both, lack = WRITTEN[dialect.name]
    dim, now = ToolCall("c-0", "dim", ARGUMENTS), ToolCall("c-0", "now", {})
    one, many = choosing(offers(), dialect), choosing(offers(), dialect, several=True)
    for text, call in ((full, dim), (bare, now)):
        assert admits(one, text)
        assert admits(many, text)
        assert parse(text, "c", dialect) == Parsed(calls=(call,))
    if both is not None:
        assert not admits(one, both)
        assert admits(many, both)
        assert parse(both, "c", dialect).calls == (dim, ToolCall("c-1", "now", {}))
    wanting = choosing(offers("all to 30"), dialect)
    assert admits(wanting, lack)
    assert not admits(one, lack)
    assert parse(lack, "c", dialect) == Parsed(wanted="dim", missing=("lamp",))


@each
def test_no_tool_fits(dialect: Dialect) -> None:
    assert admits(choosing(offers(), dialect), escape(dialect))
    assert admits(choosing([], dialect), escape(dialect))
    assert not admits(choosing(offers(), dialect, may_escalate=False), escape(dialect))
    assert parse(f" {escape(dialect)}\n", "c", dialect) == Parsed(escalate=True)
    assert not parse(f"{escape(dialect)} or so", "c", dialect).escalate
    if dialect.name != "edged":  # which was trained to
        assert escape(dialect) in dialect.hint


@pytest.mark.parametrize(
    ("tier", "specs", "instructions", "told"),
    [
        (Tier.MODEL, (NOW,), "Be kind.", "Be kind.\n\nIf no tool fits the request, write only <escalate>."),
        (Tier.MODEL, (NOW,), "", "If no tool fits the request, write only <escalate>."),
        (Tier.CLOUD, (NOW,), "Be kind.", "Be kind."),
        (Tier.CLOUD, (NOW,), "", None),
    ],
)
def test_local_models_are_told_how_to_say_that_no_tool_fits(
    tier: Tier, specs: tuple[ToolSpec, ...], instructions: str, told: str | None
) -> None:
    agent = Agent("a", "m", instructions=instructions)
    _, step = turn.begin(turn.Transcript(agent, "hi", specs, DIALECTS["hermes"], tier))
    assert isinstance(step, turn.Generate)
    assert next((m.content for m in step.messages if m.role == "system"), None) == told


def test_a_call_before_what_went_wrong_is_not_made() -> None:
    transcript, _ = turn.begin(turn.Transcript(Agent("a", "m"), "hi", (NOW,), DIALECTS["hermes"]))
    _, step = turn.on_generated(transcript, Completion(tagged(BARE) + "<tool_call>", "stop"))
    assert isinstance(step, turn.Escalate)
    assert step.reason == "malformed"


@each
def test_hints_are_short(dialect: Dialect) -> None:
    """They are read with every prompt: some thirty tokens."""
    assert len(dialect.hint) < 160


@each
def test_only_what_the_request_supports(dialect: Dialect) -> None:
    """Another number, another lamp, words that were not said, an argument that there is not, one that lacks."""
    grammar, full = choosing(offers(), dialect), WRITTEN[dialect.name].full
    for was, becomes in (
        ("30", "31"),
        ("desk", "hall"),
        ("they call it", "cosy"),
        ("they call it", "my own words"),
        ("soft", "hard"),
        ("dim", "dam"),
        ("true", '"yes"'),
    ):
        assert (was, admits(grammar, full.replace(was, becomes))) == (was, becomes == "cosy")


@each
def test_outputs_that_begin_with_a_trigger_are_all_that_binds(dialect: Dialect) -> None:
    for text in (text for text in WRITTEN[dialect.name] if text is not None):
        assert text.startswith(dialect.triggers)
        assert parse(f"Sure.\n{text}", "c", dialect).text == "Sure."


@each
def test_what_the_grammar_could_not_have_made_is_no_call(dialect: Dialect) -> None:
    full, _, both, lack = WRITTEN[dialect.name]
    broken = [full[:-1], full + "x", full + full[-3:], full.replace("dim", ""), full + lack]
    broken += [
        full.replace(was, becomes)
        for was, becomes in (("30", "3O"), ("true", "wahr"), ("desk", '<escape><|"|>'), ("{", "{{"))
    ]
    if "arguments" in full or "parameters" in full:
        broken.append(full.replace("desk", '"'))
        broken.append(full.replace("arguments", "args").replace("parameters", "args"))
        broken += [full.replace('"lamp"', '"percent"'), full.replace("30", "NaN"), full.replace("30", "1e999")]
        broken += [full.replace("desk", "\\ud800"), full.replace("30", "[" * 9999 + "]" * 9999)]
    if both is None:
        broken.append(full + full)
    for text in broken:
        assert parse(text, "c", dialect).malformed, text[:200]


@each
def test_a_string_may_hold_the_marks(dialect: Dialect) -> None:
    """A value that spells the end of a call, or a mark of the grammar itself, ends nothing and becomes no control token."""
    value = "a </tool_call> ] } [ARGS] ⟦<tool_call>⟧ <end_function_call>"
    if "gemma" in dialect.name and dialect.name != "gemma":
        value = value.replace("<escape>", "")
    grammar = choosing([Offer("say", (Argument("text", True, values=(value,)),))], dialect)
    assert "⟦<tool_call>⟧ <" not in grammar
    written = WRITTEN[dialect.name].bare.replace("now", "say")
    text = written.replace("{}", _object(dialect, value)) if "{}" in written else ""
    assert admits(grammar, text)
    assert parse(text, "c", dialect).calls == (ToolCall("c-0", "say", {"text": value}),)


def _object(dialect: Dialect, value: str) -> str:
    quote = {"functiongemma": "<escape>", "gemma4": '<|"|>'}.get(dialect.name)
    if quote is not None:
        return f"{{text:{quote}{value}{quote}}}"
    return f'{{"text":{"" if dialect.name == "edged" else " "}"{value}"}}'


@each
def test_words_of_the_request_cannot_leave_their_string(dialect: Dialect) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}
    said = 'a","x":"b<|"|>,x:<|"|>c<escape>,x:<escape>d'
    grammar = choosing([ground(ToolSpec("t", "d", schema, grounding={"n": Grounding("span")}), said)], dialect)
    written = WRITTEN[dialect.name].bare.replace("now", "t")
    for value in ('a","x":"b', 'a","x":"b<|"|>,x:<|"|>c', 'b<|"|>,x:<|"|>c', "c<escape>,x:<escape>d", "⟦<tool_call>⟧"):
        text = written.replace("{}", _object(dialect, value).replace("text", "n"))
        assert not (admits(grammar, text) and set(parse(text, "c", dialect).calls[0].arguments) != {"n"})
    assert admits(grammar, written.replace("{}", _object(dialect, "x").replace("text", "n")))


BY_SCHEMA: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "string"}, '<|"|>two words<|"|>', "two words"),
    ({"type": "string"}, '<|"|><|"|>', ""),
    ({"type": "integer", "minimum": -5}, "-5", -5),
    ({"type": "number"}, "0.25", 0.25),
    ({"type": "boolean"}, "false", False),
    ({"type": ["integer", "null"]}, "None", None),
    ({"enum": ["a", 1, None, {"b": [True]}]}, "{b:[true]}", {"b": [True]}),
    ({"const": "x"}, '<|"|>x<|"|>', "x"),
    ({"type": "array", "items": {"type": "integer"}}, "[1,2,3]", [1, 2, 3]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "[1,2]", [1, 2]),
    ({"type": "array"}, "[]", []),
    ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, '<|"|>7<|"|>', "7"),
    (
        {
            "type": "object",
            "properties": {"b": {"type": "integer"}, "A": {"type": "string"}, "c": {"type": "boolean"}},
            "required": ["b"],
        },
        '{A:<|"|>x<|"|>,b:1}',
        {"A": "x", "b": 1},
    ),
    ({}, "12", 12),
]


@pytest.mark.parametrize(("schema", "written", "value"), BY_SCHEMA)
def test_gemmas_values_by_schema(schema: dict[str, Any], written: str, value: Any) -> None:
    grammar = choosing([Offer("t", (Argument("v", True, schema=schema),))], DIALECTS["gemma4"])
    text = gemma4(f"call:t{{v:{written}}}")
    assert admits(grammar, text)
    assert parse(text, "c", DIALECTS["gemma4"]).calls == (ToolCall("c-0", "t", {"v": value}),)


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"type": "string"}, '<|"|>a<b<|"|>'),
        ({"type": "string"}, "bare"),
        ({"type": "string", "maxLength": 3}, '<|"|>four<|"|>'),
        ({"type": "integer", "minimum": -5}, "-6"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "[1]"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, "[1,2,3]"),
        ({"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}, "{}"),
    ],
)
def test_gemmas_values_beyond_the_schema(schema: dict[str, Any], written: str) -> None:
    grammar = choosing([Offer("t", (Argument("v", True, schema=schema),))], DIALECTS["gemma4"])
    assert not admits(grammar, gemma4(f"call:t{{v:{written}}}"))


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        (["Hel", "lo ", "there"], [["Hel"], ["lo"], [" there"]]),
        (["a < b, <tool", "box> ", "<tool_call"], [["a < b,"], [" <toolbox>"], [], [" <tool_call"]]),
        (["  <esc", "alate", ">", " "], [[], [], [], []]),
        (["<escalate", "d"], [[], ["<escalated"]]),
        (["Ok.\n\n<tool", "_call>\n" + BARE, "\n</tool_call>"], [["Ok."], [], [ToolCall("c-0", "now", {})]]),
    ],
)
def test_what_is_given_out_when(pieces: list[str], given: list[list[Any]]) -> None:
    reader = Reader(DIALECTS["hermes"], "c")
    out = [reader.feed(piece) for piece in pieces]
    rest = reader.end()
    assert (out if len(given) == len(pieces) else [*out, rest]) == given


@each
def test_however_an_output_is_cut_the_same_is_read(dialect: Dialect) -> None:
    rng = random.Random(dialect.name)
    stuff = [text for text in WRITTEN[dialect.name] if text is not None] + [*dialect.triggers, escape(dialect)]
    stuff += ["Hello", " ", "\n", "<", "tool", "[", "]", "{", '"', "\\", "é🙂", "call:", ", "]
    for _ in range(400):
        whole = "".join(rng.choices(stuff, k=rng.randrange(1, 6)))
        whole = whole[: rng.randrange(len(whole)) + 1] if rng.random() < 0.3 else whole
        reader, out, at = Reader(dialect, "c"), [], 0
        while at < len(whole):
            size = rng.choice((1, 1, 2, 3, 7, 40))
            out += reader.feed(whole[at : at + size])
            at += size
        out += reader.end()
        parsed = parse(whole, "c", dialect)
        assert reader.parsed == parsed, whole
        assert "".join(part for part in out if isinstance(part, str)) == parsed.text
        assert tuple(part for part in out if isinstance(part, ToolCall)) == parsed.calls
        assert not any(trigger in parsed.text for trigger in dialect.triggers)


def test_a_long_output_in_small_pieces_takes_no_longer_than_it_must() -> None:
    """Looked at anew with every piece, these would take longer than a test may."""
    text = '{"name": "say", "arguments": {"text": "' + 'a\\"b{' * 40_000 + '"}}'
    for dialect, whole in ((DIALECTS["hermes"], tagged(text)), (DIALECTS["json"], "a <" * 20_000)):
        reader = Reader(dialect, "c")
        for at in range(0, len(whole), 5):
            reader.feed(whole[at : at + 5])
        reader.end()
        assert not reader.parsed.malformed
