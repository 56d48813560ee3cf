"""What a caller is told where no call is made: what would help, in the caller's own words."""

from __future__ import annotations

import pytest

from edged.agent.dialect import DIALECTS
from edged.agent.intent import AskBack, Decision, NoTool, PassOn
from edged.agent.questions import without_model
from edged.domain.messages import ToolCall

ASKED = AskBack("read_sensor", {}, ("sensor", "zone"))
GUESS = ToolCall("1", "set_timer", {"minutes": 10})


@pytest.mark.parametrize(
    ("decided", "reason", "told"),
    [
        (ASKED, "missing_argument", "Which sensor and zone is meant, for read sensor?"),
        (
            AskBack("switch", {}, ("device",), ("desk lamp", "floor lamp")),
            "missing_argument",
            "Which device: desk lamp or floor",
        ),
        (PassOn(("read_sensor",), lacks=ASKED), "missing_argument", "Which sensor and zone is meant, for read sensor?"),
        (PassOn(("set_timer",), guess=GUESS), "unsure", "Did you mean: set timer (minutes 10)?"),
        (PassOn(("set_timer", "list_timers")), "unsure", "Did you mean: set timer or list timers?"),
        (PassOn(("set_timer",), several=True), "several_requests", "more than one thing"),
        (NoTool(0.9), "no_tool_fits", "No tool"),
    ],
)
def test_what_is_told(decided: Decision, reason: str, told: str) -> None:
    step = without_model(decided, True, DIALECTS["edged"])
    assert step is not None and step.reason == reason and told in step.text


def test_a_larger_model_is_asked_before_the_caller() -> None:
    assert without_model(PassOn(("read_sensor",), lacks=ASKED), True, DIALECTS["hermes"]) is None
    assert without_model(PassOn(("read_sensor",), lacks=ASKED), False, DIALECTS["hermes"]) is not None
