"""The batcher on tiny models in this process: who computes what, and that nobody notices the others.

What batching may change: a token for which the single run preferred the next best one by less than `TIE`. The logits of these
models spread by about one; keys and values are rounded to sixteen bits, and in another batch sums are made in another order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from edged.domain.errors import Cancelled, DeadlineExceeded, EdgedError, GenerationFailed, ModelBroken
from edged.domain.ports import Sampling
from edged.workers import aborting, batcher, generation
from edged.workers.llama import Row, Status
from edged.workers.lookup import Lookup
from edged.workers.sampling import Choice

from .batching import BATCH, Clock, Desk, Told, greedy, loaded

TIE = 0.01


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (aborting, batcher, generation):
        monkeypatch.setattr(module, "time", made)
    return made


def some(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(256) for _ in range(count)]


def alike(told: Told, kind: str = "llama") -> bool:
    """Whether a greedy generation said what the model says by itself, near ties aside."""
    assert told.generation is not None
    ask, made = told.generation.ask, told.made
    assert not any(map(loaded(kind).vocabulary.is_end, made))
    alone = greedy(ask.prompt, len(made) + 1, ask.lane, kind)
    for token, (expected, margin) in zip(made, alone, strict=False):
        if token != expected:
            return margin < TIE
    ended, margin = alone[-1]
    return told.result["finish_reason"] == "length" or loaded(kind).vocabulary.is_end(ended) or margin < TIE


# at random


@dataclass
class Visitor:
    """A request to come: at which step, and when it leaves or has to be done."""

    at: int
    prompt: list[int]
    most: int
    gone: int | None
    more: dict[str, Any]
    told: Told | None = None


@dataclass
class Day:
    """Random visitors at one desk. A step takes a second."""

    rng: random.Random
    clock: Clock
    kind: str = "llama"
    context: int = 96
    desk: Desk = field(init=False)
    visitors: list[Visitor] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self.rng
        limits: dict[str, Any] = {"cells": rng.choice([96, 110, 130, 160, 256]), "batch_size": rng.choice([16, BATCH])}
        self.desk = Desk(loaded(self.kind), context_length=self.context, slots=rng.randrange(1, 5), **limits)
        agents = [some(rng.randrange(5, 70), rng.random()) for _ in range(3)]  # type: ignore[arg-type]
        self.visitors = sorted((self._visitor(agents) for _ in range(rng.randrange(2, 14))), key=lambda v: v.at)

    def _visitor(self, agents: list[list[int]]) -> Visitor:
        rng, number = self.rng, self.rng.randrange(4)
        heading = [*agents, []][number]
        prompt = [*heading, *some(rng.randrange(1, 30), rng.randrange(10**6))][: self.context - 2]
        more = {
            "rank": rng.randrange(3),
            "agent": f"agent {number}" if heading else "",
            "fixed": min(len(heading), len(prompt) - 1),
            "lane": rng.choice([None, None, "x", "y"]) if self.kind == "llama" else None,
            "deadline": rng.choice([float("inf"), float("inf"), rng.randrange(1, 90)]),
            "guess": self.kind == "llama" and rng.random() < 0.5,
        }
        gone = rng.choice([None, None, None, rng.randrange(80)])
        return Visitor(rng.randrange(60), prompt, rng.randrange(1, 40), gone, more)

    def pass_by(self) -> None:
        """Everybody comes and goes; each step is looked at."""
        desk, step, idle = self.desk, 0, 0
        while desk.batcher.busy or any(v.told is None for v in self.visitors):
            self.clock.now = float(step)
            for visitor in self.visitors:
                if visitor.told is None and visitor.at <= step:
                    visitor.told = desk.ask(visitor.prompt, visitor.most, **visitor.more)
                if visitor.told is not None and visitor.gone is not None and visitor.gone <= step:
                    visitor.told.gone = True
            rows = desk.step()
            step, idle = step + 1, 0 if rows or not desk.batcher.busy else idle + 1
            self.check(rows, idle, step)
        desk.batcher.idle()

    def check(self, rows: list[Row], idle: int, step: int) -> None:
        desk = self.desk
        assert idle < 3, "everybody waits for everybody"
        assert step < 200 + 3 * sum(len(v.prompt) + v.most for v in self.visitors), "somebody starves"
        assert len(rows) <= desk.llama.batch_size
        assert len({row.sequence for row in rows}) <= desk.llama.slots
        assert desk.cache.used <= desk.llama.cells
        assert Status.NO_ROOM not in desk.llama.statuses
        for visitor in self.visitors:
            if visitor.told is not None and (visitor.told.gone or visitor.more["deadline"] <= self.clock.now):
                assert visitor.told.ends  # within a step


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_everybody_gets_what_they_get_alone(clock: Clock, seed: int, kind: str) -> None:
    # Once: in some of these days everybody waits for cells that nobody is asked to give (see the first test of tight
    # cells).
    for trial in range(8 if kind == "llama" else 3):
        day = Day(random.Random(100 * seed + trial), clock, kind)
        day.pass_by()
        assert day.desk.leaks() == []
        for visitor in day.visitors:
            assert visitor.told is not None
            (end,) = visitor.told.ends  # exactly once
            if isinstance(end, EdgedError):
                assert isinstance(end, (Cancelled, DeadlineExceeded))
                assert visitor.told.gone or visitor.more["deadline"] < float("inf")
            else:
                assert visitor.told.text == "".join(visitor.told.parts)
                assert end["prompt_tokens"] == len(visitor.prompt)
                assert end["completion_tokens"] == len(visitor.told.made) <= visitor.most
                assert 0 <= end["cached_tokens"] < len(visitor.prompt)
                if end["finish_reason"] == "length":
                    assert len(visitor.told.made) == min(visitor.most, day.context - len(visitor.prompt))
                assert alike(visitor.told, kind)


# one by one


def test_greedy_is_the_models_own_word() -> None:
    for seed in range(4):
        told = Desk().alone(some(30, seed), 30)
        expected = [token for token, _ in greedy(some(30, seed), 30)]
        assert told.made == expected[: len(told.made)]
        assert len(expected) - len(told.made) in (0, 1)


@pytest.mark.parametrize(("length", "most", "made"), [(20, 1, 1), (20, 9, 9), (90, 100, 6), (95, 100, 1)])
def test_the_end_of_a_generation(length: int, most: int, made: int) -> None:
    told = Desk(context_length=96).alone(some(length, 5), most)
    assert (len(told.made), told.result["finish_reason"]) == (made, "length")


def choosing(told: Told, *tokens: int) -> None:
    """Its sampler takes these tokens, whatever the model says."""
    assert told.generation is not None
    left = iter(tokens)
    told.generation.sampler.choose = lambda logits: Choice(next(left))  # type: ignore[method-assign]


def test_the_end_token_is_not_said() -> None:
    desk = Desk()
    told = desk.ask(b"hello", 9)
    choosing(told, *b"ab", loaded().vocabulary.controls["<|end|>"])
    desk.run()
    assert (told.text, told.result["finish_reason"], told.result["completion_tokens"]) == ("ab", "stop", 2)


def test_what_was_held_back_is_said_in_the_end() -> None:
    """What might have become a stop string, and what is left of a character."""
    for tokens, text in ((b"one EN", "one EN"), ("é🙂".encode()[:-1], "é�")):
        desk = Desk()
        told = desk.ask(b"hello", len(tokens), how=Sampling(stop=("END",)))
        choosing(told, *tokens)
        desk.run()
        assert (told.text, told.result["finish_reason"]) == (text, "length")


def test_stop_strings_end_it() -> None:
    whole = Desk().alone(b"hello", 30).text
    stop = whole[10:13]
    told = Desk().alone(b"hello", 30, how=Sampling(stop=(stop, "never that")))
    assert (told.text, told.result["stop"], told.result["finish_reason"]) == (whole[: whole.find(stop)], stop, "stop")


def test_logprobs_have_an_entry_a_token() -> None:
    # Once: what a grammar forces has none, and the end token has one.
    how = Sampling(logprobs=2)
    free = Desk().alone(b"hello", 12, how=how)
    assert [entry["bytes"] for entry in free.result["logprobs"]] == [
        list(loaded().vocabulary.piece(t)) for t in free.made
    ]
    for grammar in ("start: /[ab]{3}/", 'start: "abc" /[xy]/ "de" /[xy]/', 'start: /[xy]/ "de"'):
        told = Desk().alone(b"hello", 12, how=how, grammar=grammar)
        assert len(told.result["logprobs"]) == told.result["completion_tokens"]


# prefixes


def test_a_first_wave_computes_its_prefix_once() -> None:
    desk, heading = Desk(), some(100)
    wave = [desk.ask([*heading, number, 1, 2], 4, agent="a", fixed=100) for number in range(5)]
    desk.run()
    assert len({row.position for batch in desk.llama.batches for row in batch if row.position < 100}) == 100
    assert sum(row.position < 100 for batch in desk.llama.batches for row in batch) == 100
    assert sorted(told.result["cached_tokens"] for told in wave) == [0, 100, 100, 100, 100]
    assert all(alike(told) for told in wave)
    later = [desk.ask([*heading, number, 9], 4, agent="a", fixed=100) for number in range(5)]
    before = len(desk.llama.batches)
    desk.run()
    assert sum(row.position < 100 for batch in desk.llama.batches[before:] for row in batch) == 0
    assert {told.result["cached_tokens"] for told in later} == {101}


def test_two_agents_share_what_they_have_in_common() -> None:
    desk, common = Desk(), some(60)
    one, other = [*common, *some(40, 1)], [*common, *some(40, 2)]
    desk.alone([*one, 1], agent="a", fixed=100)
    assert desk.alone([*other, 1], agent="b", fixed=100).result["cached_tokens"] == 60
    assert desk.alone([*one, 2], agent="a", fixed=100).result["cached_tokens"] == 100
    assert desk.alone([*other, 2], agent="b", fixed=100).result["cached_tokens"] == 100


def test_a_conversation_goes_on_where_it_was() -> None:
    desk = Desk()
    first = desk.alone(some(40), 10)
    second = desk.alone([*some(40), *first.made, 1, 2, 3], 10)
    assert second.result["cached_tokens"] == 40 + len(first.made) - 1  # the last token was chosen, not computed
    assert alike(second)


def test_pins_survive_what_others_do_not() -> None:
    desk = Desk(cells=256, context_length=256)
    heading = some(80)
    desk.alone([*heading, 1], agent="a", fixed=80)
    desk.alone(some(60, 1))
    for number in range(2, 9):
        desk.alone(some(100, number), 4)
    assert desk.cache.used <= 256
    assert desk.alone([*heading, 2], agent="a", fixed=80).result["cached_tokens"] == 80
    assert desk.alone([*some(60, 1), 2]).result["cached_tokens"] == 0


def test_a_state_that_ends_elsewhere_is_nobodys_prefix() -> None:
    """A recurrent model's conversation goes on under another agent: its state is past that agent's prefix."""
    desk = Desk(loaded("mamba"))
    first = desk.alone(some(40), 6, agent="a", fixed=30)
    second = desk.alone([*some(40), *first.made, 1, 2], 6, agent="b", fixed=30)
    assert second.result["cached_tokens"] == 40 + len(first.made) - 1
    third = desk.alone([*some(30), 3, 4, 5], 6, agent="b", fixed=30)
    assert third.result["cached_tokens"] == 30
    assert all(alike(told, "mamba") for told in (first, second, third))
    assert desk.leaks() == []


def test_numbers_are_never_used_up() -> None:
    desk = Desk()
    for number in range(300):
        desk.alone([number % 256, number // 256, 7], 1, agent=f"agent {number}", fixed=2)
        assert all(row.sequence < desk.llama.slots for batch in desk.llama.batches for row in batch)
    assert desk.leaks() == []


def test_a_prompt_that_is_known_to_the_last_token() -> None:
    desk = Desk()
    first, again = (desk.alone(some(50), 5) for _ in range(2))
    assert again.result["cached_tokens"] == 49
    assert alike(first)
    assert alike(again)


def test_adapters_side_by_side_share_nothing() -> None:
    desk, heading = Desk(), some(40)
    lanes = (None, "x", "y", "x", None)
    wave = [desk.ask([*heading, number], 12, agent="a", fixed=40, lane=lane) for number, lane in enumerate(lanes)]
    desk.run()
    assert sorted(told.result["cached_tokens"] for told in wave) == [0, 0, 0, 40, 40]
    assert all(alike(told) for told in wave)
    assert len({tuple(told.made) for told in wave}) == 5


# speculation


class Oracle(Lookup):
    """Guesses what it is told, right or wrong."""

    def __init__(self, said: Sequence[int], start: int) -> None:
        super().__init__()
        self._said, self._start, self.luck = said, start, list[tuple[int, int]]()

    def guess(self, most: int) -> list[int]:
        at = len(self._tokens) - self._start
        return list(self._said[at : at + min(most, 6)])

    def learn(self, guessed: int, right: int) -> None:
        self.luck.append((guessed, right))


def guessed(
    prompt: list[int], said: Sequence[int], most: int = 24, kind: str = "llama", **more: Any
) -> tuple[Desk, Told, Oracle]:
    desk = Desk(loaded(kind))
    told, oracle = desk.ask(prompt, most, **more), Oracle(said, len(prompt))
    assert told.generation is not None
    told.generation.lookup = oracle
    oracle.feed(prompt)
    desk.run()
    return desk, told, oracle


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@pytest.mark.parametrize("wrong", [0, 1, 3, 24])
def test_guesses_change_nothing_but_the_number_of_steps(kind: str, wrong: int) -> None:
    """Every `wrong`-th guess is wrong."""
    # Once: a state cannot forget a wrong guess, and the worker dies of the next step.
    prompt = some(20, 3)
    alone = Desk(loaded(kind)).alone(prompt, 24).made
    said = [token ^ 1 if wrong and i % wrong == 0 else token for i, token in enumerate(alone)]
    desk, told, oracle = guessed(prompt, said, kind=kind)
    assert told.made == alone
    assert desk.leaks() == []
    if kind == "llama" and wrong == 0:
        assert desk.steps <= 6
        assert all(right == guess for guess, right in oracle.luck)


def test_guesses_end_where_the_generation_ends() -> None:
    prompt = some(20, 3)
    alone = Desk().alone(prompt, 24)
    stop = alone.text[5:7]
    cut = Desk().alone(prompt, 24, how=Sampling(stop=(stop,)))
    _, told, _ = guessed(prompt, alone.made, how=Sampling(stop=(stop,)))
    assert (told.text, told.made) == (cut.text, cut.made)
    for most in range(1, 9):
        assert guessed(prompt, alone.made, most)[1].made == alone.made[:most]
    bound = Desk().alone(prompt, 24, grammar="start: /[a-f]{9}/").made
    for said in (alone.made, bound, bound[:4] + alone.made):
        assert guessed(prompt, said, grammar="start: /[a-f]{9}/")[1].made == bound


def test_guesses_stay_inside_the_context() -> None:
    prompt = some(90, 3)
    desk = Desk(context_length=96)
    told = desk.ask(prompt, 50)
    assert told.generation is not None
    told.generation.lookup = Oracle([1] * 200, 90)
    told.generation.lookup.feed(prompt)
    desk.run()
    assert max(row.position for batch in desk.llama.batches for row in batch) < 96
    assert len(told.made) == 6


def test_who_is_not_alone_does_not_guess() -> None:
    desk = Desk()
    told = desk.ask(some(20, 3), 12)
    assert told.generation is not None
    told.generation.lookup = Oracle([1] * 99, 20)
    desk.ask(some(20, 4), 12)
    desk.run()
    assert told.generation.lookup.luck == []


# cells


def test_a_started_request_that_keeps_only_shared_cells_makes_room() -> None:
    # Once: nobody's own are the cells that a request shares with the cache, so it is never set aside; all wait for
    # ever.
    desk, heading = Desk(cells=128, context_length=96, slots=2), some(48)
    desk.alone([*heading, 1], 1, agent="a", fixed=48)
    urgent = desk.ask(some(40, 1), 50, rank=0)
    desk.until(lambda: len(urgent.made) == 40)
    later = desk.ask([*heading, *some(10, 2)], 5, agent="a", fixed=48)
    desk.run(300)
    assert alike(urgent)
    assert alike(later)


def test_nobody_starts_what_does_not_fit_beside_its_own_prefix() -> None:
    # Once: an idle prefix counts as room for the request that is about to use it, so the start is in vain, over and
    # over.
    desk, heading = Desk(cells=128, context_length=96, slots=2), some(48)
    desk.alone([*heading, 1], 1, agent="a", fixed=48)
    desk.cache.make_room(80)
    urgent = desk.ask(some(40, 1), 50, rank=0)
    desk.until(lambda: len(urgent.made) == 25)
    desk.ask([*heading, *some(16, 2)], 5, agent="a", fixed=48)
    steps = desk.steps
    desk.until(lambda: len(urgent.made) == 45, 60)
    assert desk.steps - steps == 20  # a token a step


def test_an_urgent_request_takes_the_cells_of_another() -> None:
    desk = Desk(cells=128, context_length=96, slots=2)
    low = desk.ask(some(60), 30, rank=2)
    desk.until(lambda: len(low.made) == 10)
    high = desk.ask(some(80, 1), 10, rank=0)
    desk.until(lambda: bool(high.ends))
    assert low.ends == []
    assert low.generation is not None
    assert low.generation.computed < 60 or desk.cache.used > 60
    desk.run()
    assert len(low.made) == 30
    assert alike(low)
    assert alike(high)
    positions = Counter((row.position, row.token) for batch in desk.llama.batches for row in batch)
    assert any(count > 1 for count in positions.values())  # it was computed again
    assert desk.leaks() == []


def test_a_request_that_is_paused_loses_only_time() -> None:
    desk = Desk(slots=1)
    low = desk.ask(some(30), 12, rank=2)
    desk.until(lambda: len(low.made) == 5)
    high = desk.ask(some(40, 1), 9, rank=0)
    middle = desk.ask(some(50, 2), 9, rank=1)
    desk.until(lambda: bool(high.ends))
    assert not middle.made
    desk.until(lambda: bool(middle.ends))
    assert len(low.made) == 5
    desk.run()
    computed = sum(len(told.made) - 1 for told in (low, middle, high)) + 30 + 40 + 50
    assert sum(map(len, desk.llama.batches)) == computed  # each token once
    assert all(alike(told) for told in (low, middle, high))
    assert desk.leaks() == []


def test_more_pauses_than_there_are_numbers() -> None:
    # Once: a recurrent model has few numbers to pause under, and the worker dies when there is none.
    desk = Desk(loaded("mamba"), slots=1, sequences=4)
    wave = []
    for number in range(8):  # each more urgent than those before
        wave.append(desk.ask(some(9, number), 4, deadline=1e9 - number))
        desk.step()
    desk.run()
    assert all(alike(told, "mamba") for told in wave)
    assert desk.leaks() == []


def test_more_than_there_are_slots_take_turns_by_arrival() -> None:
    desk = Desk(slots=2)
    wave = [desk.ask(some(20, number), 6) for number in range(7)]
    order = list[int]()
    while desk.batcher.busy:
        desk.step()
        order += [i for i, told in enumerate(wave) if told.ends and i not in order]
    assert all(abs(i - place) <= 1 for place, i in enumerate(order))  # two run at once, and end in either order
    assert all(alike(told) for told in wave)


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_llama_cpp_finds_no_room_some_times(times: int, others: int) -> None:
    # Once: twice in a row for one that is alone, and the worker gives up; the batch is not made smaller.
    desk = Desk()
    desk.alone(some(40, 9))
    left = [times]

    def before(rows: Sequence[Row]) -> Status | None:
        left[0] -= 1
        return Status.NO_ROOM if left[0] >= 0 else None

    desk.llama.before = before
    wave = [desk.ask(some(50, number), 6) for number in range(1 + others)]
    desk.run()
    assert all(alike(told) for told in wave)
    assert desk.leaks() == []


def test_llama_cpp_finds_room_for_small_batches_only() -> None:
    # Once: the batch is not made smaller: this goes on for ever
    desk = Desk()
    desk.llama.before = lambda rows: Status.NO_ROOM if len(rows) > 16 else None
    wave = [desk.ask(some(50, number), 6) for number in range(3)]
    desk.run()
    assert all(alike(told) for told in wave)


@pytest.mark.parametrize("count", [1, 4])
def test_what_a_grammar_forces_may_be_longer_than_a_batch(count: int) -> None:
    # Once: the batch breaks, and the worker with it.
    desk = Desk()
    grammar = f'start: /[xy]/ "{"abcdefgh" * 12}" /[xy]/'
    wave = [desk.ask([number], 200, grammar=grammar) for number in range(count)]
    other = desk.ask(some(20), 30)
    desk.run()
    assert {told.text[1:-1] for told in wave} == {"abcdefgh" * 12}
    assert max(map(len, desk.llama.batches)) <= BATCH
    assert alike(other)


# time


@pytest.mark.parametrize(
    ("pace", "most"),
    [
        (0.01, 26),  # a quarter of a second, and the stream
        (0.006, 64),  # a little more, for it fills a tile
        (0.003, 84),
    ],
)
def test_a_long_prompt_never_holds_up_a_stream(clock: Clock, pace: float, most: int) -> None:
    """Rows are counted, at `pace` seconds each."""
    desk = Desk()

    def before(rows: Sequence[Row]) -> None:
        clock.now += pace * len(rows)

    desk.llama.before = before
    assert len(desk_step(desk, desk.ask(some(100, 1), 1))) == 64  # the speed is not known yet
    desk.run()
    stream = desk.ask(some(20), 60)
    desk.step()
    prompt, steps = desk.ask(some(400, 2), 5), list[int]()
    while not prompt.made and not stream.ends:
        said = len(stream.made)
        steps.append(len(desk.step()))
        assert len(stream.made) == said + 1
    assert prompt.made
    assert max(steps) == min(most, BATCH)
    desk.run()
    assert alike(stream)
    assert alike(prompt)


def test_a_cold_first_step_is_soon_forgotten(clock: Clock) -> None:
    """Once: the speed was learnt without streams only, so a worker's first step, which is slow, bounded all prompts beside them."""
    desk, paces = Desk(), iter([0.05])

    def before(rows: Sequence[Row]) -> None:
        clock.now += (next(paces, 0.003) if len(rows) > 1 else 0.003) * len(rows)

    desk.llama.before = before
    stream = desk.ask(some(20), 60)
    desk.step()
    prompt, steps = desk.ask(some(400, 2), 5), list[int]()
    while not prompt.made:
        steps.append(len(desk.step()))
    assert steps[0] < 20 and max(steps) == BATCH
    desk.run()
    assert alike(stream) and alike(prompt)


def desk_step(desk: Desk, told: Told) -> list[Row]:
    assert not told.ends
    return desk.step()


def test_a_slow_device_reads_small_parts_even_alone(clock: Clock) -> None:
    desk = Desk()

    def before(rows: Sequence[Row]) -> None:
        clock.now += 0.05 * len(rows)

    desk.llama.before = before
    desk.alone(some(100), 1)
    desk.llama.batches.clear()
    desk.alone(some(300, 1), 1)
    assert max(map(len, desk.llama.batches)) == 20  # a second


@pytest.mark.parametrize("made", [0, 1, 7])
def test_a_cancelled_request_leaves_at_once(made: int) -> None:
    desk = Desk()
    told, other = desk.ask(some(30), 20), desk.ask(some(40, 1), 20)
    desk.until(lambda: len(told.made) >= made)
    said = len(told.parts)
    told.gone = True
    rows = desk.step()
    assert isinstance(told.error, Cancelled)
    assert len(told.parts) == said
    assert {row.token for row in rows if row.position < 30} <= {*some(40, 1), *other.made}
    desk.run()
    assert alike(other)
    assert desk.leaks() == []


@pytest.mark.parametrize("made", [0, 5])
def test_a_deadline_ends_a_request_in_the_middle(clock: Clock, made: int) -> None:
    desk = Desk()
    told, other = desk.ask(some(30), 20, deadline=10.0), desk.ask(some(30, 1), 20, deadline=99.0)
    desk.until(lambda: len(told.made) >= made)
    clock.now = 9.99
    desk.step()
    assert told.ends == []
    clock.now = 10.0
    desk.step()
    assert isinstance(told.error, DeadlineExceeded)
    desk.run()
    assert alike(other)
    assert desk.leaks() == []


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@pytest.mark.parametrize("steps", [0, 1])
def test_a_prompt_that_is_taken_back_is_aborted(kind: str, steps: int) -> None:
    """By native code, between two operations."""
    # Once: of a state that had read a part already only pieces are left, and they are kept as if nothing had happened:
    # the next request with this prompt breaks the worker.
    desk, prompt = Desk(loaded(kind)), some(150)
    told = desk.ask(prompt, 5)
    for _ in range(steps):
        desk.step()

    def before(rows: Sequence[Row]) -> None:
        told.gone = True
        desk.batcher.poke()

    desk.llama.before = before
    desk.step()
    desk.llama.before = lambda rows: None
    assert desk.llama.statuses.count(Status.ABORTED) == 1
    assert told.ends == []
    desk.step()
    assert isinstance(told.error, Cancelled)
    assert desk.cache.used <= BATCH * steps
    again = desk.alone(prompt, 9)
    assert desk.llama.statuses.count(Status.ABORTED) == 1
    assert desk.leaks() == []
    assert alike(again, kind)


def test_nobody_is_aborted_for_somebody_else() -> None:
    for other_most in (0, 5):  # the other one reads its prompt too, or writes already
        desk = Desk()
        other = desk.ask(some(40, 1), 20)
        if other_most:
            desk.until(lambda other=other: len(other.made) == 5)  # type: ignore[misc]
        told = desk.ask(some(20), 5)

        def before(rows: Sequence[Row], desk: Desk = desk, told: Told = told) -> None:
            told.gone = True
            desk.batcher.poke()

        desk.llama.before = before
        desk.run()
        assert set(desk.llama.statuses) == {Status.DONE}
        assert isinstance(told.error, Cancelled)
        assert alike(other)


def test_a_poke_between_two_steps_does_no_harm() -> None:
    desk = Desk()
    told = desk.ask(some(40), 9)
    desk.batcher.poke()
    desk.step()
    desk.batcher.poke()
    desk.run()
    assert alike(told)
    assert set(desk.llama.statuses) == {Status.DONE}


# what breaks


def test_a_generation_that_breaks_is_alone_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    others = [desk.ask(some(30, number), 12) for number in range(2)]
    broken = desk.ask(some(30, 7), 12)
    choosing(broken, 65)  # and then there is nothing more to take
    desk.run()
    assert isinstance(broken.error, GenerationFailed)
    assert "StopIteration" in capsys.readouterr().err
    assert all(alike(told) for told in others)
    assert desk.leaks() == []


def test_when_llama_cpp_fails_nothing_is_trusted() -> None:
    desk = Desk()
    desk.ask([1, 2, loaded().vocabulary.size + 5], 3)
    with pytest.raises(ModelBroken, match="llama_decode returned -1"):
        desk.step()
