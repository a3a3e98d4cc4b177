"""What is true of every transport that uses sockets, as tests for your own transport.

A transport that passes them can carry creates: the client sends a create again after `NotSentError`, so a
wrong one buys twice.
"""

from __future__ import annotations

from contextlib import aclosing

import pytest

from ruxa_async.errors import MaybeSentError
from ruxa_async.transports import Transport

from . import _servers as servers
from ._asking import KEY, SIGNATURE, Send, request, stream_whole
from ._servers import answering, gzipped, reply, saying_then_silent, serving
from ._transport_cancels import CancelContract
from ._transport_faults import MaybeSentContract, NotSentContract

__all__ = ("TransportContract",)


class TransportContract(NotSentContract, MaybeSentContract, CancelContract):
    """Tests of a transport over real sockets; subclass it and define ``make``.

    ::

        @pytest.mark.anyio
        class TestMyTransport(TransportContract):
            @asynccontextmanager
            async def make(self, **options):
                async with aclosing(MyTransport(**options)) as transport:
                    yield transport

    *options* are *pool_size*, the most connections at once, and *max_body*, the most bytes of a reply that
    ``send`` accepts. The tests need pytest and anyio's plugin, and run on each backend of the fixture
    ``anyio_backend``. Their servers listen on 127.0.0.1 and misbehave on purpose.
    """

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
