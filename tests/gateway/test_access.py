"""Callers, roles and rates."""

from __future__ import annotations

import os
import socket

import pytest

from edged.domain.errors import RateLimited
from edged.gateway.access import Access, peer_uid, uid_roles


def test_the_kernel_names_the_peer() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_uid(here) == os.getuid()


@pytest.mark.parametrize(("uid", "role"), [(0, "operator"), (os.geteuid(), "operator"), (54321, "user")])
def test_roles(uid: int, role: str) -> None:
    caller = Access("http", rate=1, burst=1, roles=uid_roles()).caller(f"uid:{uid}")
    assert (caller.id, caller.role, caller.door) == (f"uid:{uid}", role, "http")


def test_a_burst_then_the_rate_and_only_for_that_caller() -> None:
    now = 0.0
    access = Access("http", rate=2.0, burst=3, clock=lambda: now)
    one, other = access.caller("one"), access.caller("other")
    for _ in range(3):
        access.spend(one)
    with pytest.raises(RateLimited) as refused:
        access.spend(one)
    assert refused.value.retry_after == pytest.approx(0.5)
    access.spend(other)
    now = 0.5
    access.spend(one)
    with pytest.raises(RateLimited):
        access.spend(one)


def test_many_callers_do_not_fill_the_memory() -> None:
    access = Access("http", rate=0.001, burst=1, clock=lambda: 0.0)
    for number in range(3000):
        access.spend(access.caller(f"uid:{number}"))
    assert len(access._buckets) <= 1024
    with pytest.raises(RateLimited):
        access.spend(access.caller("uid:2999"))
