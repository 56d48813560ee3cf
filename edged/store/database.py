"""The file, its one writer, and what happens when the disk is full, the file broken, or the program older than the file.

Rules:
- One task writes. All that waits when it starts goes into one transaction and one fsync; each operation has a savepoint and
  fails alone. A caller learns its result after the commit, never before.
- Readers have a second connection: on the writer's they would see what is not committed yet, and could tell it to somebody.
- An operation may run twice (again, after the ballast was spent), so it does nothing but SQL on the connection it gets.
- What a full or failing disk does is `StoreUnavailable`, and the writer goes on. Corruption found at work is a bug that
  climbs: the process ends, and the next start sets the file aside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast

import aiosqlite

from edged.domain.errors import StoreUnavailable
from edged.store.ballast import Ballast
from edged.store.changes import Changes
from edged.store.faults import CORRUPT, RETRY_AFTER, STORAGE, code, public
from edged.store.opening import connect, examine

__all__ = ["Database", "OnCommit", "Op"]

log = logging.getLogger("edged.store")

T = TypeVar("T")
Op = Callable[[aiosqlite.Connection], Awaitable[T]]
OnCommit = Callable[[Literal["before", "after"]], None]
Params = Sequence[Any] | Mapping[str, Any]

_BATCH = 256


@dataclass(slots=True)
class _Job:
    """One operation in the writer's queue, and in the end its outcome: `value`, or `error`."""

    op: Op[Any]
    done: asyncio.Future[Any]
    intake: bool
    wake: Sequence[str]
    value: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell the caller, if it is still there."""
        if self.done.done():
            return
        if self.error is None:
            self.done.set_result(self.value)
        else:
            self.done.set_exception(self.error)


class Database:
    """An open database. Make one with `Database.open`."""

    def __init__(
        self, writer: aiosqlite.Connection, reader: aiosqlite.Connection, ballast: Ballast, on_commit: OnCommit | None
    ) -> None:
        self._conn = writer
        self._reader = reader
        self._ballast = ballast
        self._on_commit: OnCommit = on_commit or (lambda _: None)
        self._jobs: deque[_Job] = deque()
        self._work = asyncio.Event()
        self._closing = False
        self.changes = Changes()
        self.set_aside: Path | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, *, ballast_bytes: int = 1 << 20, on_commit: OnCommit | None = None
    ) -> AsyncIterator[Self]:
        """Open or make the file at `path`; leaving commits what is queued and closes it.

        A corrupt file is renamed (`set_aside` is its new path) and a new one is begun. `ballast_bytes` 0 means no ballast.
        Raises `ConfigError` if the file is newer than the program or cannot be opened at all, `StoreUnavailable` if the
        disk is too full to open it.
        """
        set_aside = await asyncio.to_thread(examine, path)
        ballast = Ballast(path.with_name(f"{path.name}.ballast"), ballast_bytes)
        async with AsyncExitStack() as stack:
            writer, reader = await connect(stack, path, ballast)
            ballast.make()
            db = cls(writer, reader, ballast, on_commit)
            db.set_aside = set_aside
            await stack.enter_async_context(db._writing())
            yield db

    @property
    def lean(self) -> bool:
        """The disk is full: the ballast is spent, work may finish, and no new work is taken."""
        return self._ballast.spent

    async def write(self, op: Op[T], *, intake: bool = False, wake: Sequence[str] = ()) -> T:
        """Run `op` in the next transaction and return what it returned, once that is committed.

        `intake` marks operations that take on new work: they are refused while the ballast is spent. The topics in `wake`
        are announced on `changes` after the commit, even if the caller has gone. Raises what `op` raised (its changes are
        rolled back, and only its own), or `StoreUnavailable`. A caller that is cancelled before its operation began leaves
        no trace; later, the operation is committed all the same.
        """
        if self._closing:
            raise StoreUnavailable("the store is closing", retry_after=RETRY_AFTER)
        if intake and not self._ballast.whole():
            raise StoreUnavailable("the disk is full; no new work is taken", retry_after=RETRY_AFTER)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(op, done, intake, wake))
        self._work.set()
        return cast(T, await done)

    async def read(self, sql: str, params: Params = ()) -> list[sqlite3.Row]:
        """Rows of committed data, at least as new as the last `write` that returned. Raises `StoreUnavailable`."""
        try:
            return list(await self._reader.execute_fetchall(sql, cast(Any, params)))
        except sqlite3.Error as error:
            raise public(error) from error

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run(), name="store:writer")
        try:
            yield
        finally:
            self._closing = True
            self._work.set()
            await task

    async def _run(self) -> None:
        """The writer: sleeps until there is work, ends when told to and nothing is left."""
        batch: list[_Job] = []
        try:
            while self._jobs or not self._closing:
                await self._work.wait()
                self._work.clear()
                while self._jobs:
                    if batch := self._take():
                        await self._settle(batch)
        finally:
            self._closing = True
            for job in (*batch, *self._jobs):
                job.error = RuntimeError("the store's writer has ended")
                job.settle()

    def _take(self) -> list[_Job]:
        jobs = [self._jobs.popleft() for _ in range(min(_BATCH, len(self._jobs)))]
        return [job for job in jobs if not job.done.cancelled()]

    async def _settle(self, batch: list[_Job]) -> None:
        """One transaction for all of `batch`, or, when the disk is full and a ballast is left, one more for what must end."""
        try:
            await self._transact(batch)
        except sqlite3.Error as error:
            await self._abandon()
            retry = code(error) == sqlite3.SQLITE_FULL and self._ballast.spend()
            log.warning("commit failed: %s%s", error, "; the ballast is spent" if retry else "")
            refused = [job for job in batch if job.intake or not retry]
            for job in refused:
                job.error = public(error)
                job.settle()
            if retry and len(refused) < len(batch):
                await self._settle([job for job in batch if not job.intake])
            return
        for job in batch:
            if job.error is None:
                for topic in job.wake:
                    self.changes.bump(topic)
            job.settle()

    async def _transact(self, batch: list[_Job]) -> None:
        await self._conn.execute("BEGIN IMMEDIATE")
        for job in batch:
            await self._attempt(job)
        self._on_commit("before")
        await self._conn.execute("COMMIT")
        self._on_commit("after")

    async def _attempt(self, job: _Job) -> None:
        """Run one operation; raises only what dooms the whole transaction."""
        job.error = None
        await self._conn.execute("SAVEPOINT job")
        try:
            job.value = await job.op(self._conn)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and code(error) in STORAGE | CORRUPT:
                raise
            job.error = error
            await self._conn.execute("ROLLBACK TO job")
        await self._conn.execute("RELEASE job")

    async def _abandon(self) -> None:
        """SQLite has often rolled back by itself after such an error."""
        with contextlib.suppress(sqlite3.Error):
            if self._conn.in_transaction:
                await self._conn.execute("ROLLBACK")
