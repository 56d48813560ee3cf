"""The stand-in as the separate process that benches start."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiohttp

from bench.standin_cloud import respond
from edged.domain.messages import Message
from edged.domain.ports import Generation
from edged.escalation.cloud import CloudModel, CloudSettings


async def test_it_serves_says_what_it_is_and_counts() -> None:
    command = ("-m", "bench.standin_cloud", "--fail-first", "1", "--retry-after", "0", "--api-key", "k")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        assert said["stand_in"] is True
        model = CloudModel(CloudSettings(said["url"], "any", "k"), roll=lambda: 0.0)
        completion = await model.generate(Generation("local", (Message("user", "hello"),), request_id="r"))
        assert completion.model == "stand-in" and "stand-in" in completion.text
        async with aiohttp.ClientSession() as session, session.get(said["url"][:-2] + "counts") as response:
            counts = await response.json()
        assert counts == {"stand_in": True, "requests": 2, "distinct": 1, "duplicates": 1, "answered": 1}
    finally:
        process.terminate()
        assert await process.wait() == 0


def test_it_is_deterministic_and_calls_only_what_is_offered() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Use the tool get_time!"}]}
    assert respond(body) == respond(body)
    assert respond(body)["choices"][0]["finish_reason"] == "stop"
    body["tools"] = [{"type": "function", "function": {"name": "get_time"}}]
    assert respond(body)["choices"][0]["finish_reason"] == "tool_calls"
