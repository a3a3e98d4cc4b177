"""What every test has: both backends, in virtual time.

A module or test that needs real time, threads or sockets overrides `anyio_backend` with a fixture of its own.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio._core._run as trio_scheduler

from ruxa_async.testing import virtual_time

#: Trio runs tasks that are ready in an order drawn at random. Each test draws the same one every time;
#: RUXA_SCHEDULE=1, 2, ... gives others.
SCHEDULE = os.environ.get("RUXA_SCHEDULE", "0")


@pytest.fixture(autouse=True)
def trio_schedule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make trio's order of tasks depend on the test and RUXA_SCHEDULE only, as trio does under Hypothesis."""
    monkeypatch.setattr(trio_scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    trio_scheduler._r.seed(f"{SCHEDULE}/{request.node.nodeid}")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_time(request.param)
