"""The transport on aiohttp: the contract, and what its sessions add to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import aiohttp
import aiohttp.connector
import anyio
import pytest

from ruxa_async.errors import MaybeSentError, NotSentError, TransportError
from ruxa_async.testing import TransportContract
from ruxa_async.testing import _servers as servers
from ruxa_async.testing._asking import (
    BIG,
    Send,
    failure,
    request,
    send_whole,
)
from ruxa_async.testing._servers import (
    Peer,
    answering,
    reply,
    saying_then_closing,
    saying_then_silent,
    serving,
)
from ruxa_async.transports import AiohttpTransport, Transport


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiohttp knows no other, and sockets need real time


class TestOwnSessions(TransportContract):
    @asynccontextmanager
    async def make(self, **options: Any) -> AsyncIterator[Transport]:
        async with aclosing(AiohttpTransport(**options)) as transport:
            yield transport


class TestOnUvloop(TestOwnSessions):
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        pytest.importorskip("uvloop")
        return "asyncio", {"use_uvloop": True}


class TestSuppliedSession(TransportContract):
    @asynccontextmanager
    async def make(self, pool_size: int = 100, **options: Any) -> AsyncIterator[Transport]:
        connector = aiohttp.TCPConnector(limit=pool_size)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            async with aclosing(AiohttpTransport(session, **options)) as transport:
                yield transport
            assert not session.closed


# Own sessions


class Clock:
    """The clock by which aiohttp's pool tells how long a connection has been idle."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(aiohttp.connector, "monotonic", clock)
    return clock


@pytest.mark.parametrize(("fresh", "idle", "connections"), [(True, 1.9, 1), (True, 2.1, 2), (False, 10, 1)])
async def test_a_create_takes_no_connection_idle_for_two_seconds(
    clock: Clock, fresh: bool, idle: float, connections: int
) -> None:
    with serving(answering(reply())) as server:
        async with aclosing(AiohttpTransport()) as transport:
            await transport.send(request(server.url, fresh=fresh))
            clock.now += idle
            await transport.send(request(server.url, fresh=fresh))
    assert server.connections == connections


async def test_creates_do_not_wait_for_the_connections_of_queries() -> None:
    with serving(saying_then_silent()) as silent, serving(answering(reply())) as good:
        async with aclosing(AiohttpTransport(pool_size=1)) as transport, anyio.create_task_group() as group:
            group.start_soon(transport.send, request(silent.url, "GET"))
            await silent.seen(1)
            await transport.send(request(good.url, fresh=True))
            group.cancel_scope.cancel()


async def test_a_connection_that_closed_before_the_first_byte_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The server's FIN is handled between the moment in which the pool hands the connection out and the first
    # write.
    taken = aiohttp.connector.BaseConnector._get

    async def take(self: Any, *args: Any) -> Any:
        connection: Any = await taken(self, *args)
        if connection is not None:
            connection.protocol.abort()
        return connection

    monkeypatch.setattr(aiohttp.connector.BaseConnector, "_get", take)
    with serving(answering(reply())) as server:
        async with aclosing(AiohttpTransport()) as transport:
            for method in ("POST", "GET"):
                await transport.send(request(server.url, method))
                error = await failure(send_whole, transport, request(server.url, method))
                assert isinstance(error, NotSentError)
    assert len(server.requests) == 2


async def test_closing_ends_a_wait_for_the_pool_as_not_sent_and_an_exchange_as_maybe_sent() -> None:
    ends: list[BaseException] = []

    async def run(transport: Transport, url: str) -> None:
        ends.append(await failure(send_whole, transport, request(url)))

    with serving(saying_then_silent()) as server:
        async with anyio.create_task_group() as group:
            transport = AiohttpTransport(pool_size=1)
            group.start_soon(run, transport, server.url)
            await server.seen(1)
            group.start_soon(run, transport, server.url)
            await anyio.wait_all_tasks_blocked()
            await transport.aclose()
    assert sorted(type(end).__name__ for end in ends) == ["MaybeSentError", "NotSentError"]


# A session of one's own


async def test_a_supplied_session_that_raises_for_status_still_returns_the_reply() -> None:
    with serving(answering(reply(b"no", "503 Down"))) as server:
        async with aiohttp.ClientSession(raise_for_status=True, auto_decompress=False) as session:
            answer = await AiohttpTransport(session).send(request(server.url))
    assert (answer.status, answer.body) == (503, b"no")


async def test_the_middlewares_of_a_supplied_session_cannot_send_twice() -> None:
    async def twice(
        asked: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        (await handler(asked)).close()
        return await handler(asked)

    with serving(answering(reply())) as server:
        async with aiohttp.ClientSession(middlewares=(twice,)) as session:
            await AiohttpTransport(session).send(request(server.url))
    assert len(server.requests) == 1


async def test_a_closed_supplied_session_raises() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(RuntimeError, match=r"session .* is closed"):
        await AiohttpTransport(session).send(request("http://127.0.0.1:9"))


async def test_the_tracing_of_a_supplied_session_still_works() -> None:
    seen: list[str] = []
    trace = aiohttp.TraceConfig()

    async def note(_session: object, _context: object, params: aiohttp.TraceRequestStartParams) -> None:
        await asyncio.sleep(0)
        seen.append(params.method)

    trace.on_request_start.append(note)
    with serving(saying_then_closing()) as server:
        async with aiohttp.ClientSession(trace_configs=[trace]) as session:
            error = await failure(send_whole, AiohttpTransport(session), request(server.url))
    assert isinstance(error, MaybeSentError)
    assert seen == ["POST"]


# Loops


def test_a_transport_belongs_to_the_loop_of_its_first_use() -> None:
    transport = AiohttpTransport()

    async def use(url: str) -> None:
        async with aclosing(transport):
            await transport.send(request(url))

    async def use_elsewhere() -> None:
        await another.send(request(server.url))

    with serving(answering(reply())) as server:
        asyncio.run(use(server.url))
        with asyncio.Runner() as runner:
            another = AiohttpTransport()
            runner.run(another.send(request(server.url)))
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(use_elsewhere())
            runner.run(another.aclose())


def test_the_error_on_trio_names_the_other_transport() -> None:
    async def use() -> None:
        transport = AiohttpTransport()
        with pytest.raises(RuntimeError, match="asyncio only"):
            await transport.send(request("http://127.0.0.1:9"))
        await transport.aclose()

    anyio.run(use, backend="trio")


@pytest.mark.parametrize("setting", ["pool_size", "max_body"])
def test_a_setting_below_one_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        AiohttpTransport(**cast("dict[str, Any]", {setting: 0}))


# Cancelling


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("turns", range(24))
async def test_a_native_cancel_in_any_turn_of_the_loop(send: Send, fresh: bool, turns: int) -> None:
    with serving(answering(reply(b"x" * 70_000))) as server:
        async with aclosing(AiohttpTransport(pool_size=1)) as transport:
            task = asyncio.ensure_future(send(transport, request(server.url, fresh=fresh)))
            for _ in range(turns):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() is not done or task.exception() is None
            with anyio.fail_after(10):
                assert len((await transport.send(request(server.url, fresh=fresh))).body) == 70_000


@pytest.mark.parametrize("stage", ["connect", "headers", "body"])
@pytest.mark.parametrize("first", ["timeout", "cancel"])
async def test_a_cancel_wins_over_a_timeout_of_the_same_turn(stage: str, first: str) -> None:
    script = saying_then_silent(*[reply(b"{", length=100)] * (stage == "body"))
    with serving(script) as server, servers.never_accepting() as nowhere:
        async with aclosing(AiohttpTransport()) as transport:
            url = nowhere if stage == "connect" else server.url
            task = asyncio.create_task(transport.send(request(url, timeout=0.2)))
            await (anyio.sleep(0.05) if stage == "connect" else server.seen(1))
            await anyio.sleep(0.05)
            asyncio.get_running_loop().call_later(0.3 if first == "timeout" else 0.01, task.cancel)
            time.sleep(0.4)  # the loop stands still until both are due
            await asyncio.wait([task])
            assert task.cancelled()


async def test_a_cancellation_is_raised_as_the_same_exception() -> None:
    with serving(saying_then_silent()) as server:
        async with aclosing(AiohttpTransport()) as transport:
            task = asyncio.create_task(transport.send(request(server.url)))
            await server.seen(1)
            task.cancel("by the caller")
            with pytest.raises(asyncio.CancelledError, match="by the caller"):
                await task
            assert task.cancelling() == 1


async def test_a_timeout_leaves_no_cancel_behind() -> None:
    with serving(saying_then_silent()) as server, servers.never_accepting() as nowhere:
        async with aclosing(AiohttpTransport()) as transport:
            for url in (server.url, nowhere):
                with pytest.raises(TransportError):
                    await transport.send(request(url, timeout=0.1))
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0


async def test_an_early_reply_is_returned_before_the_body_is_sent() -> None:
    async def hasty(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(reply(b"too much", "413 Content Too Large"))
        await peer.reader.read(1000)

    with serving(hasty) as server:
        async with aclosing(AiohttpTransport()) as transport:
            answer = await transport.send(request(server.url, body=BIG))
    assert answer.status == 413
