"""The composition root: one exit stack, one TaskGroup, signals. The only place that sees every room."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from edged import __version__
from edged.agent.dispatcher import Dispatcher
from edged.agent.reader import Reader
from edged.agent.router import Router
from edged.agent.runner import Runner
from edged.agent.teaching import Teaching
from edged.device import clock
from edged.device.memory import Memory
from edged.device.systemd import Systemd
from edged.domain.errors import ConfigError, EdgedError, StoreUnavailable
from edged.domain.messages import Event
from edged.domain.meters import Meters
from edged.domain.ports import ChatModel
from edged.engine import catalog
from edged.engine.allowance import Surroundings
from edged.engine.pool import Pool
from edged.escalation.courier import Courier
from edged.fleet.settings import ENCODER, Settings, load
from edged.gateway.http import HttpDoor
from edged.ipc.memory import resident_bytes
from edged.store import folder
from edged.store.database import Database
from edged.store.effects import Effects
from edged.store.energy import EnergyDays
from edged.store.escalations import Escalations
from edged.store.inbox import Inbox
from edged.store.lessons import Lessons
from edged.store.outbox import Outbox
from edged.store.sessions import Sessions
from edged.tools.host import Host
from edged.watch.accounts import Accounts
from edged.watch.power import Power
from edged.watch.verdict import verdict

__all__ = ["EX_CONFIG", "main", "running"]

log = logging.getLogger("edged")

EX_CONFIG = 78
_EX_TEMPFAIL = 75
_HOUSEKEEPING_SECONDS = 3600.0
_SESSION_SECONDS = 30 * 86400.0

OnCommit = Callable[[Literal["before", "after"]], None]


@dataclass(slots=True)
class _Store:
    """The rooms over one database."""

    db: Database
    inbox: Inbox
    outbox: Outbox
    escalations: Escalations
    effects: Effects
    sessions: Sessions
    lessons: Lessons

    @classmethod
    def over(cls, db: Database) -> _Store:
        return cls(db, Inbox(db), Outbox(db), Escalations(db), Effects(db), Sessions(db), Lessons(db))


@dataclass(slots=True)
class _House:
    """What the views look at."""

    settings: Settings
    began: float
    meters: Meters
    store: _Store
    memory: Memory
    pool: Pool
    host: Host
    dispatcher: Dispatcher
    teaching: Teaching
    power: Power
    broker: Callable[[], dict[str, Any]] | None = None

    def views(self) -> Mapping[str, Callable[[], Any]]:
        return {"status": self.status, "models": self.pool.status, "health": self.health}

    def health(self) -> dict[str, Any]:
        db = self.store.db
        return verdict(
            self.pool.status(),
            self.host.status(),
            store_lean=db.lean,
            set_aside=str(db.set_aside) if db.set_aside else None,
            broker=self.broker() if self.broker else None,
        )

    async def status(self) -> dict[str, Any]:
        return {
            "device": self.settings.device.id,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self.began, 3),
            "rss_bytes": resident_bytes(),
            "health": self.health(),
            "busy": self.dispatcher.busy,
            "memory": {**self.pool.memory(), **self.memory.report()},
            "requests": await self.store.inbox.counts(),
            "escalations": await self.store.escalations.counts(),
            "models": self.pool.status(),
            "plugins": self.host.status(),
            "mqtt": self.broker() if self.broker else None,
            "power": await self.power.status(),
            "meters": self.meters.snapshot(),
        }


@contextlib.asynccontextmanager
async def running(settings: Settings, *, on_commit: OnCommit | None = None) -> AsyncIterator[_House]:
    """The whole daemon, up while the context is open. `on_commit` is for tests that kill at commits."""
    began, meters = time.monotonic(), Meters()
    state = settings.resolve(settings.device.state_dir)
    memory = Memory(walls=settings.budget().walls)
    events: asyncio.Queue[Event] = asyncio.Queue()
    doors = ["http", "mqtt"] if settings.mqtt.enabled else ["http"]
    async with AsyncExitStack() as stack:
        stack.enter_context(folder.owned(state))
        db = await stack.enter_async_context(Database.open(state / "edged.db", on_commit=on_commit))
        store = _Store.over(db)
        await store.lessons.load()
        plugins = [settings.resolve(path) for path in settings.device.plugin_dirs]
        host = await stack.enter_async_context(Host(plugins, state, events.put_nowait, meters))
        pool = await _pool(stack, settings, memory, meters)
        power = Power(settings.power_plan(), meters, EnergyDays(db))
        stack.push_async_callback(power.totals.write)
        accounts = Accounts(power.plan, power.gauge, pool, host, power.totals.book)
        cloud, runner = _cloud(settings), Runner(accounts.tools, store.effects)
        stack.push_async_callback(runner.settled)
        dialects = _dialects(settings, state)
        router = Router(
            settings.agent_specs(),
            host,
            runner,
            accounts.models,
            cloud,
            store.sessions,
            dialects,
            Reader(accounts.models.infer, ENCODER, store.lessons.of),
            host.phrases,
            store.lessons,
            power.refusal,
            accounts.billing,
        )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(lambda: [task.cancel() for task in tasks])
        tasks = [
            group.create_task(store.outbox.announce(events, doors), name="events"),
            group.create_task(_housekeep(store), name="housekeeping"),
            *(group.create_task(work, name="power") for work in power.work()),
        ]
        dispatcher = await stack.enter_async_context(
            Dispatcher(router, store.inbox, store.outbox, meters, ticket_seconds=settings.cloud.ticket_days * 86400)
        )
        if cloud is not None:
            courier = Courier(store.escalations, dispatcher.cloud, clock_is_set=clock.is_set, meters=meters)
            tasks.append(group.create_task(courier.carry(), name="courier"))
        teaching = Teaching(router, store.lessons)
        house = _House(settings, began, meters, store, memory, pool, host, dispatcher, teaching, power)
        await _open_doors(stack, house, state)
        host.boot()
        yield house


async def _pool(stack: AsyncExitStack, settings: Settings, memory: Memory, meters: Meters) -> Pool:
    state = settings.resolve(settings.device.state_dir)
    around = Surroundings(memory.headroom, memory.oom_kills, memory.around)
    pool = Pool(settings.model_specs(), settings.budget(), state, meters, surroundings=around)
    await stack.enter_async_context(pool)
    if stack.enter_context(memory.watch(pool.relieve)).source is None:
        log.warning("the kernel does not tell of memory pressure here (PSI); models leave only to make room")
    return pool


async def _open_doors(stack: AsyncExitStack, house: _House, state: Path) -> None:
    settings, outbox = house.settings, house.store.outbox
    await stack.enter_async_context(
        HttpDoor(
            house.dispatcher,
            outbox,
            house.views(),
            socket_path=settings.resolve(settings.http.socket),
            lessons=house.teaching,
            rate=settings.http.requests_per_second,
        )
    )
    if not settings.mqtt.enabled:
        return
    # a device without a broker need not pay for paho
    from edged.gateway.mqtt import MqttDoor
    from edged.gateway.schema import MqttSettings, TlsSettings

    mqtt = settings.mqtt
    wanted = MqttSettings(
        device=settings.device.id,
        host=mqtt.host,
        port=mqtt.port,
        username=mqtt.username or "",
        password=_first_line(settings.resolve(mqtt.password_file)) if mqtt.password_file else "",
        tls=TlsSettings(ca_file=str(settings.resolve(mqtt.ca_file)) if mqtt.ca_file else "") if mqtt.tls else None,
    )
    door = MqttDoor(house.dispatcher, outbox, wanted, boot=folder.boot_number(state), meters=house.meters)
    await stack.enter_async_context(door)
    house.broker = door.status


def _cloud(settings: Settings) -> ChatModel | None:
    if settings.cloud.base_url is None:
        return None
    from edged.escalation.cloud import CloudModel, CloudSettings, read_api_key

    wanted = settings.cloud
    key_file = settings.resolve(wanted.api_key_file) if wanted.api_key_file else None
    key = read_api_key(wanted.api_key_env, key_file) if wanted.api_key_env or key_file else None
    return CloudModel(CloudSettings(wanted.base_url or "", wanted.model, key, wanted.timeout, redact=wanted.redact))


def _dialects(settings: Settings, state: Path) -> Callable[[str], str]:
    specs = settings.models

    @lru_cache
    def dialect(name: str) -> str:
        model = specs[name]
        if model.dialect != "auto":
            return model.dialect
        path = settings.model_specs()[name].path
        return catalog.describe(path, state).dialect

    return dialect


async def _housekeep(store: _Store) -> None:
    while True:
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)
        now = time.time()
        with contextlib.suppress(EdgedError):
            await store.inbox.purge(now)
            await store.effects.purge(now - _SESSION_SECONDS)
            await store.sessions.purge(now - _SESSION_SECONDS)


async def _serve(settings: Settings, on_commit: OnCommit | None) -> None:
    systemd, stop = Systemd(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, _interrupted, loop, stop)
    async with running(settings, on_commit=on_commit) as house, asyncio.TaskGroup() as group:
        watchdog = group.create_task(systemd.feed(lambda: house.store.db.read("SELECT 1")), name="watchdog")
        agents = ", ".join(house.settings.agents) or "none"
        log.info(
            "ready: device %s, agents %s, socket %s", settings.device.id, agents, settings.resolve(settings.http.socket)
        )
        systemd.ready(f"serving {len(house.settings.agents)} agents")
        gc.freeze()  # what start-up made lives as long as the daemon; do not look at it again
        await stop.wait()
        log.info("stopping")
        systemd.stopping()
        watchdog.cancel()


def _interrupted(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """The first Ctrl-C drains; a second one ends it at once, which what is on disk survives."""
    stop.set()
    loop.remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _first_line(file: Path) -> str:
    try:
        return file.read_text().splitlines()[0].strip()
    except (OSError, IndexError) as error:
        raise ConfigError(f"{file}: cannot read the password: {error}", key="mqtt.password_file") from None


def main(config: Path, *, on_commit: OnCommit | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status; 78 for a configuration that a restart cannot mend, 75 for a disk
    that is too full to start on."""
    try:
        settings = load(config)
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
        )
        logging.getLogger("aiosqlite").setLevel(logging.INFO)  # at debug it would log what people say
        asyncio.run(_serve(settings, on_commit))
    except ConfigError as error:
        print(f"edged: {error.detail}", file=sys.stderr)
        return EX_CONFIG
    except StoreUnavailable as error:
        print(f"edged: {error.detail}", file=sys.stderr)
        return _EX_TEMPFAIL
    except BaseExceptionGroup as group:
        config_errors, _ = group.split(ConfigError)
        if config_errors is None:
            raise
        print(f"edged: {config_errors.exceptions[0]}", file=sys.stderr)
        return EX_CONFIG
    return 0
