"""The transport on httpx2: the contract on asyncio and trio, and its pools."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import httpcore2._async.http11
import pytest

import ruxa_async.transports
from ruxa_async import NanoBanana, RuxaClient
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings
from ruxa_async.errors import MaybeSentError, NotSentError
from ruxa_async.testing import TransportContract
from ruxa_async.testing import _servers as servers
from ruxa_async.testing._asking import (
    failure,
    request,
    send_whole,
    texts_of,
)
from ruxa_async.testing._servers import answering, reply, saying_then_silent, serving
from ruxa_async.testing._stepping import ASYNCIO_ONLY, Stepped, interrupted, nothing_leaks
from ruxa_async.transports import Httpx2Transport, Request, Transport
from ruxa_async.transports._httpx2_exchange import Httpx2Exchange


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # sockets need real time


class TestContract(TransportContract):
    @asynccontextmanager
    async def make(self, **options: Any) -> AsyncIterator[Transport]:
        async with aclosing(Httpx2Transport(**options)) as transport:
            yield transport


# The pools


class Clock:
    """The clock by which httpx2's pool tells how long a connection has been idle."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fresh", "idle", "connections"), [(True, 1.9, 1), (True, 2.1, 2), (False, 10, 1), (False, 15.1, 2)]
)
async def test_a_create_takes_no_connection_idle_for_two_seconds(
    monkeypatch: pytest.MonkeyPatch, fresh: bool, idle: float, connections: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(httpcore2._async.http11, "time", clock)
    with serving(answering(reply())) as server:
        async with aclosing(Httpx2Transport()) as transport:
            await transport.send(request(server.url, fresh=fresh))
            clock.now += idle
            await transport.send(request(server.url, fresh=fresh))
    assert server.connections == connections


async def test_creates_do_not_wait_for_the_connections_of_queries() -> None:
    with serving(saying_then_silent()) as silent, serving(answering(reply())) as good:
        async with aclosing(Httpx2Transport(pool_size=1)) as transport, anyio.create_task_group() as group:
            group.start_soon(transport.send, request(silent.url, "GET"))
            await silent.seen(1)
            await transport.send(request(good.url, fresh=True))
            group.cancel_scope.cancel()


async def test_closing_ends_a_wait_for_the_pool_as_not_sent_and_an_exchange_as_maybe_sent() -> None:
    ends: list[BaseException] = []

    async def run(transport: Transport, url: str) -> None:
        ends.append(await failure(send_whole, transport, request(url)))

    with serving(saying_then_silent()) as server:
        async with anyio.create_task_group() as group:
            transport = Httpx2Transport(pool_size=1)
            group.start_soon(run, transport, server.url)
            await server.seen(1)
            group.start_soon(run, transport, server.url)
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
    assert sorted(type(end).__name__ for end in ends) == ["MaybeSentError", "NotSentError"]
    assert all("closed meanwhile" in str(end) for end in ends)
    assert len(server.requests) == 1


async def test_closing_ends_an_open_stream_at_its_next_chunk() -> None:
    with serving(saying_then_silent(reply(b"abc", length=10))) as server:
        transport = Httpx2Transport()
        async with transport.stream(request(server.url, "GET")) as streamed:
            chunks = aiter(streamed.chunks())
            assert await anext(chunks) == b"abc"
            await transport.aclose()
            with pytest.raises(MaybeSentError, match="closed meanwhile"):
                await anext(chunks)


# What leaves


async def test_a_header_that_cannot_be_sent_is_not_sent_and_not_quoted() -> None:
    with serving(answering(reply())) as server:
        async with aclosing(Httpx2Transport(pool_size=1)) as transport:
            for value in ("canary\r\nX: y", "canary\N{SNOWMAN}"):
                with pytest.raises(NotSentError) as caught:
                    await transport.send(request(server.url, headers={"Authorization": value}))
                assert not any("canary" in text for text in texts_of(caught.value))
            await transport.send(request(server.url))
    assert len(server.requests) == 1


@pytest.mark.parametrize("tail", ["", "?a=b", "/#part", "#part"])
async def test_an_address_without_a_path_or_with_a_fragment(tail: str) -> None:
    with serving(answering(reply())) as server:
        async with aclosing(Httpx2Transport()) as transport:
            await transport.send(Request(method="GET", url=server.url + tail))
    assert server.requests[0].startswith(f"GET /{tail.partition('#')[0].strip('/')} HTTP/1.1\r\n")


# What comes


async def test_a_reply_in_an_encoding_that_was_not_requested_raises() -> None:
    with serving(answering(reply(b"??", headers="Content-Encoding: br\r\n"))) as server:
        async with aclosing(Httpx2Transport()) as transport:
            error = await failure(send_whole, transport, request(server.url))
    assert isinstance(error, MaybeSentError)
    assert "'br'" in str(error)


@pytest.mark.parametrize("packed", [gzip.compress(b"x" * 100, mtime=0)[:-9], b"no gzip at all"])
async def test_an_incomplete_or_invalid_compression_raises(packed: bytes) -> None:
    with serving(answering(reply(packed, headers="Content-Encoding: gzip\r\n"))) as server:
        async with aclosing(Httpx2Transport()) as transport:
            error = await failure(send_whole, transport, request(server.url))
    assert isinstance(error, MaybeSentError)


async def test_of_two_headers_of_one_name_the_first_counts() -> None:
    with serving(answering(reply(headers="X-A: 1\r\nx-a: 2\r\n"))) as server:
        async with aclosing(Httpx2Transport()) as transport:
            assert (await transport.send(request(server.url))).headers["x-a"] == "1"


# TLS


async def test_tls_with_a_trusted_certificate() -> None:
    trusting = ssl.create_default_context(cadata=servers.SELF_SIGNED)
    with serving(answering(reply()), tls=True) as server:
        async with aclosing(Httpx2Transport(ssl_context=trusting)) as transport:
            for _ in range(2):
                assert (await transport.send(request(server.url))).status == 200
    assert server.connections == 1


@pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "waking"])
@pytest.mark.parametrize("means", ["native", "scope"])
async def test_a_cancel_at_any_step_over_tls_leaves_nothing_behind(
    means: str, asleep: bool, anyio_backend_name: str
) -> None:
    if means in ASYNCIO_ONLY and anyio_backend_name != "asyncio":
        pytest.skip("there is no such thing on trio")
    trusting = ssl.create_default_context(cadata=servers.SELF_SIGNED)
    with serving(answering(reply()), tls=True) as server:
        for turn in itertools.count():
            async with (
                nothing_leaks(server),
                aclosing(Httpx2Transport(pool_size=1, ssl_context=trusting)) as transport,
            ):
                stepped = Stepped(transport.send(request(server.url)), turn, asleep=asleep)
                await interrupted(means, stepped)
                with anyio.fail_after(10):
                    assert (await transport.send(request(server.url))).status == 200
            if not stepped.acted:
                break
    assert turn > 3


# Loops and settings


def test_a_transport_belongs_to_the_loop_of_its_first_use(anyio_backend_name: str) -> None:
    transport = Httpx2Transport()

    async def use(url: str) -> None:
        await transport.send(request(url))

    with serving(answering(reply())) as server:

        async def use_twice() -> None:
            await use(server.url)
            with pytest.raises(RuntimeError, match="another event loop"):
                await anyio.to_thread.run_sync(lambda: anyio.run(use, server.url, backend=anyio_backend_name))
            await transport.aclose()

        anyio.run(use_twice, backend=anyio_backend_name)


@pytest.mark.parametrize("setting", ["pool_size", "max_body"])
def test_a_setting_below_one_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        Httpx2Transport(**cast("dict[str, Any]", {setting: 0}))


@pytest.mark.parametrize("name", ["AiohttpTransport", "Httpx2Transport", "MemoryTransport"])
def test_the_package_exports_its_transports(name: str) -> None:
    assert getattr(ruxa_async.transports, name).__name__ == name
    assert name in ruxa_async.transports.__all__


def test_an_unknown_name_of_the_package_raises() -> None:
    with pytest.raises(AttributeError, match="'Httpx3Transport'"):
        ruxa_async.transports.Httpx3Transport  # noqa: B018


def test_without_httpx2_the_extra_is_named() -> None:
    code = """if True:
        import sys
        sys.modules["httpx2"] = None
        import ruxa_async
        try:
            from ruxa_async.transports import Httpx2Transport
        except ImportError as error:
            print(type(error).__name__, error)
        """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("MissingExtraError ")
    assert "pip install 'ruxa-async[httpx2]'" in done.stdout


# The client on it


async def test_a_client_buys_and_downloads_over_sockets(tmp_path: Path) -> None:
    settings = EmulatorSettings(speed=50, image=Durations(1.0))
    async with Emulator(settings) as emulator:
        options: Any = {"api_key": emulator.key, "base_url": emulator.url, "transport": Httpx2Transport()}
        async with RuxaClient(**options) as ruxa:
            (path,) = await (await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))).save(tmp_path)
    assert path.name == "cat.png"
    assert emulator.service.ledger.charged == 1


async def test_a_client_without_a_transport_says_on_trio_what_to_pass(anyio_backend_name: str) -> None:
    client = RuxaClient(api_key="sk-x", base_url="http://127.0.0.1:9")
    if anyio_backend_name == "asyncio":
        async with client:
            return
    with pytest.raises(
        RuntimeError, match=r"transport=Httpx2Transport\(\).*pip install 'ruxa-async\[httpx2\]'"
    ):
        await client.__aenter__()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("stage", ["connect", "headers", "body"])
@pytest.mark.parametrize("first", ["timeout", "cancel"])
async def test_a_cancel_wins_over_a_timeout_of_the_same_turn(stage: str, first: str) -> None:
    script = saying_then_silent(*[reply(b"{", length=100)] * (stage == "body"))
    with serving(script) as server, servers.never_accepting() as nowhere:
        async with aclosing(Httpx2Transport()) as transport:
            url = nowhere if stage == "connect" else server.url
            task = asyncio.create_task(transport.send(request(url, timeout=0.2)))
            await (anyio.sleep(0.05) if stage == "connect" else server.seen(1))
            await anyio.sleep(0.05)
            asyncio.get_running_loop().call_later(0.3 if first == "timeout" else 0.01, task.cancel)
            time.sleep(0.4)  # the loop stands still until both are due
            await asyncio.wait([task])
            assert task.cancelled()


async def test_an_unknown_phase_counts_as_sent() -> None:
    with servers.never_accepting() as nowhere:
        asked = request(nowhere, timeout=0.2, connect_timeout=0.1)
        for phase, error in (("connect_tcp", NotSentError), ("http11.send_in_another_way", MaybeSentError)):
            exchange = Httpx2Exchange(asked)
            with pytest.raises(error), exchange:  # noqa: PT012 - the block is what is tested
                await exchange._trace(f"{phase}.started", {})
                await anyio.sleep(10)
