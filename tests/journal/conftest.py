"""A journal has a thread of its own, so its tests run in real time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from journal.places import InFile, InPostgres, Place
from servers import Postgres, postgres_or_skip


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres_or_skip() as running:
        yield running


@pytest.fixture(params=["file", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return InFile(tmp_path / "journal.db")
    return InPostgres(request.getfixturevalue("server").dsn)
