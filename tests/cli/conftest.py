"""A PostgreSQL server for the tests of ``--journal``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Postgres, postgres_or_skip


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres_or_skip() as running:
        yield running
