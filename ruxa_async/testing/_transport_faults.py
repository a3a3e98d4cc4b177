"""The part of the transport contract on failures: whether a byte of the request was sent."""

from __future__ import annotations

import anyio
import pytest

from ruxa_async.errors import MaybeSentError, NotSentError

from . import _servers as servers
from ._asking import BIG, ContractBase, Send, failure, request, send_whole
from ._servers import Peer, answering, gzipped, reply, saying_then_closing, saying_then_silent, serving

__all__ = ("MaybeSentContract", "NotSentContract")


class NotSentContract(ContractBase):
    """Failures before the first byte of the request left."""

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
            async with self.make(pool_size=1) as transport, anyio.create_task_group() as tg:
                tg.start_soon(transport.send, request(server.url, method))
                await server.seen(1)
                error = await failure(send_whole, transport, request(server.url, method, **limits))
                tg.cancel_scope.cancel()
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

    async def test_a_request_for_another_machine_is_not_sent_where_none_is_allowed(
        self, send: Send, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUXA_ALLOW_REQUESTS", "0")
        async with self.make() as transport:
            error = await failure(send, transport, request("http://api.invalid", method))
            assert isinstance(error, NotSentError)
            assert "RUXA_ALLOW_REQUESTS" in str(error)
            with serving(answering(reply())) as server:
                await send(transport, request(server.url, method))


class MaybeSentContract(ContractBase):
    """Failures after a byte of the request may have left."""

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
