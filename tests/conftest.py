"""What every test has: both backends, in virtual time.

A module or test that needs real time, threads or sockets overrides `anyio_backend` with a fixture of its own.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any

import pytest
import trio._core._run as trio_scheduler
from hypothesis import settings

from ruxa_async.testing import virtual_time

#: obstore has no wheel for Python without the GIL.
collect_ignore = (
    []
    if find_spec("obstore")
    else ["batch/test_store.py", "batch/test_uploader.py", "downloads/test_object_store.py"]
)
#: Trio runs tasks that are ready in an order drawn at random. Each test draws the same one every time;
#: RUXA_SCHEDULE=1, 2, ... gives others.
SCHEDULE = os.environ.get("RUXA_SCHEDULE", "0")


# A busy machine is not a failure. Where CI is set, Hypothesis has no deadline anyway.
settings.register_profile("without deadline", settings(), deadline=None)
settings.load_profile("without deadline")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "alternate_backends: run half of the parameters on asyncio and the others on trio, to save time",
    )
    config.addinivalue_line(
        "markers",
        "long: it repeats what shorter tests run, for seconds. Coverage, which doubles its time, leaves it "
        "out, and so do the checks of other versions of Python",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the items of tests that alternate whose parameters are another backend's."""
    dropped = [item for item in items if item.get_closest_marker("alternate_backends") and _is_other(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]


def _is_other(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    backend = item.callspec.params["anyio_backend"]
    others = item.callspec.id.removeprefix(str(backend))
    return ("asyncio", "trio")[zlib.crc32(others.encode()) % 2] != backend


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Run a long test without coverage."""
    tracer = sys.gettrace()
    if tracer is None or item.get_closest_marker("long") is None:
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def trio_schedule(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make trio's order of tasks depend on the test and RUXA_SCHEDULE only, as trio does under Hypothesis."""
    monkeypatch.setattr(trio_scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    trio_scheduler._r.seed(f"{SCHEDULE}/{request.node.nodeid}")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_time(request.param)
