"""What a caller is told where the intent tier decided against a call: what is missing, what is unclear, that nothing fits. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edged.agent.dialect import Dialect
from edged.agent.intent import AskBack, Decision, NoTool, PassOn
from edged.agent.turn import Escalate

__all__ = ["without_model"]


def without_model(decided: Decision | None, has_model: bool, dialect: Dialect) -> Escalate | None:
    """Why the device is done with the request, if it is. Where the reader is in doubt, the bundled model is no help."""
    match decided:
        case AskBack():
            return _which(decided)
        case PassOn(several=True):
            return Escalate("several_requests", "That is more than one thing. Please ask for one at a time.")
        case NoTool():
            return Escalate("no_tool_fits", "No tool on this device fits the request.")
        case PassOn(unread=unread) if not has_model or not (dialect.sound or unread):
            return _which(decided.lacks) if decided.lacks else Escalate("unsure", _did_you_mean(decided))
        case None if not has_model:
            return Escalate("no_tool_fits", "No pattern of this agent fits the request.")
    return None


def _which(asked: AskBack) -> Escalate:
    if asked.among:
        return Escalate("missing_argument", f"Which {asked.missing[0].replace('_', ' ')}: {_either(asked.among)}?")
    lacking = " and ".join(name.replace("_", " ") for name in asked.missing)
    return Escalate("missing_argument", f"Which {lacking} is meant, for {asked.tool.replace('_', ' ')}?")


def _did_you_mean(unsure: PassOn) -> str:
    """One guess with all that it says, so that "yes" is an answer; or the tools it may be."""
    shown = [name.replace("_", " ") for name in unsure.tools[:3]]
    if unsure.guess is not None:
        values = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in unsure.guess.arguments.items())
        shown = [unsure.guess.name.replace("_", " ") + (f" ({values})" if values else "")]
    return f"It is not clear what is meant. Did you mean: {_either(shown)}?"


def _either(values: Sequence[str], most: int = 5) -> str:
    shown = [*values[:most], *(["another"] if len(values) > most else [])]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} or {shown[-1]}"
