"""The stand-in cloud, served in this process on a free port, so that a test can change its faults as it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from bench.standin_cloud import StandIn


@dataclass
class Cloud:
    """A running stand-in and where it is."""

    state: StandIn
    base_url: str


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    state = StandIn()
    runner = web.AppRunner(state.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Cloud(state, f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    await runner.cleanup()
