"""The intent tier in the cascade. The encoder is scripted here, by sentence; `tests/workers/test_onnx.py` has the real one."""

from __future__ import annotations

from typing import Any

import pytest

from edged.agent.reader import Reader
from edged.agent.router import Router
from edged.agent.runner import Runner
from edged.agent.turn import Escalate
from edged.domain.errors import DeadlineExceeded, EdgedError, EngineCrashed, ModelBroken
from edged.domain.messages import ReplyStatus, Tier
from edged.domain.resources import Agent, Grounding, ToolSpec
from edged.store.database import Database
from edged.store.effects import Effects
from edged.store.lessons import Lessons
from edged.store.sessions import Sessions

from .scripted import CALL, Model, Tools, ask

DIM = ToolSpec(
    "dim",
    "Dim a light",
    {"type": "object", "properties": {"percent": {"type": "integer"}}, "required": ["percent"]},
    grounding={"percent": Grounding("number")},
    say="Dimmed to {percent}.",
)
BARE = ToolSpec("bare", "Tell a number", {"type": "object", "properties": {}})
KIOSK = Agent("kiosk", "m", ("dim", "bare"))
UNSAID = {"spans": [], "absent": 0.99, "stated": []}


class Encoder:
    """Forgets what it was taught every time it is asked to; answers by the first word of the sentence."""

    def __init__(self, error: EdgedError | None = None) -> None:
        self.known: set[str] = set()
        self.verbs: list[str] = []
        self.error = error

    async def __call__(
        self, model: str, verb: str, params: dict[str, Any], deadline_monotonic: float | None = None
    ) -> Any:
        self.verbs.append(verb)
        if self.error is not None:
            raise self.error
        if verb == "teach":
            self.known.add(params["key"])
            return None
        if params["key"] not in self.known:
            return {"known": False}
        return {"known": True, "cut": False, "tools": self.tools(params["text"])}

    def tools(self, text: str) -> list[dict[str, Any]]:
        dim, bare, part = {"dim": (9.0, -9.0, -9.0), "number": (-9.0, 9.0, -9.0), "both": (0.0, 0.0, 9.0)}.get(
            text.split()[0], (0.0, -9.0, -9.0) if text.startswith("perhaps") else (-9.0, -9.0, -9.0)
        )
        digits = next((i for i, c in enumerate(text) if c.isdigit()), None)
        said = UNSAID
        if digits is not None:
            said = {
                "spans": [(digits, digits + 2, 0.99, [int(text[digits : digits + 2])])],
                "absent": 0.01,
                "stated": [],
            }
        rest = {"like": 0.0, "llr": 0.0}
        return [
            {"index": 0, "act": dim, "part": part, "slots": [said], **rest},
            {"index": 1, "act": bare, "part": part, "slots": [], **rest},
        ]


def router(
    db: Database,
    encoder: Encoder,
    model: Model,
    agent: Agent = KIOSK,
    tools: Tools | None = None,
    dialect: str = "edged",
    lessons: Lessons | None = None,
) -> Router:
    tools = tools or Tools(DIM, BARE)
    runner = Runner(tools, Effects(db))
    reader = Reader(encoder, "encoder")
    names = {agent.name: agent}
    return Router(names, tools, runner, model, None, Sessions(db), lambda _: dialect, reader, lessons=lessons)


async def test_a_clear_sentence_needs_no_model(db: Database) -> None:
    encoder, model = Encoder(), Model()
    outcome = await router(db, encoder, model).answer(ask("dim it to 20 please"), None)
    reply = outcome.reply
    assert (reply.text, reply.tier, reply.status) == ("Dimmed to 20.", Tier.INTENT, ReplyStatus.DONE)
    assert reply.tool_calls[0].arguments == {"percent": 20}
    assert [stage.name for stage in reply.stages] == ["intent", "tool:dim"]
    assert model.asked == [] and encoder.verbs == ["understand", "teach", "understand"]


async def test_a_clear_sentence_does_not_look_at_the_language_model(db: Database) -> None:
    def broken(model: str) -> str:
        raise ModelBroken(f"cannot read {model}")

    tools = Tools(DIM, BARE)
    reader = Reader(Encoder(), "encoder")
    door = Router({"kiosk": KIOSK}, tools, Runner(tools, Effects(db)), Model(), None, Sessions(db), broken, reader)
    assert (await door.answer(ask("dim it to 20 please"), None)).reply.text == "Dimmed to 20."


async def test_tools_are_taught_once(db: Database) -> None:
    encoder = Encoder()
    door = router(db, encoder, Model())
    for _ in range(3):
        await door.answer(ask("dim it to 20 please"), None)
    assert encoder.verbs.count("teach") == 1


async def test_a_result_without_a_template_is_worded_by_the_model(db: Database) -> None:
    model = Model("It is 3.")
    outcome = await router(db, Encoder(), model).answer(ask("number please"), None)
    assert (outcome.reply.text, outcome.reply.tier) == ("It is 3.", Tier.INTENT)
    assert outcome.reply.usage.completion == 3
    quiet = Agent("kiosk", "m", ("dim", "bare"), tiers=("reflex", "intent"))
    outcome = await router(db, Encoder(), Model(), quiet).answer(ask("number please"), None)
    assert outcome.reply.text == "n: 3"


async def test_no_tool_is_the_end_of_it(db: Database) -> None:
    model = Model()
    outcome = await router(db, Encoder(), model).answer(ask("sing me a song"), None)
    assert outcome.escalate is not None and outcome.escalate.reason == "no_tool_fits"
    assert model.asked == [] and [stage.name for stage in outcome.reply.stages] == ["intent"]


async def test_two_things_at_once_are_not_half_done(db: Database) -> None:
    tools = Tools(DIM, BARE)
    outcome = await router(db, Encoder(), Model(), tools=tools).answer(ask("both of them 20"), None)
    assert outcome.escalate is not None and outcome.escalate.reason == "several_requests"
    assert tools.called == []


async def test_what_is_missing_is_asked_and_its_answer_understood(db: Database) -> None:
    door = router(db, Encoder(), Model())
    asked = await door.answer(ask("dim the light", session="s"), None)
    assert asked.escalate is not None and asked.escalate.reason == "missing_argument"
    assert "percent" in asked.escalate.text
    assert (await door.answer(ask("35", session="another"), None)).escalate is not None
    outcome = await door.answer(ask("35", session="s"), None)
    assert outcome.reply.tool_calls[0].arguments == {"percent": 35}
    assert (await door.answer(ask("40", session="s"), None)).escalate is not None  # the question was answered


async def test_an_unsure_reader_hands_a_shortlist_to_the_model(db: Database) -> None:
    model = Model('<tool_call>{"name":"dim","arguments":{"percent":20}}</tool_call>')
    outcome = await router(db, Encoder(), model, dialect="hermes").answer(ask("perhaps 20"), None)
    assert [tool.name for tool in model.asked[0].tools] == ["dim"]
    assert outcome.reply.tier is Tier.MODEL
    assert outcome.reply.stages[0].name == "intent"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (("desk lamp", "floor lamp"), "Which percent: desk lamp or floor lamp?"),
        (tuple("abcdefg"), "Which percent: a, b, c, d, e or another?"),
    ],
)
async def test_a_choice_left_open_is_asked_for_by_name(db: Database, values: tuple[str, ...], text: str) -> None:
    class Torn(Encoder):
        def tools(self, text: str) -> list[dict[str, Any]]:
            dim, bare = super().tools(text)
            return [dim | {"slots": [{"spans": [(0, 3, 0.99, values)], "absent": 0.01, "stated": []}]}, bare]

    outcome = await router(db, Torn(), Model()).answer(ask("dim the lamp"), None)
    assert outcome.escalate is not None
    assert (outcome.escalate.reason, outcome.escalate.text) == ("missing_argument", text)


async def test_without_a_model_an_unsure_reader_gives_up(db: Database) -> None:
    quiet = Agent("kiosk", "m", ("dim", "bare"), tiers=("reflex", "intent"))
    outcome = await router(db, Encoder(), Model(), quiet).answer(ask("perhaps 20"), None)
    assert outcome.escalate is not None
    assert (outcome.escalate.reason, outcome.escalate.text) == (
        "unsure",
        "It is not clear what is meant. Did you mean: dim (percent 20)?",
    )


async def test_a_yes_makes_the_call_that_was_asked_about(db: Database) -> None:
    tools = Tools(DIM, BARE)
    quiet = Agent("kiosk", "m", ("dim", "bare"), tiers=("reflex", "intent"))
    door = router(db, Encoder(), Model(), quiet, tools)
    await door.answer(ask("perhaps 20", session="s"), None)
    outcome = await door.answer(ask("Yes, please!", session="s"), None)
    assert (outcome.reply.text, outcome.reply.tier) == ("Dimmed to 20.", Tier.INTENT)
    again = await door.answer(ask("yes", session="s"), None)
    assert again.escalate is not None and len(tools.called) == 1  # one yes, one call


@pytest.mark.parametrize("learn", [True, False])
async def test_a_confirmed_call_teaches_where_that_is_wanted(db: Database, learn: bool) -> None:
    lessons = Lessons(db)
    quiet = Agent("kiosk", "m", ("dim", "bare"), tiers=("reflex", "intent"), learn=learn)
    door = router(db, Encoder(), Model(), quiet, Tools(DIM, BARE), lessons=lessons)
    await door.answer(ask("perhaps, 20!", session="s"), None)
    assert lessons.all("kiosk") == {}
    await door.answer(ask("yes", session="s"), None)
    assert lessons.all("kiosk") == ({"dim": ("perhaps 20",)} if learn else {})


@pytest.mark.parametrize(
    "between",
    [("sing me a song", "s"), ("yes, but louder", "s"), ("yes", "another"), ("yes", None)],
    ids=["something else", "a yes and more", "another session", "no session"],
)
async def test_only_the_answer_to_the_question_is_a_yes(db: Database, between: tuple[str, str | None]) -> None:
    tools = Tools(DIM, BARE)
    quiet = Agent("kiosk", "m", ("dim", "bare"), tiers=("reflex", "intent"))
    door = router(db, Encoder(), Model(), quiet, tools)
    await door.answer(ask("perhaps 20", session="s"), None)
    await door.answer(ask(between[0], session=between[1]), None)
    if between[1] == "s":
        await door.answer(ask("yes", session="s"), None)
    assert tools.called == []


@pytest.mark.parametrize(("dialect", "done"), [("edged", False), ("hermes", True)], ids=["bundled", "a larger one"])
async def test_the_bundled_model_is_no_help_to_a_doubtful_reader(db: Database, dialect: str, done: bool) -> None:
    tools, model = Tools(DIM, BARE), Model('<tool_call>{"name": "dim", "arguments": {"percent": 30}}</tool_call>')
    door = router(db, Encoder(), model, tools=tools, dialect=dialect)
    outcome = await door.answer(ask("perhaps 20"), None)
    assert [call.arguments for call in outcome.reply.tool_calls] == [{"percent": 30}] * done
    question = Escalate("unsure", "It is not clear what is meant. Did you mean: dim (percent 20)?")
    assert outcome.escalate == (None if done else question)


async def test_what_no_reader_reads_is_the_bundled_models(db: Database) -> None:
    tag = ToolSpec(
        "dim",
        "Dim lights",
        {"type": "object", "properties": {"all": {"type": "boolean"}}, "required": ["all"]},
        say="Done.",
    )
    model = Model('<tool_call>{"name": "dim", "arguments": {"all": true}}</tool_call>')
    outcome = await router(db, Encoder(), model, tools=Tools(tag, BARE)).answer(ask("dim all of them"), None)
    assert [call.arguments for call in outcome.reply.tool_calls] == [{"all": True}]


@pytest.mark.parametrize("error", [ModelBroken("cannot read it"), EngineCrashed("it ended")], ids=["broken", "crashed"])
async def test_a_missing_encoder_only_costs_time(db: Database, error: EdgedError) -> None:
    model = Model(CALL % "bare", "It is 3.")
    outcome = await router(db, Encoder(error), model).answer(ask("number please"), None)
    assert outcome.reply.tier is Tier.MODEL and outcome.reply.text == "It is 3."
    assert len(model.asked[0].tools) == 2


async def test_a_deadline_in_the_encoder_is_a_deadline(db: Database) -> None:
    with pytest.raises(DeadlineExceeded):
        await router(db, Encoder(DeadlineExceeded("late")), Model()).answer(ask("number please"), None)


async def test_an_agent_without_the_tier_is_not_read(db: Database) -> None:
    encoder = Encoder()
    slow = Agent("kiosk", "m", ("dim",), tiers=("reflex", "model"))
    await router(db, encoder, Model("<escalate>"), slow).answer(ask("dim it to 20 please"), None)
    assert encoder.verbs == []
