"""The pool with real child processes that follow a script: answers, cancels, deadlines, crashes, room."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from edged.domain.errors import (
    BadRequest,
    DeadlineExceeded,
    EngineCrashed,
    ModelBroken,
    ModelWontFit,
    NotFound,
    Unavailable,
)
from edged.domain.messages import Priority, Usage
from edged.domain.resources import Pressure
from edged.engine.pool import Pool

from .conftest import MakePool, ask, until


def entry(pool: Pool, name: str = "a") -> dict[str, Any]:
    return next(e for e in pool.status() if e["name"] == name)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def waiting(pool: Pool) -> int:
    return len(pool._waiting)


async def state(pool: Pool, expected: str) -> None:
    await until(lambda: entry(pool)["state"] == expected)


class Gate:
    """A FIFO that a scripted generation waits at; opening it lets it go on."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.text = f"gate {path}"

    def open(self) -> None:
        self.path.write_text("")


async def test_answers_and_reports(make_pool: MakePool) -> None:
    parts: list[str] = []
    async with make_pool("a") as pool:
        assert entry(pool)["state"] == "cold"
        done = await pool.generate(ask("ok", on_text=parts.append))
        assert (done.text, done.finish_reason, done.usage, done.model) == ("ab ok", "stop", Usage(3, 1, 2), "a")
        assert (done.prefill_seconds, done.decode_seconds) == (0.25, 0.5)
        assert done.load_seconds > 0
        assert parts == ["a", "b"]
        again = await pool.generate(ask("ok"))
        assert again.load_seconds == 0
        status = entry(pool)
        assert (status["state"], status["mode"], status["requests"], status["restarts"]) == ("ready", "default", 2, 0)
        assert status["rss_bytes"] > 1 << 20
        pid = status["pid"]
    assert not alive(pid)


async def test_unknown_model_and_refusals_of_the_worker(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        with pytest.raises(NotFound):
            await pool.generate(ask("ok", model="zzz"))
        with pytest.raises(BadRequest) as refused:
            await pool.generate(ask("refuse"))
        assert refused.value.fields == {"tokens": 9, "limit": 8}
        assert entry(pool)["state"] == "ready"
        assert (await pool.generate(ask("ok"))).text == "ab ok"
        assert entry(pool)["restarts"] == 0


async def test_a_file_that_is_no_model(make_pool: MakePool, tmp_path: Path) -> None:
    async with make_pool("a") as pool:
        (tmp_path / "a.gguf").write_bytes(b"GGUF")
        with pytest.raises(ModelBroken):
            await pool.generate(ask("ok"))
        (tmp_path / "a.gguf").unlink()
        with pytest.raises(ModelBroken):
            await pool.generate(ask("ok"))


async def test_a_model_beyond_the_budget(make_pool: MakePool) -> None:
    async with make_pool("a", budget=1000) as pool:
        with pytest.raises(ModelWontFit) as refused:
            await pool.generate(ask("ok"))
        assert refused.value.fields["budget"] == 1000


async def test_warm_loads(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        await pool.warm("a")
        assert entry(pool)["state"] == "ready"
        assert (await pool.generate(ask("ok"))).load_seconds == 0


async def test_cancel_frees_the_worker_without_killing_it(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        begun = asyncio.Event()
        task = asyncio.create_task(pool.generate(ask("slow", on_text=lambda _: begun.set())))
        await begun.wait()
        pid = entry(pool)["pid"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await pool.generate(ask("ok"))).text == "ab ok"
        assert entry(pool)["pid"] == pid


async def test_a_worker_granted_to_a_caller_who_just_left_is_free(make_pool: MakePool, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    begun = asyncio.Event()

    async def first(pool: Pool) -> None:
        await pool.generate(ask(gate.text, on_text=lambda _: begun.set()))
        second.cancel()  # in the same step of the loop in which the worker was handed over

    async with make_pool("a") as pool:
        task = asyncio.create_task(first(pool))
        await begun.wait()
        second = asyncio.create_task(pool.generate(ask("ok")))
        await until(lambda: waiting(pool) == 1)
        gate.open()
        await task
        await asyncio.wait({second})
        assert second.cancelled()
        assert (await pool.generate(ask("ok"))).text == "ab ok"


async def test_a_deadline_stops_the_work(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        await pool.warm("a")
        with pytest.raises(DeadlineExceeded):
            await pool.generate(ask("slow", deadline_monotonic=time.monotonic() + 0.05))
        with pytest.raises(DeadlineExceeded):
            await pool.generate(ask("ok", deadline_monotonic=time.monotonic() - 1))
        assert (await pool.generate(ask("ok"))).text == "ab ok"


async def test_a_worker_deaf_to_cancels_is_killed_and_replaced(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        await pool.warm("a")
        pid = entry(pool)["pid"]
        with pytest.raises(DeadlineExceeded):
            await pool.generate(ask("hang", deadline_monotonic=time.monotonic() + 0.05))
        started = time.monotonic()
        assert (await pool.generate(ask("ok"))).text == "ab ok"
        assert 1.0 < time.monotonic() - started < 8.0  # two seconds to answer, then SIGKILL and a new worker
        assert entry(pool)["pid"] != pid
        assert entry(pool)["restarts"] == 1


@pytest.mark.parametrize("how", ["crash", "bug"])
async def test_a_crash_costs_one_attempt(make_pool: MakePool, how: str) -> None:
    async with make_pool("a") as pool:
        with pytest.raises(EngineCrashed) as crashed:
            await pool.generate(ask(how))
        assert crashed.value.retry_after == 1.0
        if how == "crash":
            assert "SIGSEGV" in crashed.value.detail
        assert (await pool.generate(ask("ok"))).text == "ab ok"
        assert entry(pool)["restarts"] == 1


async def test_those_who_wait_survive_a_crash(make_pool: MakePool, tmp_path: Path) -> None:
    async with make_pool("a") as pool:
        crash = asyncio.create_task(pool.generate(ask("crash")))
        others = [asyncio.create_task(pool.generate(ask("ok"))) for _ in range(3)]
        with pytest.raises(EngineCrashed):
            await crash
        assert [(await t).text for t in others] == ["ab ok"] * 3


async def test_three_crashes_in_a_row_quarantine(make_pool: MakePool) -> None:
    async with make_pool("a", "b") as pool:
        for _ in range(2):
            with pytest.raises(EngineCrashed):
                await pool.generate(ask("crash"))
        await pool.generate(ask("ok"))  # clears the count
        for _ in range(3):
            assert entry(pool)["state"] != "quarantined"
            with pytest.raises(EngineCrashed) as crashed:
                await pool.generate(ask("crash"))
        assert 25 < (crashed.value.retry_after or 0) <= 30
        assert entry(pool)["state"] == "quarantined"
        with pytest.raises(ModelBroken) as refused:
            await pool.generate(ask("ok"))
        assert 25 < (refused.value.retry_after or 0) <= 30
        assert [p["model"] for p in pool.proofs()] == []  # it has to be proven again
        assert (await pool.generate(ask("ok", model="b"))).text == "ab ok"


async def test_a_rest_ends(make_pool: MakePool) -> None:
    async with make_pool("a", rest=0.001) as pool:
        for _ in range(3):
            with pytest.raises(EngineCrashed):
                await pool.generate(ask("crash"))
        await until(lambda: entry(pool)["state"] != "quarantined")
        assert (await pool.generate(ask("ok"))).text == "ab ok"


async def test_a_worker_that_dies_idle_is_replaced(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        await pool.warm("a")
        os.kill(entry(pool)["pid"], 9)
        await state(pool, "cold")
        assert (await pool.generate(ask("ok"))).text == "ab ok"


async def test_load_that_crashes_is_told_to_those_who_wait(make_pool: MakePool) -> None:
    # Proving loads too, so a load that crashes in every mode is a model that cannot be proven.
    async with make_pool("a", script={"load": "crash"}) as pool:
        jobs = [asyncio.create_task(pool.generate(ask("ok"))) for _ in range(2)]
        for job in jobs:
            with pytest.raises(ModelBroken) as broken:
                await job
            assert broken.value.fields["tried"]["one_thread"] == "SIGSEGV"
        assert entry(pool)["restarts"] == 1


async def test_the_urgent_go_first(make_pool: MakePool, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    order: list[str] = []

    async def run(pool: Pool, name: str, **more: Any) -> None:
        await pool.generate(ask("ok", **more))
        order.append(name)

    async with make_pool("a") as pool, asyncio.TaskGroup() as group:
        begun = asyncio.Event()
        group.create_task(pool.generate(ask(gate.text, on_text=lambda _: begun.set())))
        await begun.wait()
        later = time.monotonic() + 60
        group.create_task(run(pool, "low", priority=Priority.LOW))
        group.create_task(run(pool, "normal"))
        group.create_task(run(pool, "normal, deadline", deadline_monotonic=later))
        group.create_task(run(pool, "high", priority=Priority.HIGH))
        await until(
            lambda: waiting(pool) == 3
        )  # the most urgent one is with the worker, which may set another aside for it
        gate.open()
    assert order == ["high", "normal, deadline", "normal", "low"]


async def test_models_take_turns_in_a_small_budget(make_pool: MakePool) -> None:
    async with make_pool("a", "b", budget=100 << 20) as pool:
        for name in ("a", "b", "a"):
            assert (await pool.generate(ask("ok", model=name))).text == "ab ok"
            assert [e["name"] for e in pool.status() if e["bytes"]] == [name]


async def test_two_models_stay_when_they_fit(make_pool: MakePool) -> None:
    async with make_pool("a", "b") as pool:
        for name in ("a", "b", "a"):
            await pool.generate(ask("ok", model=name))
        assert {e["state"] for e in pool.status()} == {"ready"}


async def test_keep_alive_evicts(make_pool: MakePool) -> None:
    async with make_pool("a", spec={"keep_alive": 0.05}) as pool:
        await pool.generate(ask("ok"))
        pid = entry(pool)["pid"]
        await state(pool, "cold")
        assert not alive(pid)
        assert entry(pool)["restarts"] == 0


async def test_pressure_evicts_and_full_pressure_holds_loads(make_pool: MakePool) -> None:
    async with make_pool("a") as pool:
        await pool.warm("a")
        pool.relieve(Pressure.FULL)
        await state(pool, "cold")
        with pytest.raises(DeadlineExceeded):
            await pool.generate(ask("ok", deadline_monotonic=time.monotonic() + 0.1))
        pool.relieve(Pressure.NONE)
        assert (await pool.generate(ask("ok"))).text == "ab ok"


async def test_leaving_ends_work_and_children(make_pool: MakePool) -> None:
    async with make_pool("a", "b") as pool:
        begun = asyncio.Event()
        task = asyncio.create_task(pool.generate(ask("hang", on_text=lambda _: begun.set())))
        await begun.wait()
        later = asyncio.create_task(pool.generate(ask("ok")))
        await until(lambda: waiting(pool) == 1)
        pid = entry(pool)["pid"]
    assert not alive(pid)
    for job in (task, later):
        with pytest.raises(Unavailable):
            await job
    with pytest.raises(Unavailable):
        await pool.generate(ask("ok"))


async def test_an_error_of_the_body_comes_out_as_it_is(make_pool: MakePool) -> None:
    with pytest.raises(KeyError):
        async with make_pool("a") as pool:
            await pool.warm("a")
            pid = entry(pool)["pid"]
            raise KeyError
    assert not alive(pid)


async def test_cancelling_the_body_ends_the_children(make_pool: MakePool) -> None:
    pids: list[int] = []

    async def body() -> None:
        async with make_pool("a") as pool:
            await pool.warm("a")
            pids.append(entry(pool)["pid"])
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await until(lambda: bool(pids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pids[0])


async def test_leaving_while_a_model_loads_is_quick(make_pool: MakePool, tmp_path: Path) -> None:
    started = time.monotonic()
    async with make_pool("a", script={"load": "hang"}) as pool:
        job = asyncio.create_task(pool.generate(ask("ok")))
        await until((tmp_path / "a.log").exists)
    with pytest.raises(Unavailable):
        await job
    assert time.monotonic() - started < 5


async def test_many_random_fates_leave_nothing_behind(make_pool: MakePool) -> None:
    """Cancels at any moment never lose a worker: whatever happened, the next request is answered."""
    async with make_pool("a", "b", rest=0.0, budget=100 << 20) as pool:
        await pool.warm("a")
        for i in range(40):
            task = asyncio.create_task(pool.generate(ask(("ok", "slow")[i % 2], model="ab"[i % 3 == 0])))
            for _ in range(5 * i % 37):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        for name in "ab":
            assert (await pool.generate(ask("ok", model=name))).text == "ab ok"
        assert waiting(pool) == 0
        assert sum(e["restarts"] for e in pool.status()) == 0
