"""Real chat templates and real tokenizers: what a template writes for a call is what its family's grammar admits and reads back."""

from __future__ import annotations

import ctypes
import json
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import llguidance
import pytest
import sdist
from admitting import admits

from edged.agent.dialect import DIALECTS, parse
from edged.agent.grammar import choosing
from edged.agent.grounding import Offer, ground
from edged.domain.errors import BadRequest
from edged.domain.messages import Message, ToolCall, ToolResult
from edged.domain.resources import Grounding, ToolSpec
from edged.workers import llama
from edged.workers.guiding import Table
from edged.workers.template import ChatTemplate
from edged.workers.vocabulary import Vocabulary

pytestmark = pytest.mark.timeout(sdist.TIMEOUT)

SET = ToolSpec(
    "set_level",
    "Set the level of a device.",
    {
        "type": "object",
        "properties": {
            "device": {"type": "string", "description": "which"},
            "percent": {"type": "number", "description": "how much"},
            "note": {"type": "string", "description": "a remark"},
            "tags": {"type": "array", "items": {"type": "string"}, "description": "more"},
            "at": {
                "type": "object",
                "description": "where",
                "properties": {"floor": {"type": "integer"}, "indoors": {"type": "boolean"}},
                "required": ["floor", "indoors"],
            },
        },
        "required": ["device", "percent"],
    },
    grounding={"device": Grounding("choice", ("kitchen lamp", "fan")), "percent": Grounding("number")},
)
NOW = ToolSpec("get_time", "Tell the time.", {"type": "object", "properties": {}})
SAID = "set the kitchen lamp to 30.5, upstairs"
ASKED = Message("user", SAID).to_wire()
FULL = ToolCall(
    "call-1-0",
    "set_level",
    {
        "device": "kitchen lamp",
        "percent": 30.5,
        "note": 'says "hé 🙂" \\ and\nmore',
        "tags": ["a", "b, c"],
        "at": {"floor": -1, "indoors": True},
    },
)
LESS = ToolCall("call-1-0", "set_level", {"device": "kitchen lamp", "percent": 30.5})
BARE = ToolCall("call-1-1", "get_time", {})
TOOLS = [SET.to_openai(), NOW.to_openai()]


def _gemma() -> str:
    """FunctionGemma's form is Gemma 4's with other marks."""
    source = sdist.template("google-gemma-4-31B-it")
    for was, becomes in (
        ("<|tool_call>", "<start_function_call>"),
        ("<tool_call|>", "<end_function_call>"),
        ('<|"|>', "<escape>"),
    ):
        source = source.replace(was, becomes)
    return source


def _turns(roles: str = "{{ m.role }}") -> str:
    return f"{{% for m in messages %}}<|im_start|>{roles}\n{{{{ m.content }}}}<|im_end|>\n{{% endfor %}}"


# (template, family); those that the tree does not hold are stood in for by what they have in common with their family
REAL = (
    ("Bielik-11B-v3.0-Instruct", "hermes"),
    ("MiMo-VL", "hermes"),
    ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes"),
    ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes"),
    ("Qwen-QwQ-32B", "hermes"),
    ("Qwen-Qwen2.5-7B-Instruct", "hermes"),
    ("Qwen-Qwen3-0.6B", "hermes"),
    ("Reka-Edge", "hermes"),
    ("ibm-granite-granite-4.0", "hermes"),
    ("ibm-granite-granite-4.1", "hermes"),
    ("ibm-granite-granite-3.3-2B-Instruct", "granite3"),
    ("HuggingFaceTB-SmolLM3-3B", "smollm3"),
    ("meta-llama-Llama-3.1-8B-Instruct", "llama3"),
    ("meta-llama-Llama-3.2-3B-Instruct", "llama3"),
    ("meta-llama-Llama-3.3-70B-Instruct", "llama3"),
    ("mistralai-Mistral-Nemo-Instruct-2407", "mistral"),
    ("Mistral-Small-3.2-24B-Instruct-2506", "mistral_args"),
    ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral_args"),
    ("unsloth-mistral-Devstral-Small-2507", "mistral_args"),
    ("fireworks-ai-llama-3-firefunction-v2", "functools"),
    ("google-gemma-2-2b-it", "gemma"),
    ("google-gemma-4-31B-it", "gemma4"),
    ("google-gemma-4-31B-it-interleaved", "gemma4"),
    ("microsoft-Phi-3.5-mini-instruct", "json"),
    ("llama-cpp-rwkv-world", "json"),
    ("LFM2-8B-A1B", "json"),
)
ALIKE: dict[str, Callable[[], str]] = {
    "functiongemma": _gemma,
    "smollm2": lambda: "{# named SmolLM #}" + _turns(),
    "phi4": lambda: _turns("{{ m.role }}{% if m.tools %}<|tool|>{{ m.tools }}<|/tool|>{% endif %}"),
    "edged": lambda: (Path(__file__).parents[2] / "training" / "chat_template.jinja").read_text(),
    "json": lambda: "",
}
SOURCES: dict[str, tuple[Callable[[], str], str]] = {
    name: (partial(sdist.template, name), family) for name, family in REAL
}
SOURCES |= {f"like {family}": (source, family) for family, source in ALIKE.items()}
each = pytest.mark.parametrize(("source", "family"), SOURCES.values(), ids=SOURCES)
MANY = {name: case for name, case in SOURCES.items() if DIALECTS[case[1]].between is not None}
del MANY["Reka-Edge"]  # puts no line between two calls, as all others do; read back they are
SHOWN = {name: case for name, case in SOURCES.items() if case[1] != "edged"}  # which reads the last request alone
TURN_ENDS = re.compile(
    r"<\|im_end\|>|<\|eot_id\|>|</s>|<end_of_turn>|<turn\|>|<\|tool_response>|<\|end_of_text\|>|<\|end\|>|<sep>|\n\n|\Z"
)
SPECIALS = ("<|im_end|>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", '<|"|>', "<|end|>")


def render(source: str, messages: Sequence[dict[str, Any]], tools: bool = True) -> str:
    template = ChatTemplate(source, bos="<s>", eos="</s>", specials=SPECIALS)
    return "".join(text for text, _ in template.render(list(messages), TOOLS if tools else None, generate=False))


def written(source: str, family: str, *calls: ToolCall) -> str:
    """What the template wrote for the assistant's calls, without the turn around it."""
    said = Message("assistant", tool_calls=calls).to_wire()
    whole = render(source, [ASKED, said])
    whole = whole[whole.rindex("upstairs") :]
    rest = whole[min(at for at in map(whole.find, DIALECTS[family].triggers) if at >= 0) :]
    end = TURN_ENDS.search(rest)
    assert end is not None
    return rest[: end.start()]


def offers() -> list[Offer]:
    return [ground(SET, SAID), ground(NOW, SAID)]


@each
def test_what_a_template_writes_is_admitted_and_read_back(source: Callable[[], str], family: str) -> None:
    dialect = DIALECTS[family]
    for call in (FULL, LESS, BARE):
        text = written(source(), family, call)
        assert parse(text, "call-1", dialect).calls == (ToolCall("call-1-0", call.name, call.arguments),)
        assert admits(choosing(offers(), dialect), text), text
        assert not admits(choosing([ground(SET, "the fan to 4"), ground(NOW, "")], dialect), text) or call is BARE
    assert family == "edged" or "30.5" in text or call is BARE


@pytest.mark.parametrize(("source", "family"), MANY.values(), ids=MANY)
def test_several_calls_stand_as_the_grammar_has_them(source: Callable[[], str], family: str) -> None:
    text = written(source(), family, LESS, BARE)
    assert parse(text, "call-1", DIALECTS[family]).calls == (LESS, BARE)
    assert admits(choosing(offers(), DIALECTS[family], several=True), text), text


@pytest.mark.parametrize(("source", "family"), SHOWN.values(), ids=SHOWN)
def test_every_template_shows_all_that_was_said(source: Callable[[], str], family: str) -> None:
    """Instructions, tools, calls and results, two at once too, and two messages of the user in a row."""
    results = [
        ToolResult("call-1-0", "set_level", True, "done-so"),
        ToolResult("call-1-1", "get_time", True, "noon-sharp"),
    ]
    messages = [
        Message("system", "be brief"),
        Message("user", "first"),
        Message("user", SAID),
        Message("assistant", tool_calls=(LESS, BARE)),
        *(Message("tool", json.dumps({"is": result.content}), tool_call_id=result.call_id) for result in results),
        Message("assistant", "all done"),
        Message("user", "thanks"),
    ]
    whole = render(source(), [message.to_wire() for message in messages])
    said = ["be brief", "first", SAID, "Tell the time.", "done-so", "noon-sharp", "all done", "thanks"]
    assert [word for word in said if word not in whole] == []
    assert whole.count("30.5") > SAID.count("30.5")
    assert whole.index("done-so") < whole.index("noon-sharp") < whole.index("all done")
    assert "{'" not in whole  # Python's way to print, which no model was trained on


def test_marks_of_calls_written_for_a_template_may_be_tokens_and_what_is_in_them_not() -> None:
    template = ChatTemplate(sdist.template("ibm-granite-granite-3.3-2B-Instruct"), specials=("<|tool_call|>",))
    call = ToolCall("c", "say", {"text": "<|tool_call|>"})
    pieces = template.render([ASKED, Message("assistant", tool_calls=(call,)).to_wire()], None)
    assert "".join(text for text, special in pieces if special).count("<|tool_call|>[{") == 1
    assert "".join(text for text, special in pieces if not special) == "<|tool_call|>"


def test_templates_without_tools_do_without() -> None:
    for name in ("Qwen-Qwen2.5-7B-Instruct", "google-gemma-2-2b-it", "microsoft-Phi-3.5-mini-instruct"):
        assert "get_time" not in render(sdist.template(name), [ASKED], tools=False)
        assert "tools" not in render(sdist.template(name), [ASKED], tools=False)


MAPPED = (
    "{# <start_function_call>call: #}{% for m in messages %}{% if m.role == 'tool' and m.content is mapping %}"
    "{% for k, v in m.content | items %}{{ k }}:{{ v }}{% endfor %}{% else %}{{ m.content.strip() }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(("source", "shown"), [(MAPPED, "n:3"), (MAPPED.replace("mapping", "none"), '{"n":3}')])
def test_a_result_is_what_it_means_where_gemmas_template_can(source: str, shown: str) -> None:
    messages = [
        Message("user", "x"),
        Message("assistant", "", (BARE,)),
        Message("tool", '{"n":3}', tool_call_id="call-1-1"),
    ]
    assert shown in render(source, [message.to_wire() for message in messages])


def test_thoughts_are_switched_off() -> None:
    for name in ("Qwen-Qwen3-0.6B", "HuggingFaceTB-SmolLM3-3B"):
        pieces = ChatTemplate(sdist.template(name)).render([ASKED], TOOLS)
        assert "".join(text for text, _ in pieces).endswith("<think>\n\n</think>\n" + "\n" * ("Qwen" in name))


def test_what_no_shape_mends_is_refused() -> None:
    with pytest.raises(BadRequest, match="alternate"):
        render(sdist.template("mistralai-Mistral-Nemo-Instruct-2407"), [{"role": "assistant", "content": "me first"}])


def test_the_other_templates_render_too() -> None:
    """All but three, which the sandbox stops or which want a filter that transformers does not have either."""
    broken = {"Kimi-K2-Instruct", "Kimi-K2-Thinking", "llama-cpp-deepseek-r1"}
    for path in sdist.templates():
        template = ChatTemplate(path.read_text(), bos="<s>", eos="</s>")
        if path.stem not in broken:
            assert "upstairs" in "".join(text for text, _ in template.render([ASKED], TOOLS[1:]))


@cache
def vocabulary(name: str) -> Vocabulary:
    """A real one; it lives as long as the tests do."""
    bindings = llama._bindings()
    bindings.llama_log_set(_quiet(bindings), ctypes.c_void_p())
    params = bindings.llama_model_default_params()
    params.vocab_only = True
    model = bindings.llama_model_load_from_file(os.fsencode(sdist.vocabulary(name)), params)
    assert model
    return Vocabulary(bindings, model)


@cache
def _quiet(bindings: Any) -> Any:
    return bindings.llama_log_callback(lambda level, text, data: None)


PAIRS = (
    ("qwen2", "Qwen-Qwen2.5-7B-Instruct"),
    ("gemma-4", "google-gemma-4-31B-it"),
    ("llama-bpe", "meta-llama-Llama-3.2-3B-Instruct"),
    ("phi-3", "microsoft-Phi-3.5-mini-instruct"),
)


@pytest.mark.parametrize(("tokenizer", "name"), PAIRS, ids=[tokenizer for tokenizer, _ in PAIRS])
def test_marks_that_callers_spell_stay_text(tokenizer: str, name: str) -> None:
    """In what the user says, in a tool's description, in arguments and results."""
    words = vocabulary(tokenizer)
    template = ChatTemplate(sdist.template(name), bos=words.special_text("bos"), specials=words.controls)

    def tokens(said: str) -> list[int]:
        tool = {"type": "function", "function": {"name": "f", "description": said, "parameters": {"type": "object"}}}
        call = ToolCall("call-1-0", "f", {"x": said})
        messages = [
            Message("system", said),
            Message("user", said),
            Message("assistant", tool_calls=(call,)),
            Message("tool", said, tool_call_id="call-1-0"),
        ]
        pieces = template.render([message.to_wire() for message in messages], [tool])
        return [token for text, special in pieces for token in words.tokenize(text, special=special)]

    spelled = "-".join([*list(words.controls)[:30], "<tool_call>", "</tool_call>"])
    plain = [token for token in tokens("harmless") if words.is_control(token)]
    for said in (spelled, spelled[1:] + spelled[0], "".join(list(words.controls)[:9])):
        read = tokens(said)
        assert [token for token in read if words.is_control(token)] == plain
        text = b"".join(map(words.piece, read)).replace(b" ", b"")  # some put a space before whatever they are given
        assert text.count(said.encode()) >= 4


@pytest.mark.parametrize(
    ("tokenizer", "name", "family"),
    [("gemma-4", "google-gemma-4-31B-it", "gemma4"), ("qwen2", "Qwen-Qwen2.5-7B-Instruct", "hermes")],
    ids=["marks are tokens", "marks are text"],
)
def test_a_real_tokenizer_reads_what_the_grammar_wants(tokenizer: str, name: str, family: str) -> None:
    words, dialect = vocabulary(tokenizer), DIALECTS[family]
    text = written(sdist.template(name), family, FULL)
    grammar = words.marked(choosing(offers(), dialect, may_escalate=False))
    matcher = llguidance.LLMatcher(Table(words).get(), llguidance.LLMatcher.grammar_from_lark(grammar), log_level=0)
    assert matcher.consume_tokens(words.tokenize(text, special=True))
    assert matcher.is_accepting()
    marks = [token for token in words.tokenize(text, special=True) if words.is_control(token)]
    assert bool(marks) == (family == "gemma4")
    matcher.reset()
    begin = matcher.compute_ff_tokens()
    assert b"".join(map(words.piece, begin)).startswith(dialect.triggers[0].encode())
