"""The words of the bundled model: its special tokens, and samples as the text that `chat_template.jinja` makes of them.

Training writes prompts with these functions, serving with the template; a test holds the two equal.
"""

from __future__ import annotations

from typing import Any

from training.sentences import Card, Group, Part

__all__ = ["ESCALATE", "SPECIAL", "answer_text", "group_prefix", "openai_tools", "part_prompt", "result_prompt"]

ESCALATE = "<escalate>"
SPECIAL = (
    "<|pad|>",
    "<|tools|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<tool_call>",
    "</tool_call>",
    ESCALATE,
    "<|tool|>",
)


def group_prefix(group: Group) -> str:
    """What the chat template writes of the tools."""
    return "<|tools|>" + "\n".join(card.line for card in group.cards)


def part_prompt(part: Part) -> str:
    return f"<|user|>{part.sentence}<|assistant|>"


def answer_text(part: Part) -> str:
    """What the model writes to choose."""
    return f"<tool_call>{part.call}</tool_call><|end|>" if part.call else f"{ESCALATE}<|end|>"


def result_prompt(part: Part) -> str:
    """What follows a call that has run: it stands without its end mark, for the turn is not over."""
    return f"<|tool|>{part.result}<|assistant|>"


def openai_tools(group: Group) -> list[dict[str, Any]]:
    """The tools as a chat request carries them."""
    return [{"type": "function", "function": _function(card)} for card in group.cards]


def _function(card: Card) -> dict[str, Any]:
    params = card.tool.params
    parameters = {
        "type": "object",
        "properties": {card.spoken[p.key]: _schema(p.kind, p.of) for p in params},
        "required": [card.spoken[p.key] for p in params if not p.optional],
    }
    return {"name": card.name, "description": card.line.split(" - ", 1)[1], "parameters": parameters}


def _schema(kind: str, of: tuple[str, ...]) -> dict[str, Any]:
    if kind == "choice":
        return {"type": "string", "enum": list(of)}
    return {"type": {"int": "integer", "float": "number"}.get(kind, "string")}
