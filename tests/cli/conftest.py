"""A PostgreSQL server for the tests of ``--journal``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Postgres, postgres, postgres_missing


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    missing = postgres_missing()
    if missing is not None:
        pytest.skip(missing)
    with postgres() as running:
        yield running
