"""What is true of every transport that talks to sockets; subclass `SocketContract` and say how to make one.

Every request carries a key and a signed query, and every error is searched for both.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any

import anyio
import pytest
from transports import servers
from transports.servers import (
    Peer,
    Server,
    answering,
    gzipped,
    reply,
    saying_then_closing,
    saying_then_silent,
    serving,
)
from transports.stepping import ASYNCIO_ONLY, MEANS, Stepped, interrupted, nothing_leaks

from ruxa_async.errors import MaybeSentError, NotSentError, TransportError
from ruxa_async.transports import Request, Response, Transport

KEY = "sk-canary-0123456789"
SIGNATURE = "signature-canary"
BIG = b"x" * (32 * 2**20)  # more than the sockets of both sides buffer

Send = Callable[[Transport, Request], Any]


def request(url: str, method: str = "POST", **changes: Any) -> Request:
    settings: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        "body": b'{"prompt": "a fox"}' if method == "POST" else None,
        "timeout": 20.0,
        "connect_timeout": 10.0,
    }
    path = "" if url.count("/") > 2 else f"/api?sig={SIGNATURE}"
    return Request(method=method, url=url + path, **(settings | changes))


async def stream_whole(transport: Transport, asked: Request) -> Response:
    async with transport.stream(asked) as streamed:
        body = b"".join([chunk async for chunk in streamed.chunks()])
        return Response(streamed.status, streamed.headers, body)


async def send_whole(transport: Transport, asked: Request) -> Response:
    return await transport.send(asked)


def told(error: BaseException) -> Iterator[str]:
    """Give everything that a log or a person may get to see of *error* and what it is chained to."""
    yield "".join(traceback.format_exception(error))
    following: list[BaseException | None] = [error]
    while following:
        current = following.pop()
        if current is not None:
            yield from (str(current), repr(current), repr(current.args), repr(vars(current)))
            following += [current.__cause__, current.__context__]


async def failure(send: Send, transport: Transport, asked: Request) -> TransportError:
    """Return the error with which *asked* ends, after a look at what it gives away."""
    with pytest.raises(TransportError) as caught:
        await send(transport, asked)
    for text in told(caught.value):
        assert KEY not in text
        assert SIGNATURE not in text
    assert asked.method in str(caught.value)
    assert "127.0.0.1" in str(caught.value) or ".invalid" in str(caught.value)
    return caught.value


def is_cancel(error: BaseException) -> bool:
    """Tell whether *error* is a cancel, or, as trio's nurseries have it, a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancel, error.exceptions))
    return isinstance(error, anyio.get_cancelled_exc_class())


@pytest.fixture(params=[send_whole, stream_whole], ids=["send", "stream"])
def send(request: pytest.FixtureRequest) -> Send:
    function: Send = request.param
    return function


@pytest.fixture(params=["POST", "GET"])
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def quiet_about_the_key(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("DEBUG"):
        yield
    assert KEY not in caplog.text
    assert SIGNATURE not in caplog.text


class SocketContract:
    """Cells of sent and not sent, and what else the engine relies on."""

    def make(self, **options: Any) -> AbstractAsyncContextManager[Transport]:
        """Give a transport for the length of a block; *options* are pool_size and max_body."""
        raise AssertionError("a subclass says how")

    # Ordinary exchanges

    async def test_a_request_is_sent_unchanged(self) -> None:
        with serving(answering(reply(b'{"a":1}', "201 Created", "X-Some: Thing\r\n"))) as server:
            async with self.make() as transport:
                answer = await transport.send(request(server.url))
        assert (answer.status, answer.body, answer.headers["x-some"]) == (201, b'{"a":1}', "Thing")
        assert server.bodies == [b'{"prompt": "a fox"}']
        line, *lines = server.requests[0].strip().split("\r\n")
        assert line == f"POST /api?sig={SIGNATURE} HTTP/1.1"
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["content-type"] == "application/json"
        added = headers.keys() - {"authorization", "content-type"}
        assert added <= {"host", "content-length", "accept-encoding", "connection"}

    async def test_no_key_is_added(self, send: Send, method: str) -> None:
        with serving(answering(reply())) as server:
            async with self.make() as transport:
                await send(transport, request(server.url, method, headers={}))
        assert "authorization" not in server.requests[0].lower()

    async def test_an_encoded_url_is_sent_unchanged(self, send: Send) -> None:
        target = "/a%2Fb%20c/%e4%c3%A4/~x;y,z?q=%3D+%20&callback=https%3A%2F%2Fh%2f&&empty="
        with serving(answering(reply())) as server:
            async with self.make() as transport:
                await send(transport, request(server.url + target, "GET"))
        assert server.requests[0].startswith(f"GET {target} HTTP/1.1\r\n")

    async def test_an_empty_body_is_a_body(self) -> None:
        with serving(answering(reply(b""))) as server:
            async with self.make() as transport:
                answer = await transport.send(request(server.url, body=b""))
        assert answer.body == b""
        assert "content-length: 0" in server.requests[0].lower()

    async def test_a_chunked_reply_is_put_together(self, send: Send) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        with serving(answering(chunked)) as server:
            async with self.make() as transport:
                assert (await send(transport, request(server.url, "GET"))).body == b"abcde"

    async def test_a_compressed_reply_is_decoded_for_send(self) -> None:
        with serving(answering(gzipped(b'{"a":1}'))) as server:
            async with self.make() as transport:
                assert (await transport.send(request(server.url))).body == b'{"a":1}'

    async def test_a_stream_requests_no_compression_and_decodes_none(self) -> None:
        with serving(answering(gzipped(b"pixels"))) as server:
            async with self.make() as transport:
                answer = await stream_whole(transport, request(server.url, "GET"))
        assert answer.body[:2] == b"\x1f\x8b"
        assert "accept-encoding: identity" in server.requests[0].lower()

    @pytest.mark.parametrize("status", ["301 Moved", "307 Temporary Redirect", "308 Permanent Redirect"])
    async def test_a_redirect_is_returned_and_not_followed(
        self, send: Send, method: str, status: str
    ) -> None:
        with serving(answering(reply(b"", status, "Location: /elsewhere\r\n"))) as server:
            async with self.make() as transport:
                answer = await send(transport, request(server.url, method))
        assert answer.status == int(status[:3])
        assert answer.headers["location"] == "/elsewhere"
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", ["400 Bad", "401 No", "429 Slow Down", "503 Down"])
    async def test_an_error_status_is_a_reply(self, send: Send, status: str) -> None:
        with serving(answering(reply(b"no", status))) as server:
            async with self.make() as transport:
                answer = await send(transport, request(server.url))
        assert (answer.status, answer.body) == (int(status[:3]), b"no")

    async def test_cookies_are_not_kept(self) -> None:
        with serving(answering(reply(headers="Set-Cookie: a=b\r\n"))) as server:
            url = server.url.replace("127.0.0.1", "localhost")  # cookie jars pass over bare addresses
            async with self.make() as transport:
                for _ in range(2):
                    await transport.send(request(url, "GET"))
        assert "cookie" not in server.requests[1].lower()

    async def test_a_connection_is_used_again(self, method: str) -> None:
        with serving(answering(reply())) as server:
            async with self.make() as transport:
                for _ in range(3):
                    await transport.send(request(server.url, method, fresh=method == "POST"))
        assert server.connections == 1

    # Nothing was sent

    async def test_a_refused_connection_sends_nothing(self, send: Send, method: str) -> None:
        with servers.refusing() as url:
            async with self.make() as transport:
                error = await failure(send, transport, request(url, method))
        assert isinstance(error, NotSentError)
        assert isinstance(error.__cause__, OSError)

    async def test_an_unknown_host_sends_nothing(self, method: str) -> None:
        async with self.make() as transport:
            error = await failure(send_whole, transport, request("http://nothing.invalid", method))
        assert isinstance(error, NotSentError)

    @pytest.mark.parametrize("limits", [{"connect_timeout": 0.1}, {"timeout": 0.1}], ids=["connect", "total"])
    async def test_a_connection_that_takes_too_long_sends_nothing(
        self, send: Send, method: str, limits: dict[str, float]
    ) -> None:
        with servers.never_accepting() as url:
            async with self.make() as transport:
                error = await failure(send, transport, request(url, method, **limits))
        assert isinstance(error, NotSentError)

    @pytest.mark.parametrize("limits", [{"connect_timeout": 0.1}, {"timeout": 0.1}], ids=["connect", "total"])
    async def test_waiting_for_the_pool_sends_nothing(self, method: str, limits: dict[str, float]) -> None:
        with serving(saying_then_silent()) as server:
            async with self.make(pool_size=1) as transport, anyio.create_task_group() as group:
                group.start_soon(transport.send, request(server.url, method))
                await server.seen(1)
                error = await failure(send_whole, transport, request(server.url, method, **limits))
                group.cancel_scope.cancel()
        assert isinstance(error, NotSentError)
        assert len(server.requests) == 1

    async def test_an_untrusted_certificate_sends_nothing(self, send: Send, method: str) -> None:
        with serving(answering(reply()), tls=True) as server:
            async with self.make() as transport:
                error = await failure(send, transport, request(server.url, method))
        assert isinstance(error, NotSentError)
        assert server.requests == []

    @pytest.mark.parametrize("script", [servers.silent_from_the_start, saying_then_closing(reply())])
    async def test_a_failed_handshake_sends_nothing(self, method: str, script: servers.Script) -> None:
        with serving(script) as server:
            async with self.make() as transport:
                url = server.url.replace("http:", "https:")
                error = await failure(send_whole, transport, request(url, method, connect_timeout=0.2))
        assert isinstance(error, NotSentError)

    async def test_an_invalid_url_sends_nothing(self, method: str) -> None:
        async with self.make() as transport:
            for url in ("http://[/", "ftp://127.0.0.1/x", "http:///x", "http://127.0.0.1:9/a\r\nX: y"):
                with pytest.raises(NotSentError):
                    await transport.send(request(url, method))

    # Some of it may have been

    @pytest.mark.parametrize(
        "script",
        [
            servers.resetting_after_request,
            saying_then_closing(),
            saying_then_closing(b"HTTP/1.1 200 OK\r\nContent-Le"),
            saying_then_closing(reply(b"{", length=100)),
            saying_then_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc"),
            saying_then_closing(b"SSH-2.0-OpenSSH_9.2\r\n"),
            saying_then_closing(b"\x00\xff\r\n\r\n"),
            saying_then_closing(reply(b"{", headers="Content-Length: 5\r\n")),
        ],
        ids=[
            "reset",
            "close",
            "close-in-headers",
            "truncated",
            "truncated-chunk",
            "garbage",
            "binary",
            "two-lengths",
        ],
    )
    async def test_a_broken_reply_may_be_sent(self, send: Send, method: str, script: servers.Script) -> None:
        with serving(script) as server:
            async with self.make() as transport:
                error = await failure(send, transport, request(server.url, method))
        assert isinstance(error, MaybeSentError)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "script",
        [
            saying_then_silent(),
            saying_then_silent(b"HTTP/1.1 200 OK\r\n"),
            saying_then_silent(reply(b"{", length=100)),
            servers.dripping_headers,
        ],
        ids=["silence", "half-headers", "half-body", "drip"],
    )
    async def test_a_reply_that_takes_too_long_may_be_sent(
        self, send: Send, method: str, script: servers.Script
    ) -> None:
        with serving(script) as server:
            async with self.make() as transport:
                error = await failure(send, transport, request(server.url, method, timeout=0.4))
        assert isinstance(error, MaybeSentError)
        assert len(server.requests) == 1

    async def test_a_reset_during_the_request_may_be_sent(self) -> None:
        with serving(servers.resetting_during_request) as server:
            async with self.make() as transport:
                error = await failure(send_whole, transport, request(server.url, body=BIG))
        assert isinstance(error, MaybeSentError)

    async def test_a_request_that_is_not_read_in_time_may_be_sent(self) -> None:
        async def deaf(peer: Peer) -> None:
            await peer.reader.readexactly(1000)
            await anyio.sleep(30)

        with serving(deaf) as server:
            async with self.make() as transport:
                error = await failure(send_whole, transport, request(server.url, body=BIG, timeout=0.2))
        assert isinstance(error, MaybeSentError)

    async def test_a_dropped_connection_is_not_retried(self, method: str) -> None:
        async def once(peer: Peer) -> None:
            await peer.request()
            await peer.say(reply())
            await peer.request()

        with serving(once) as server:
            async with self.make() as transport:
                await transport.send(request(server.url, method))
                error = await failure(send_whole, transport, request(server.url, method))
        assert isinstance(error, MaybeSentError)
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        "script",
        [
            saying_then_silent(reply(b"", length=1001)),
            servers.endless_chunks,
            answering(gzipped(b"x" * 10_000_000)),
        ],
        ids=["announced", "endless", "bomb"],
    )
    async def test_a_reply_that_is_too_large_is_not_read(self, script: servers.Script) -> None:
        with serving(script) as server:
            async with self.make(max_body=1000) as transport, servers.nothing_left_open(server):
                error = await failure(send_whole, transport, request(server.url))
        assert isinstance(error, MaybeSentError)
        assert "max_body" in str(error)

    async def test_the_size_of_a_reply_is_that_after_decompression(self) -> None:
        with serving(answering(gzipped(b"x" * 1001))) as server:
            async with self.make(max_body=1000) as transport:
                error = await failure(send_whole, transport, request(server.url))
        assert isinstance(error, MaybeSentError)

    @pytest.mark.parametrize("answer", [reply(b"x" * 1000), gzipped(b"x" * 1000)])
    async def test_the_largest_reply_is_read(self, answer: bytes) -> None:
        with serving(answering(answer)) as server:
            async with self.make(max_body=1000) as transport:
                assert len((await transport.send(request(server.url))).body) == 1000

    # Streams

    async def test_a_stream_gives_what_arrived_before_it_broke(self) -> None:
        with serving(saying_then_silent(reply(b"abc", length=10))) as server:
            asked = request(server.url, "GET", timeout=0.3)
            async with self.make() as transport, transport.stream(asked) as streamed:
                chunks = aiter(streamed.chunks())
                assert await anext(chunks) == b"abc"
                with pytest.raises(MaybeSentError):
                    await anext(chunks)

    async def test_a_stream_may_be_left_early(self) -> None:
        with serving(servers.endless_chunks) as server:
            async with self.make(pool_size=1) as transport, servers.nothing_left_open(server):
                for _ in range(3):
                    async with transport.stream(request(server.url, "GET")) as streamed:
                        assert await anext(aiter(streamed.chunks()))
        assert server.connections == 3

    async def test_an_error_in_the_block_of_a_stream_is_raised(self) -> None:
        with serving(servers.endless_chunks) as server:
            async with self.make() as transport, servers.nothing_left_open(server):
                with pytest.raises(ZeroDivisionError):
                    async with transport.stream(request(server.url, "GET")):
                        raise ZeroDivisionError

    # Cancelling

    @pytest.mark.parametrize("stage", ["connect", "handshake", "pool", "headers", "body", "request"])
    async def test_a_cancel_passes_and_the_pool_stays_whole(self, send: Send, stage: str) -> None:
        scripts = {
            "handshake": servers.silent_from_the_start,
            "headers": saying_then_silent(),
            "pool": saying_then_silent(),
            "body": saying_then_silent(reply(b"{", length=100)),
        }
        body = BIG if stage == "request" else b"{}"
        with (
            servers.never_accepting() as nowhere,
            serving(scripts.get(stage, saying_then_silent())) as silent,
            serving(answering(reply())) as good,
        ):
            async with self.make(pool_size=2) as transport:
                url = nowhere if stage == "connect" else silent.url
                if stage == "handshake":
                    url = url.replace("http:", "https:")
                ended: list[bool] = []

                async def run() -> None:
                    try:
                        await send(transport, request(url, body=body))
                    except BaseException as exc:
                        ended.append(is_cancel(exc))
                        raise

                count = 4 if stage == "pool" else 2
                async with anyio.create_task_group() as group:
                    for _ in range(count):
                        group.start_soon(run)
                    if stage in {"headers", "body", "pool"}:
                        await silent.seen(2)
                    await anyio.sleep(0.05)
                    group.cancel_scope.cancel()
                assert ended == [True] * count
                await silent.left(silent.connections)
                await self.fills_its_pool(transport, good)

    async def fills_its_pool(self, transport: Transport, good: Server) -> None:
        """Check that two requests at once, all that the pool has, still get through."""
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(transport.send, request(good.url))
        assert len(good.requests) == 2

    @pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
    @pytest.mark.parametrize("asleep", [True, False], ids=["asleep", "waking"])
    @pytest.mark.parametrize("means", MEANS)
    async def test_a_cancel_at_any_step_by_any_means_leaves_nothing_behind(
        self, send: Send, means: str, asleep: bool, warm: bool, anyio_backend_name: str
    ) -> None:
        if means in ASYNCIO_ONLY and anyio_backend_name != "asyncio":
            pytest.skip("there is no such thing on trio")
        with serving(answering(reply(b"x" * 70_000))) as server:
            for turn in itertools.count():
                async with nothing_leaks(server), self.make(pool_size=1) as transport:
                    if warm:
                        await transport.send(request(server.url))
                    stepped = Stepped(send(transport, request(server.url)), turn, asleep=asleep)
                    answer = await interrupted(means, stepped)
                    assert answer is None or len(answer.body) == 70_000
                    with anyio.fail_after(10):
                        assert len((await transport.send(request(server.url))).body) == 70_000
                if not stepped.acted:
                    break
        assert turn > 0

    async def test_its_own_deadline_at_any_moment_leaves_nothing_behind(self, send: Send) -> None:
        with serving(answering(reply(b"x" * 70_000))) as server:
            async with nothing_leaks(server), self.make(pool_size=1) as transport:
                for step in range(60):
                    with suppress(TransportError):
                        await send(transport, request(server.url, timeout=step * 0.0001))
                    assert (await transport.send(request(server.url))).status == 200

    async def test_a_timeout_of_the_caller_stays_its_own(self, send: Send) -> None:
        with serving(saying_then_silent()) as server:
            async with self.make() as transport:
                with anyio.move_on_after(0.1) as scope:
                    await send(transport, request(server.url))
                assert scope.cancelled_caught

    # The end

    async def test_closing_closes_every_connection(self) -> None:
        with serving(answering(reply())) as server:
            async with self.make() as transport, aclosing(transport):
                await transport.send(request(server.url, fresh=True))
                await transport.send(request(server.url, "GET"))
            await server.left(server.connections)

    async def test_closing_twice_does_nothing(self) -> None:
        async with self.make() as transport:
            await transport.aclose()
            await transport.aclose()

    async def test_a_closed_transport_raises(self, send: Send) -> None:
        async with self.make() as transport:
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                await send(transport, request("http://127.0.0.1:9"))

    async def test_it_is_a_transport(self) -> None:
        async with self.make() as transport:
            assert isinstance(transport, Transport)
