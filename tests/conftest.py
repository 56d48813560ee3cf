"""What several rooms test against: a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mosquitto_broker import Mosquitto


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One for all tests: each uses a device name of its own. Tests that kill theirs start their own."""
    running = Mosquitto(tmp_path_factory.mktemp("broker")).start()
    yield running
    running.kill()
