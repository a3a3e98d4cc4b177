"""RUXA_ALLOW_REQUESTS=0: nothing is sent to another machine, and nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from ruxa_async import (
    ConfigurationError,
    DownloadError,
    Generation,
    NanoBanana,
    NotSentError,
    Retries,
    RuxaClient,
    SqliteJournal,
)
from ruxa_async.downloads import OutputDownloader
from ruxa_async.emulator import Emulator, Service
from ruxa_async.sync import RuxaClient as SyncClient
from ruxa_async.transports import (
    AiohttpTransport,
    Httpx2Transport,
    MemoryTransport,
    Request,
    Response,
    Transport,
    check_allowed,
)

ELSEWHERE = "https://api.invalid"  # if the guard fails, no such host is found
MESSAGE = (
    "RUXA_ALLOW_REQUESTS=0 allows requests to this machine only, and this one is for 'api.invalid'. In a test, "
    "use the pytest fixtures ruxa or ruxa_emulator, or set RUXA_BASE_URL to the address of an emulator. To send "
    "real requests, unset the variable"
)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)  # sockets and journals need real time


@pytest.fixture(autouse=True)
def no_real_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUXA_ALLOW_REQUESTS", "0")


@pytest.fixture(params=[AiohttpTransport, Httpx2Transport])
def make(request: pytest.FixtureRequest, anyio_backend_name: str) -> Callable[[], Transport]:
    if anyio_backend_name == "trio" and request.param is AiohttpTransport:
        pytest.skip("aiohttp is for asyncio")
    make: Callable[[], Transport] = request.param
    return make


def client_of(transport: Transport, **options: Any) -> RuxaClient:
    return RuxaClient(api_key="sk-canary", base_url=ELSEWHERE, transport=transport, **options)


async def consume(ruxa: RuxaClient) -> None:
    async with ruxa.as_completed([NanoBanana(prompt="a fox")]) as outcomes:
        async for _ in outcomes:
            raise AssertionError("no outcome is possible")


CALLS: dict[str, Callable[[RuxaClient], Any]] = {
    "generate": lambda ruxa: ruxa.generate(NanoBanana(prompt="a fox")),
    "run": lambda ruxa: ruxa.generate(NanoBanana(prompt="a fox"), run="r"),
    "submit": lambda ruxa: ruxa.submit(NanoBanana(prompt="a fox")),
    "as_completed": consume,
    "status": lambda ruxa: ruxa.status("task-1"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_client_refuses_each_call_and_records_nothing(
    make: Callable[[], Transport], call: str, tmp_path: Path
) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    async with client_of(make(), journal=journal) as ruxa:
        with pytest.raises(ConfigurationError) as caught:
            await CALLS[call](ruxa)
        assert str(caught.value) == MESSAGE
        stats = ruxa.stats()
    assert (stats.creates_sent, stats.queries_sent, stats.queued, ruxa.orphans) == (0, 0, 0, ())
    async with SqliteJournal(tmp_path / "journal.db") as journal:
        assert (await journal.counts()).total == 0


def test_a_client_without_async_refuses_too() -> None:
    with SyncClient(api_key="sk-canary", base_url=ELSEWHERE) as ruxa, pytest.raises(ConfigurationError):
        ruxa.generate(NanoBanana(prompt="a fox"))


async def test_a_transport_sends_nothing(make: Callable[[], Transport]) -> None:
    async with aclosing(make()) as transport:
        for request in (Request(method="POST", url=ELSEWHERE), Request(method="GET", url="http://[/")):
            with pytest.raises(NotSentError, match="RUXA_ALLOW_REQUESTS=0") as caught:
                await transport.send(request)
            assert isinstance(caught.value.__cause__, ConfigurationError)
            with pytest.raises(NotSentError, match="RUXA_ALLOW_REQUESTS=0"):
                async with transport.stream(request):
                    pass


async def test_a_download_is_refused_at_once(make: Callable[[], Transport], tmp_path: Path) -> None:
    generation = Generation(task_id="t", model=None, urls=(f"{ELSEWHERE}/a.png?sig=canary",))
    started = anyio.current_time()
    async with OutputDownloader(transport=make()) as downloader:
        with pytest.raises(DownloadError) as caught:
            await downloader.save(generation, tmp_path)
    assert str(caught.value) == f"{ELSEWHERE}/a.png: {MESSAGE}"
    assert anyio.current_time() - started < 0.5  # the first pause between two attempts
    assert [*tmp_path.iterdir()] == []


async def test_a_variable_set_while_a_task_is_queued_charges_nothing(
    make: Callable[[], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(make(), retries=Retries(throttled_timeout=0.2)) as ruxa:
        monkeypatch.setattr(ruxa, "_sends_for_real", False)  # as if it had been set after the check
        with pytest.raises(NotSentError, match="RUXA_ALLOW_REQUESTS=0"):
            await ruxa.generate(NanoBanana(prompt="a fox"))
        assert ruxa.orphans == ()


async def test_a_transport_of_your_own_is_guarded_by_the_client_and_by_check_allowed() -> None:
    class Own:
        async def send(self, request: Request) -> Response:
            check_allowed(request)
            raise AssertionError("it was sent")

        def stream(self, request: Request) -> Any:
            return nullcontext()

        async def aclose(self) -> None:
            pass

    async with client_of(Own()) as ruxa:
        with pytest.raises(ConfigurationError):
            await ruxa.generate(NanoBanana(prompt="a fox"))
    with pytest.raises(NotSentError, match=r"^POST: nothing was sent: RUXA_ALLOW_REQUESTS=0 "):
        await Own().send(Request(method="POST", url=ELSEWHERE))


async def test_the_emulator_and_memory_are_allowed(
    make: Callable[[], Transport], ruxa_emulator: Emulator, ruxa_service: Service
) -> None:
    async with RuxaClient(transport=make()) as ruxa:
        await (await ruxa.generate(NanoBanana(prompt="a fox"))).read()
    async with RuxaClient(
        api_key=ruxa_service.settings.key, base_url=ELSEWHERE, transport=MemoryTransport(ruxa_service)
    ) as ruxa:
        await (await ruxa.generate(NanoBanana(prompt="a fox"))).read()
    assert (ruxa_emulator.service.ledger.charged, ruxa_service.ledger.charged) == (1, 1)


@pytest.mark.parametrize("value", ["0", "false", "No", "off", "2", "ture"])
@pytest.mark.parametrize(
    "url", ["https://8.8.8.8/a", "https://localhost.example", "http://10.0.0.1", "nonsense"]
)
def test_other_machines_are_refused_for_each_value_but_yes(
    value: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUXA_ALLOW_REQUESTS", value)
    with pytest.raises(NotSentError, match=f"RUXA_ALLOW_REQUESTS={value} allows"):
        check_allowed(Request(method="GET", url=url))
    for ours in ("http://127.0.0.1:1/a", "http://localhost", "http://[::1]:80/", "https://127.9.9.9"):
        check_allowed(Request(method="GET", url=ours))


@pytest.mark.parametrize("value", ["", "1", " TRUE", "yes", "on"])
def test_requests_are_allowed_by_yes_and_by_default(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUXA_ALLOW_REQUESTS", value)
    check_allowed(Request(method="GET", url=ELSEWHERE))
    monkeypatch.delenv("RUXA_ALLOW_REQUESTS")
    check_allowed(Request(method="GET", url=ELSEWHERE))
