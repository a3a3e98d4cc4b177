"""What every test has: both backends, in virtual time.

A module or test that needs real time, threads or sockets overrides `anyio_backend` with a fixture of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from ruxa_async.testing import virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_time(request.param)
