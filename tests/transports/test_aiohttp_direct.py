"""Requests without aiohttp's session have the same bytes, and are only sent where a session would add nothing."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import aiohttp
import anyio
import pytest

from ruxa_async.errors import MaybeSentError, NotSentError
from ruxa_async.testing._asking import BIG, failure, request, send_whole
from ruxa_async.testing._servers import Peer, answering, reply, saying_then_silent, serving
from ruxa_async.transports import AiohttpTransport, Request, _aiohttp_direct
from ruxa_async.transports import _aiohttp as aiohttp_transport
from ruxa_async.transports._aiohttp_direct import TESTED, DirectPool


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def pool() -> Any:
    async with aiohttp.TCPConnector() as connector:
        yield DirectPool(connector)


@pytest.fixture(params=[True, False], ids=["direct", "session"])
def direct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have requests go past the session, and through it as with a version of aiohttp that is not known."""
    monkeypatch.setattr(aiohttp_transport, "TESTED", request.param)
    return bool(request.param)


def test_the_installed_version_of_aiohttp_is_tested() -> None:
    # With another, all goes through the session: if what is here passes with it, `TESTED` may name it.
    assert TESTED, aiohttp.__version__


# What leaves


async def head_of(method: str, headers: dict[str, str]) -> tuple[str, list[str]]:
    with serving(answering(reply())) as server:
        async with aclosing(AiohttpTransport()) as transport:
            url = f"{server.url}/a/path?with=a%20query/~and;more"
            await transport.send(request(url, method, headers=headers))
    first, *rest = server.requests[0].split("\r\n")
    return first, sorted(field for field in rest if not field.startswith("Host: 127."))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "application/json", "User-Agent": "a fox", "Authorization": "Bearer sk-1"},
        {"accept-encoding": "identity", "X-Umlaut": "fünf"},
        {"Host": "elsewhere.test"},
    ],
)
async def test_a_request_has_the_bytes_that_a_session_would_send(
    method: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "POST":
        headers = {"Content-Type": "application/json", **headers}
    directly = await head_of(method, headers)
    monkeypatch.setattr(aiohttp_transport, "TESTED", False)
    assert directly == await head_of(method, headers)


async def test_only_requests_that_a_session_would_not_change_skip_it(pool: DirectPool) -> None:
    def goes(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> bool:
        body = b"{}" if method == "POST" else None
        return pool.prepare(Request(method=method, url=url, headers=headers or {}, body=body)) is not None

    for url in ("http://a.test/", "https://a.test:8443/b?c=d", "http://[::1]:8080/b/c%20d"):
        assert goes(url)
        assert goes(url, "POST")
    for url in (
        "http://a.test",
        "http://a.test?b=/c",
        "http://user:secret@a.test/",
        "http://a.test/b#c",
        "http://a.test/b c",
        "http://a.test/b\r\nX-Evil: 1",
        "http://a.test/ü",
        "http://ü.test/",
        "http://a.test:port/",
        "http://a.test:80/",
        "ftp://a.test/",
        "HTTP://A.test/",
        "http:///b",
        "/b",
        "",
    ):
        assert not goes(url), url
    assert not goes("http://user:secret@a.test/")  # nor when it comes again
    assert not goes("http://a.test/", "DELETE")
    assert pool.prepare(Request(method="POST", url="http://a.test/")) is None
    assert pool.prepare(Request(method="GET", url="http://a.test/", body=b"{}")) is None
    for name in ("Connection", "content-length", "Transfer-Encoding", "Expect", "Cookie", "UPGRADE"):
        assert not goes("http://a.test/", headers={name: "1"}), name
    for headers in (
        {"X": "1\r\nX-Evil: 1"},
        {"X": "\0"},
        {"X Y": "1"},
        {"X\n": "1"},
        {"": "1"},
        {"X": "\ud800"},
    ):
        assert not goes("http://a.test/", headers=headers), headers


async def test_invalid_headers_are_rejected_on_both_ways() -> None:
    with serving(answering(reply())) as server:
        async with aclosing(AiohttpTransport()) as transport:
            for headers in ({"X": "1\r\nX-Evil: 1"}, {"X\r\nX-Evil": "1"}):
                with pytest.raises(NotSentError):
                    await transport.send(request(server.url, headers=headers))
        await server.left(2)  # the session notices when it has connected
    assert server.requests == []


async def test_heads_are_kept_for_each_set_of_headers_and_bounded(pool: DirectPool) -> None:
    for turn in range(100):
        for _ in range(2):
            ready = pool.prepare(
                Request(method="GET", url="http://a.test/", headers={"Authorization": f"key {turn}"})
            )
            assert ready is not None
            assert f"Authorization: key {turn}\r\n".encode() in ready.data
    assert len(pool._heads) <= _aiohttp_direct._HEADS_KEPT


async def test_the_request_given_to_the_connector_holds_no_key(pool: DirectPool) -> None:
    ready = pool.prepare(request("http://a.test"))
    assert ready is not None
    assert "Authorization" not in ready.head.opener.headers


async def test_an_untested_version_of_aiohttp_uses_the_session(direct: bool) -> None:
    with serving(answering(reply(b"{}"))) as server:
        async with aclosing(AiohttpTransport()) as transport:
            assert (await transport.send(request(server.url))).body == b"{}"
            assert bool(transport._direct_pools) is direct


# What comes back


@pytest.mark.parametrize("early", ["100 Continue", "103 Early Hints"])
async def test_interim_replies_are_skipped(direct: bool, early: str) -> None:
    hint = f"HTTP/1.1 {early}\r\nLink: </a>\r\n\r\n".encode()
    with serving(answering(hint + hint + reply(b"{}"))) as server:
        async with aclosing(AiohttpTransport()) as transport:
            for _ in range(2):
                answer = await transport.send(request(server.url))
                assert (answer.status, answer.body) == (200, b"{}")
    assert server.connections == 1


async def test_an_unrequested_reply_is_not_taken_for_the_next_one() -> None:
    answered, spoken = threading.Event(), threading.Event()  # the server has a loop of its own

    async def talkative(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply(b"asked for"))
        if peer.server.connections == 1:
            while not answered.is_set():
                await anyio.sleep(0.002)
            await peer.say(reply(b"out of turn", "408 Request Timeout"))
            spoken.set()
        await peer.reader.read()

    with serving(talkative) as server:
        async with aclosing(AiohttpTransport()) as transport:
            await transport.send(request(server.url))
            answered.set()
            while not spoken.is_set():
                await anyio.sleep(0.002)
            await anyio.sleep(0.002)  # it lies at the socket, and now it is read
            error = await failure(send_whole, transport, request(server.url))
            assert isinstance(error, NotSentError)
            assert (await transport.send(request(server.url))).body == b"asked for"
    assert len(server.requests) == server.connections == 2


async def test_a_create_is_not_sent_on_a_connection_that_was_just_closed() -> None:
    """The event loop has not looked at the socket since: it would be written to nobody, and be of unknown outcome."""
    answered, gone = threading.Event(), threading.Event()

    async def leaving(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply(b"{}"))
        if peer.server.connections == 1:
            while not answered.is_set():
                await anyio.sleep(0.002)
            peer.writer.transport.abort()
            await anyio.sleep(0)
            await anyio.sleep(0)  # it is closed in the next turn
            gone.set()
        await peer.reader.read()

    with serving(leaving) as server:
        async with aclosing(AiohttpTransport()) as transport:
            create = request(server.url, "POST", body=b"{}")
            await transport.send(create)
            answered.set()
            assert gone.wait(10)  # and so does this event loop
            assert isinstance(await failure(send_whole, transport, create), NotSentError)
            assert (await transport.send(create)).body == b"{}"
    assert len(server.requests) == server.connections == 2


def test_a_transport_without_a_socket_has_nothing_to_read() -> None:
    assert not _aiohttp_direct._can_be_read(None)
    assert not _aiohttp_direct._can_be_read(asyncio.Transport())


async def test_a_connection_with_unsent_bytes_is_not_used_again() -> None:
    async def hasty(peer: Peer) -> None:
        if peer.server.connections == 1:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.say(reply(b"too much", "413 Content Too Large"))
            await anyio.sleep_forever()  # and reads no more
        await answering(reply())(peer)

    with serving(hasty) as server:
        async with aclosing(AiohttpTransport(pool_size=1)) as transport:
            assert (await transport.send(request(server.url, body=BIG))).status == 413
            assert (await transport.send(request(server.url))).status == 200
    assert server.connections == 2


async def test_bytes_unsent_at_the_deadline_are_not_sent_later() -> None:
    came = 0

    async def slow(peer: Peer) -> None:
        nonlocal came
        await anyio.sleep(0.5)
        while data := await peer.reader.read(2**20):
            came += len(data)

    with serving(slow) as server:
        async with aclosing(AiohttpTransport()) as transport:
            with anyio.move_on_after(0.1):
                await transport.send(request(server.url, body=BIG))
            error = await failure(send_whole, transport, request(server.url, body=BIG, timeout=0.1))
            assert isinstance(error, MaybeSentError)
            await server.left(2)
    assert came < len(BIG)


async def test_a_body_that_arrives_with_its_head_is_bounded_too(direct: bool) -> None:
    with serving(answering(reply(b"x" * 1001))) as server:
        async with aclosing(AiohttpTransport(max_body=1000)) as transport:
            error = await failure(send_whole, transport, request(server.url))
            assert "max_body=1000" in str(error)
        async with aclosing(AiohttpTransport(max_body=1001)) as transport:
            assert len((await transport.send(request(server.url))).body) == 1001


async def test_a_head_that_breaks_off_may_have_been_bought() -> None:
    with serving(saying_then_silent(b"HTTP/1.1 200 OK\r\nContent-")) as server:
        async with aclosing(AiohttpTransport()) as transport:
            error = await failure(send_whole, transport, request(server.url, timeout=0.2))
    assert isinstance(error, MaybeSentError)
    assert "timed out" in str(error)
