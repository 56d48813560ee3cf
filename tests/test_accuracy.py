"""A sample of the accuracy bench on the bundled models: what may never happen, and that it chooses far better than by chance."""

from __future__ import annotations

import pytest

from bench.accuracy import run


@pytest.mark.timeout(60)
async def test_the_bundled_models() -> None:
    bars, _ = await run(count=160, seed=7, misses=0)
    value = {bar.name: bar.value for bar in bars}
    assert value["syntactically invalid calls of the language model"] == 0
    assert value["answers with invented numbers or names"] == 0
    assert value["shipped tools: exact call"] > 0.8  # 160 sentences: the bench says it within a percent or two
    assert value["shipped tools: no-tool recall"] > 0.8
    assert value["right calls made by the intent tier"] > 0.8
