"""The pytest plugin: fixtures and markers for tests of code that uses this library.

Every test run in an environment with this package imports it, so it imports nothing but pytest. The fixtures
import what they need.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ruxa_async import RuxaClient
    from ruxa_async.emulator import Emulator, EmulatorSettings, Service

__all__ = ("ruxa", "ruxa_emulator", "ruxa_service", "ruxa_settings")

_VIRTUAL_TIME = "ruxa_virtual_time"
_BACKENDS = ("asyncio", "trio")

# Their asserts show the values that differ, as those of a test module do.
pytest.register_assert_rewrite(
    *(
        f"ruxa_async.testing.{name}"
        for name in ("_transport_contract", "_transport_faults", "_transport_cancels", "_asking", "_stepping")
    )
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line(
        "markers",
        "ruxa(**settings): settings of the emulated service, those of ruxa_async.emulator.EmulatorSettings",
    )
    config.addinivalue_line(
        "markers",
        f"{_VIRTUAL_TIME}(*backends): run the async test with anyio in virtual time, on asyncio and, if "
        "installed, trio, or on the named backends",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> None:
    """Let anyio run a test that is marked for virtual time."""
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj):
        own = getattr(obj, "pytestmark", ())
        if collector.get_closest_marker(_VIRTUAL_TIME) or any(mark.name == _VIRTUAL_TIME for mark in own):
            pytest.mark.usefixtures("anyio_backend")(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked for virtual time on event loops whose clocks jump.

    The parameter replaces the fixture ``anyio_backend``, also one of your own.
    """
    mark = metafunc.definition.get_closest_marker(_VIRTUAL_TIME)
    if mark is None:
        return
    if "anyio_backend" not in metafunc.fixturenames:
        pytest.fail(f"{metafunc.definition.nodeid}: {_VIRTUAL_TIME} is for async tests only", pytrace=False)
    from ._virtual_time import virtual_time  # noqa: PLC0415 - imports asyncio

    backends = mark.args or tuple(name for name in _BACKENDS if importlib.util.find_spec(name) is not None)
    loops = [virtual_time(backend) for backend in backends]
    metafunc.definition.add_marker(pytest.mark.parametrize("anyio_backend", loops, ids=backends))


@pytest.fixture
def ruxa_settings(request: pytest.FixtureRequest) -> EmulatorSettings:
    """Give the settings of the emulated service: quick tasks, and what ``@pytest.mark.ruxa(...)`` sets."""
    from ._client import quick_settings  # noqa: PLC0415 - imports the client

    settings: dict[str, Any] = {}
    for mark in request.node.iter_markers("ruxa"):  # the closest first
        settings = {**mark.kwargs, **settings}
    return quick_settings(**settings)


@pytest.fixture
def ruxa_service(ruxa_settings: EmulatorSettings) -> Service:
    """Give the emulated service in memory, with its ledger of purchases."""
    from ruxa_async.emulator import Service  # noqa: PLC0415 - only when it is used

    return Service(ruxa_settings)


@pytest.fixture
async def ruxa(ruxa_service: Service) -> AsyncIterator[RuxaClient]:
    """Give an open client of `ruxa_service`, without a network."""
    from ._client import memory_client  # noqa: PLC0415 - imports the client

    # Not `async with`: pytest-asyncio runs the end of a fixture in another task than its start.
    client = await memory_client(ruxa_service).open()
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
def ruxa_emulator(ruxa_settings: EmulatorSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Give the emulated service on a socket; RUXA_BASE_URL and RUXA_API_KEY point to it during the test."""
    from ruxa_async.emulator import Emulator  # noqa: PLC0415 - only when it is used

    with Emulator(ruxa_settings) as emulator:
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        monkeypatch.setenv("RUXA_API_KEY", emulator.key)
        yield emulator
