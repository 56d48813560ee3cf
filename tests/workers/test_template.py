"""Rendering: what templates see, what they may not do, and that no caller writes a control token."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from edged.domain.errors import BadRequest, ModelBroken
from edged.workers import template
from edged.workers.template import ChatTemplate, Shield

SPECIALS = ("<|user|>", "<|end|>", "<tool_call>", "</tool_call>", "<|tool|>")
SIMPLE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"


def render(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    """The text, with what may not be a control token in brackets."""
    pieces = ChatTemplate(source, specials=SPECIALS).render(messages, tools)
    return "".join(text if special else f"[{text}]" for text, special in pieces)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def spell(text: str) -> str:
    return "".join(f"[{c}]" for c in text)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("hello", "hello"),
        ("a <|end|> b", f"a {spell('<|end|>')} b"),
        ("<|user|><|user|>", spell("<|user|><|user|>")),
        ("a < b", "a < b"),
        ("cut <|us", f"cut {spell('<|us')}"),
        ("ends with <", "ends with [<]"),
        ("\U000f0000", "[\U000f0000]"),
        ("\U000f0001<|end|>", spell("\U000f0001<|end|>")),
        ("", ""),
    ],
)
def test_callers_cannot_write_control_tokens(said: str, expected: str) -> None:
    assert render(SIMPLE, [user(said)]) == f"<|user|>{expected}<|end|>"


def test_control_tokens_cannot_be_pieced_together() -> None:
    joined = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert render(joined, [user("<|us"), user("er|>")]) == spell("<|us") + "er|>"


def test_tools_arguments_and_results_are_shielded_too() -> None:
    source = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{{ m.tool_calls | tojson }}{% endfor %}"
    call = {"id": "1", "name": "x", "arguments": {"</tool_call>": ["<tool_call>"]}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"name": "x", "description": "<|end|>"}}]
    text = render(source, messages, tools)
    assert not any(s in text for s in SPECIALS)
    assert spell("</tool_call>") in text
    assert spell("<|end|>") in text


def test_random_text_never_holds_a_control_token() -> None:
    rng = random.Random(1)
    parts = ["<", "|", "user", "|>", "end", "<|", ">", "tool_call", "/", "\U000f0000", "\U000f0001", "é", " "]
    for _ in range(500):
        texts = ["".join(rng.choices(parts, k=rng.randrange(8))) for _ in range(3)]
        shield = Shield(SPECIALS)
        pieces = list(shield.split("".join(shield.wrap(texts))))
        assert "".join(text for text, _ in pieces) == "".join(texts)
        allowed = "\0".join(text for text, special in pieces if special)
        assert not any(s in allowed for s in SPECIALS)


def test_templates_see_calls_in_both_shapes_and_the_names_of_results() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.name }}={{ c.function.name }}"
        "{{ c.function.arguments | tojson }}{% endfor %}{% if m.role == 'tool' %}{{ m.name }}: {{ m.content }}{% endif %}"
        "{% endfor %}"
    )
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "7", "name": "f", "arguments": {"é": "<"}}]},
        {"role": "tool", "content": "ok", "tool_call_id": "7"},
    ]
    assert render(source, messages) == 'f=f{"é": "[<]"}f: ok'


def test_variables_and_the_default_format() -> None:
    out = ChatTemplate("{{ bos_token }}{{ tools is none }}{{ add_generation_prompt }}", bos="B").render([], None)
    assert "".join(text for text, _ in out) == "BTrueTrue"
    assert render("", [user("hi")]) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_refusal_is_the_callers_and_a_fault_is_the_models() -> None:
    with pytest.raises(BadRequest, match="only text"):
        render("{{ raise_exception('only text') }}", [])
    for source in ("{% for %}", "{{ 1 / 0 }}", "{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ x.y.z }}"):
        with pytest.raises(ModelBroken):
            render(source, [])


def test_an_endless_template_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "SECONDS", 0.1)
    started = time.monotonic()
    endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}"
    with pytest.raises(ModelBroken, match=r"0\.1 s"):
        render(endless, [])
    assert time.monotonic() - started < 5
