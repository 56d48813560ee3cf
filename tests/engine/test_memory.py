"""The pool when memory is short: what it may hold shrinks, and workers die of theirs. Real children; the kernel's part is played
where a test may not make the device run out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from edged.domain.errors import EngineCrashed, ModelBroken, ModelWontFit, OutOfMemory
from edged.domain.resources import Headroom, Pressure
from edged.engine.pool import Pool
from edged.engine.wall import Kills

from .conftest import MakePool, ask, until

MIB = 1 << 20


def entry(pool: Pool, name: str = "a") -> dict[str, Any]:
    return next(e for e in pool.status() if e["name"] == name)


def counts(pool: Pool) -> dict[str, int]:
    names = ("crashes", "oom_kills", "wall_hits", "quarantines")
    told = pool._meters.snapshot()
    return {name: told[f"engine.{name}"] for name in names if f"engine.{name}" in told}


class Device:
    """What is left on it, to be changed by a test; and a clock that can be put forward."""

    def __init__(self, available: int) -> None:
        self.available = available
        self.ahead = 0.0

    def headroom(self) -> Headroom:
        return Headroom(available=self.available)

    def clock(self) -> float:
        return time.monotonic() + self.ahead


async def test_a_model_that_would_fit_the_budget_waits_and_loads_when_there_is_room(make_pool: MakePool) -> None:
    device = Device(10 * MIB)
    async with make_pool("a", headroom=device.headroom) as pool:
        asked = asyncio.create_task(pool.generate(ask("ok")))
        await until(lambda: len(pool._waiting) == 1)
        device.available = 1 << 30  # nobody tells the pool; it looks
        assert (await asked).text == "ab ok"


async def test_it_waits_for_a_while_and_is_told_when_to_come_back(make_pool: MakePool) -> None:
    device = Device(10 * MIB)
    async with make_pool("a", headroom=device.headroom, clock=device.clock) as pool:
        asked = asyncio.create_task(pool.generate(ask("ok")))
        await until(lambda: len(pool._waiting) == 1)
        device.ahead = 11.0
        with pytest.raises(ModelWontFit) as refused:
            await asked
        error = refused.value
        assert error.retry_after == pytest.approx(30, abs=1)
        assert (error.fields["by"], error.fields["allowed"]) == ("available", 10 * MIB)
        assert error.detail == "a needs 54 MiB and other programs leave 10 MiB now; ask again later"
        assert pool.memory()["allowed"] == 10 * MIB


async def test_an_idle_model_leaves_when_others_take_the_memory(make_pool: MakePool) -> None:
    device = Device(1 << 30)
    async with make_pool("a", budget=200 * MIB, headroom=device.headroom, clock=device.clock) as pool:
        await pool.warm("a")
        told = pool.memory()
        assert (told["held"], told["by"]) == (entry(pool)["bytes"], "configured")
        assert 0 < told["taken"] < told["held"]
        device.available = 0
        device.ahead = 2.0
        pool.relieve(Pressure.NONE)
        await until(lambda: entry(pool)["state"] == "cold")
        assert pool._meters.snapshot()["engine.evictions.budget"] == 1
        assert pool.memory()["held"] == 0


async def test_the_wall_ends_a_worker_with_a_reason(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        await pool.warm("a")
        before = entry(pool)["bytes"]
        with pytest.raises(OutOfMemory) as ended:
            await pool.generate(ask("greedy"))
        assert ended.value.detail == "the worker of a ran out of its memory wall while it computed"
        assert (ended.value.code, ended.value.fields, ended.value.retry_after) == ("out_of_memory", {"by": "wall"}, 1.0)
        assert (await pool.generate(ask("ok"))).text == "ab ok"
        assert entry(pool)["bytes"] == before + before // 4
        assert counts(pool) == {"wall_hits": 1}


async def test_no_wall_where_it_is_switched_off(make_pool: MakePool) -> None:
    async with make_pool("a", walls=False) as pool:
        with pytest.raises(EngineCrashed, match="nothing stopped it at"):
            await pool.generate(ask("greedy"))


async def test_the_kernels_kill_is_no_crash(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        for _ in range(4):  # a crash would be quarantined by now
            with pytest.raises(OutOfMemory) as ended:
                await pool.generate(ask("oom"))
            assert ended.value.fields == {"by": "kernel"}
            assert ended.value.retry_after == 5.0
        assert counts(pool) == {"oom_kills": 4}
        assert (await pool.generate(ask("ok"))).text == "ab ok"


async def test_another_sigkill_is_a_crash(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        with pytest.raises(OutOfMemory):
            await pool.generate(ask("oom"))
        with pytest.raises(EngineCrashed) as ended:
            await pool.generate(ask("killed"))
        assert ended.value.code == "engine_crashed"
        assert counts(pool) == {"oom_kills": 1, "crashes": 1}


async def test_one_that_has_all_there_is_rests_like_one_that_crashes(make_pool: MakePool) -> None:
    async with make_pool("a", budget=60 * MIB) as pool:
        for _ in range(4):  # the first raises its need to the budget
            with pytest.raises(OutOfMemory):
                await pool.generate(ask("greedy"))
            assert pool._records["a"].size() == 60 * MIB
        with pytest.raises(ModelBroken):
            await pool.generate(ask("ok"))
        assert counts(pool) == {"wall_hits": 4, "quarantines": 1}


@pytest.mark.parametrize("when", ["load", "prove"])
@pytest.mark.parametrize(("how", "by"), [("greedy", "wall"), ("oom", "kernel")])
async def test_before_it_is_ready_those_who_wait_are_told(make_pool: MakePool, when: str, how: str, by: str) -> None:
    async with make_pool("a", script={when: how}) as pool:
        with pytest.raises(OutOfMemory) as ended:
            await pool.generate(ask("ok"))
        assert ended.value.fields == {"by": by}
        assert pool.proofs() == []
        assert "crashes" not in counts(pool)


def test_a_kill_explains_one_end() -> None:
    count = [3]
    kills = Kills(lambda: count[0])
    assert not kills.explain(3)
    count[0] = 5
    assert [kills.explain(3) for _ in range(3)] == [True, True, False]
    assert not kills.explain(5)
