"""The pytest plugin: fixtures, markers, and no trace of it where nobody uses it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import anyio
import pytest
from testing.suites import run_pytest

from ruxa_async import NanoBanana, NotSentError, Retries, RuxaClient, Sora2, TaskFailedError
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Fault, Service
from ruxa_async.sync import RuxaClient as SyncClient
from ruxa_async.testing import memory_client

PLUGIN = "ruxa_async.testing._plugin"
pytestmark = pytest.mark.ruxa(credits=1000)

HEAVY = (
    "PIL",
    "aiohttp",
    "attrs",
    "cattrs",
    "httpx2",
    "trio",
    "ruxa_async._client",
    "ruxa_async.emulator",
    "ruxa_async.testing._client",
    "ruxa_async.testing._virtual_time",
    "ruxa_async.transports",
)


# Where nobody uses it


def test_the_entry_point_leads_to_the_plugin() -> None:
    (entry,) = entry_points(group="pytest11", name="ruxa_async")
    assert entry.value == PLUGIN


def test_its_import_loads_nothing_heavy() -> None:
    code = f"import json, sys, {PLUGIN}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = json.loads(done.stdout)
    assert PLUGIN in loaded
    assert not {*HEAVY} & {*loaded}


def test_a_suite_that_does_not_use_it_loads_nothing_and_is_not_warned(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        f"import sys\n\ndef test_it():\n    assert {PLUGIN!r} in sys.modules\n"
        f"    assert not [name for name in {HEAVY!r} if name.startswith('ruxa') and name in sys.modules]\n"
    )
    said = run_pytest(tmp_path, "--strict-markers", "--strict-config", autoload=True)
    assert "1 passed" in said
    assert "warning" not in said


# Virtual time

SUITE = """
import anyio, pytest, time
from ruxa_async import NanoBanana

@pytest.mark.ruxa_virtual_time
async def test_both():
    await anyio.sleep(3600)

@pytest.mark.ruxa_virtual_time("trio")
class TestNamed:
    async def test_one(self, ruxa, ruxa_service, anyio_backend_name):
        await ruxa.generate(NanoBanana(prompt="a fox"))
        assert (ruxa_service.ledger.charged, anyio_backend_name) == (1, "trio")

@pytest.mark.anyio
async def test_real():
    started = time.monotonic()
    await anyio.sleep(0.02)
    assert time.monotonic() - started >= 0.019

@pytest.mark.parametrize("seconds", [60, 600])
@pytest.mark.ruxa_virtual_time
async def test_with_parameters(seconds):
    with anyio.move_on_after(seconds) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught

@pytest.mark.ruxa_virtual_time
@pytest.mark.xfail(raises=AssertionError, strict=True)
async def test_fails(ruxa, ruxa_service):
    assert ruxa_service.ledger.charged == 1
"""


PLAIN = """
import pytest

@pytest.mark.ruxa_virtual_time
def test_plain():
    pass
"""


def test_the_marker_runs_an_async_test_in_virtual_time_on_both_backends(tmp_path: Path) -> None:
    (tmp_path / "test_marked.py").write_text(SUITE)
    (tmp_path / "test_plain.py").write_text(PLAIN)
    said = run_pytest(tmp_path, "--strict-markers", "--continue-on-collection-errors")
    assert "test_plain.py::test_plain: ruxa_virtual_time is for async tests only" in said
    assert "1 error" in said
    assert {*re.findall(r"::(\S+) (PASSED|FAILED|ERROR|XFAIL)", said)} == {
        ("test_both[asyncio]", "PASSED"),
        ("test_both[trio]", "PASSED"),
        ("TestNamed::test_one[trio]", "PASSED"),
        ("test_real[asyncio]", "PASSED"),
        ("test_real[trio]", "PASSED"),
        *((f"test_with_parameters[{n}-{name}]", "PASSED") for name in ("asyncio", "trio") for n in (60, 600)),
        ("test_fails[asyncio]", "XFAIL"),
        ("test_fails[trio]", "XFAIL"),
    }


@pytest.mark.ruxa_virtual_time("asyncio")
@pytest.mark.ruxa(image=Durations(3600))
async def test_the_marker_replaces_a_fixture_of_your_own(ruxa: RuxaClient, anyio_backend_name: str) -> None:
    started = anyio.current_time()
    await ruxa.generate(NanoBanana(prompt="a fox"))
    assert anyio_backend_name == "asyncio"
    assert 3600 <= anyio.current_time() - started < 4000


# Fixtures


async def test_the_client_and_the_service_belong_together(
    ruxa: RuxaClient, ruxa_service: Service, ruxa_settings: EmulatorSettings
) -> None:
    generation = await ruxa.generate(NanoBanana(prompt="a fox"))
    await ruxa.generate(Sora2(prompt="a fox runs"))
    assert ruxa_service.ledger.entries[0].task_id == generation.task_id
    assert ruxa_service.ledger.charged == 2
    assert ruxa_service.settings is ruxa_settings


async def test_tasks_are_quick(ruxa: RuxaClient) -> None:
    started = anyio.current_time()
    await ruxa.generate(NanoBanana(prompt="a fox"))
    assert anyio.current_time() - started < 0.3


@pytest.mark.ruxa(fail_share=1.0, fail_message="no foxes")
async def test_the_marker_sets_the_service(ruxa: RuxaClient) -> None:
    with pytest.raises(TaskFailedError, match="no foxes"):
        await ruxa.generate(NanoBanana(prompt="a fox"))


@pytest.mark.ruxa(credits=5, outputs=2)
class TestMarkers:
    @pytest.mark.ruxa(credits=7, seed=3)
    def test_the_closest_comes_first_and_the_others_add_to_it(self, ruxa_settings: EmulatorSettings) -> None:
        assert (ruxa_settings.credits, ruxa_settings.outputs, ruxa_settings.seed) == (7, 2, 3)

    def test_those_of_a_class_come_before_those_of_a_module(self, ruxa_settings: EmulatorSettings) -> None:
        assert (ruxa_settings.credits, ruxa_settings.outputs, ruxa_settings.seed) == (5, 2, 0)


def test_those_of_a_module_count(ruxa_settings: EmulatorSettings) -> None:
    assert (ruxa_settings.credits, ruxa_settings.image) == (1000, Durations(0.05))


class TestOwnSettings:
    @pytest.fixture
    def ruxa_settings(self) -> EmulatorSettings:
        return EmulatorSettings(key="sk-own")

    async def test_a_fixture_of_your_own_replaces_them(self, ruxa: RuxaClient, ruxa_service: Service) -> None:
        await ruxa.generate(NanoBanana(prompt="a fox"))
        assert (ruxa_service.settings.key, ruxa_service.ledger.charged) == ("sk-own", 1)


@pytest.mark.ruxa(faults=[Fault("refused", "create")])
async def test_a_client_of_your_own_takes_every_option(ruxa_service: Service) -> None:
    async with memory_client(ruxa_service, retries=Retries(throttled_timeout=1.0)) as ruxa:
        with pytest.raises(NotSentError):
            await ruxa.generate(NanoBanana(prompt="a fox"))
    assert ruxa_service.ledger.charged == 0


class TestEmulator:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # a socket needs real time

    async def test_code_that_makes_its_own_client_finds_it(self, ruxa_emulator: Emulator) -> None:
        async with RuxaClient() as ruxa:
            generation = await ruxa.generate(NanoBanana(prompt="a fox"))
            assert generation.urls[0].startswith(ruxa_emulator.url)
        assert os.environ["RUXA_API_KEY"] == ruxa_emulator.key
        assert ruxa_emulator.service.ledger.charged == 1

    def test_code_without_async_finds_it(self, ruxa_emulator: Emulator) -> None:
        with SyncClient() as ruxa:
            ruxa.generate(NanoBanana(prompt="a fox"))
        assert ruxa_emulator.service.ledger.charged == 1

    def test_the_environment_is_as_before(self) -> None:
        assert "127.0.0.1" not in os.environ.get("RUXA_BASE_URL", "")
