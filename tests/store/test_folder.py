"""The state folder: what is told where it cannot be used, and a count that does not keep a daemon from starting."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from edged.domain.errors import ConfigError, EdgedError, StoreUnavailable
from edged.store.folder import boot_number, owned


def failing(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    return fail


@pytest.mark.parametrize(
    ("number", "error"), [(errno.EROFS, ConfigError), (errno.EACCES, ConfigError), (errno.ENOSPC, StoreUnavailable)]
)
def test_a_lock_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[EdgedError]
) -> None:
    monkeypatch.setattr(Path, "open", failing(number))
    with pytest.raises(error, match=str(tmp_path)), owned(tmp_path):
        pass


def test_starts_are_counted_unless_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [boot_number(tmp_path), boot_number(tmp_path)] == [1, 2]
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", failing(errno.ENOSPC))
        assert boot_number(tmp_path) == 3
    assert boot_number(tmp_path) == 3
