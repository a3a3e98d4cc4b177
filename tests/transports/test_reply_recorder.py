"""Replies to creates that violate HTTP are read as far as possible."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from ruxa_async import NanoBanana, RuxaClient, SubmissionUnknownError, Timeouts
from ruxa_async.errors import MaybeSentError
from ruxa_async.testing._asking import request
from ruxa_async.testing._servers import (
    Peer,
    Script,
    answering,
    reply,
    saying_then_closing,
    saying_then_silent,
    serving,
)
from ruxa_async.transports import AiohttpTransport, Httpx2Transport, Response, Transport
from ruxa_async.transports import _aiohttp as aiohttp_transport
from ruxa_async.transports._reply_recorder import ReplyRecorder, read_reply

BOUGHT = b'{"code":200,"message":"success","data":{"taskId":"task_1","model":"google/nano-banana"}}'
COOKIES = "".join(f"Set-Cookie: c{number}={'x' * 60}; Path=/\r\n" for number in range(150))
SAME_LENGTH = f"Content-Length: {len(BOUGHT)}\r\n"

#: aiohttp's limits and its parser reject all of these; the bytes of the reply are there.
WHOLE = {
    "long-field": reply(BOUGHT, headers=f"X-Trace: {'x' * 60_000}\r\n"),
    "long-reason": reply(BOUGHT, f"200 {'O' * 20_000}"),
    "150-cookies": reply(BOUGHT, headers=COOKIES),
    "same-length-twice": reply(BOUGHT, headers=SAME_LENGTH),
    "same-length-thrice": reply(BOUGHT, headers=SAME_LENGTH * 2),
    "space-in-a-name": reply(BOUGHT, headers="X Trace: 1\r\n"),
    "line-without-colon": reply(BOUGHT, headers="nothing\r\n"),
    "nul-in-a-value": reply(BOUGHT, headers="X-Trace: a\0b\r\n"),
    "same-length-gzip": reply(
        gzip.compress(BOUGHT, mtime=0),
        headers=f"Content-Length: {len(gzip.compress(BOUGHT, mtime=0))}\r\nContent-Encoding: gzip\r\n",
    ),
    "chunked-behind-a-broken-field": (
        b"HTTP/1.1 200 OK\r\nX Y: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\n" + BOUGHT[:5] + b"\r\n" + b"%x;why\r\n" % len(BOUGHT[5:]) + BOUGHT[5:] + b"\r\n0\r\n\r\n"
    ),
    "behind-an-interim-reply": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    + reply(BOUGHT, headers=SAME_LENGTH),
}
#: Of these the id can be read, and no more is certain.
PARTIAL = {
    "bytes-behind": reply(BOUGHT) + b"garbage",
    "another-length-behind": reply(BOUGHT, headers="Content-Length: 5\r\n"),
    "length-too-short": reply(BOUGHT, length=len(BOUGHT) - 10),
    "bytes-behind-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\ngarbage" % (len(BOUGHT), BOUGHT),
    "no-http": BOUGHT,
    "no-status": b"HTTP/1.1 OK\r\n\r\n" + BOUGHT,
    "cut-behind-the-id": reply(BOUGHT[:60], length=len(BOUGHT)),
    "cut-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BOUGHT) + BOUGHT[:60],
}


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "asyncio":
        return "asyncio"
    pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=["direct", "session", "supplied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(aiohttp_transport, "TESTED", request.param == "direct")
    return str(request.param)


@asynccontextmanager
async def transport_of(way: str) -> AsyncIterator[Transport]:
    if way != "supplied":
        async with aclosing(AiohttpTransport()) as transport:
            yield transport
        return
    async with aiohttp.ClientSession() as session, aclosing(AiohttpTransport(session)) as transport:
        yield transport


def in_two_parts(answer: bytes) -> Script:
    """Answer with the head first, and with the body when the head was read."""

    async def script(peer: Peer) -> None:
        await peer.request()
        head, blank, body = answer.rpartition(b"\r\n\r\n") if BOUGHT in answer else (answer, b"", b"")
        await peer.say(head + blank)
        await asyncio.sleep(0.02)
        await peer.say(body)
        await peer.reader.read()

    return script


@pytest.mark.parametrize("name", WHOLE)
async def test_a_complete_reply_that_violates_http_is_read(way: str, name: str) -> None:
    with serving(answering(WHOLE[name])) as server:
        async with transport_of(way) as transport:
            for _ in range(3):
                answer = await transport.send(request(server.url, fresh=True))
                assert (answer.status, answer.body) == (200, BOUGHT)


@pytest.mark.parametrize("name", ["same-length-twice", "space-in-a-name", "behind-an-interim-reply"])
async def test_a_body_after_an_invalid_head_is_awaited(way: str, name: str) -> None:
    with serving(in_two_parts(WHOLE[name])) as server:
        async with transport_of(way) as transport:
            answer = await transport.send(request(server.url))
    assert answer.body == BOUGHT


@pytest.mark.parametrize("name", PARTIAL)
async def test_the_error_of_a_broken_reply_holds_the_part_that_arrived(way: str, name: str) -> None:
    with serving(saying_then_closing(PARTIAL[name])) as server:
        async with transport_of(way) as transport:
            with pytest.raises(MaybeSentError) as caught:
                await transport.send(request(server.url))
    partial = caught.value.partial
    assert isinstance(partial, Response)
    assert b'"taskId":"task_1"' in partial.body


async def test_a_reply_without_a_length_behind_a_broken_head_is_whole_when_the_connection_ends(
    way: str,
) -> None:
    with serving(saying_then_closing(b"HTTP/1.1 201 Made\r\nX Y: 1\r\n\r\n" + BOUGHT)) as server:
        async with transport_of(way) as transport:
            answer = await transport.send(request(server.url))
    assert (answer.status, answer.body) == (201, BOUGHT)


async def test_the_error_of_a_query_or_of_an_empty_reply_holds_no_part(way: str) -> None:
    with serving(saying_then_closing(reply(BOUGHT[:60], length=len(BOUGHT)))) as server:
        async with transport_of(way) as transport:
            with pytest.raises(MaybeSentError) as caught:
                await transport.send(request(server.url, "GET"))
            assert caught.value.partial is None
    with serving(saying_then_closing()) as server:
        async with transport_of(way) as transport:
            with pytest.raises(MaybeSentError) as caught:
                await transport.send(request(server.url))
            assert caught.value.partial is None


# What a client makes of it


def transports(way: str) -> Transport:
    return Httpx2Transport() if way == "httpx2" else AiohttpTransport()


def client(url: str, transport: Transport) -> RuxaClient:
    timeouts = Timeouts(create=1.0)
    return RuxaClient(api_key="sk-canary", base_url=url, transport=transport, timeouts=timeouts)


@pytest.mark.parametrize("name", [*WHOLE, *PARTIAL])
async def test_a_create_whose_reply_names_a_task_is_accepted(name: str) -> None:
    with serving(saying_then_closing({**WHOLE, **PARTIAL}[name])) as server:
        async with client(server.url, AiohttpTransport()) as ruxa:
            task = await ruxa.submit(NanoBanana(prompt="a fox"))
            assert task.task_id == "task_1"
            assert ruxa.stats().accepted == 1


@pytest.mark.parametrize("library", ["aiohttp", "httpx2"])
@pytest.mark.parametrize(
    "script",
    [saying_then_closing(PARTIAL["cut-behind-the-id"]), saying_then_silent(PARTIAL["cut-behind-the-id"])],
    ids=["closed", "silent"],
)
async def test_a_create_whose_reply_breaks_off_after_the_id_is_accepted(library: str, script: Script) -> None:
    with serving(script) as server:
        async with client(server.url, transports(library)) as ruxa:
            assert (await ruxa.submit(NanoBanana(prompt="a fox"))).task_id == "task_1"


@pytest.mark.parametrize("library", ["aiohttp", "httpx2"])
async def test_a_create_whose_reply_breaks_off_inside_the_id_is_unknown(library: str) -> None:
    inside = BOUGHT.index(b"sk_1")
    with serving(saying_then_closing(reply(BOUGHT[:inside], length=len(BOUGHT)))) as server:
        async with client(server.url, transports(library)) as ruxa:
            with pytest.raises(SubmissionUnknownError) as caught:
                await ruxa.submit(NanoBanana(prompt="a fox"))
    cause = caught.value.__cause__
    assert isinstance(cause, MaybeSentError)
    assert cause.partial is None  # it may repeat the key


@pytest.mark.parametrize("answer", ["429 Too Many Requests", "422 Unprocessable", "401 Unauthorized"])
async def test_a_refusal_followed_by_bytes_leaves_the_create_unknown(answer: str) -> None:
    # A relay that tried twice may have been refused once.
    with serving(saying_then_closing(reply(b'{"code":429}', answer) + b"more")) as server:
        async with client(server.url, AiohttpTransport()) as ruxa:
            with pytest.raises(SubmissionUnknownError):
                await ruxa.submit(NanoBanana(prompt="a fox"))


# The reader


def read(raw: bytes, limit: int = 1000, *, ended: bool = False) -> tuple[int, bytes, bool]:
    received = read_reply(raw, limit, ended=ended)
    return received.response.status, received.response.body, received.whole


PACKED = gzip.compress(b"abc" * 200, mtime=0)


@pytest.mark.parametrize(
    ("raw", "read_as"),
    [
        (reply(b"abc"), (200, b"abc", True)),
        (reply(b"abc", length=4), (200, b"abc", False)),
        (reply(b"abc", length=2), (200, b"abc", False)),
        (reply(b"abc", headers="Content-Length: 4\r\n"), (200, b"abc", False)),
        (reply(b"abc", headers="Content-Length: x\r\n"), (200, b"abc", False)),
        (reply(b"abc").replace(b"\r\n", b"\n"), (200, b"abc", True)),
        (b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", (200, b"abc", True)),
        (b"HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc", (0, b"abc", False)),
        (b"HTTP/1.1 204 None\r\n\r\n", (204, b"", True)),
        (b"HTTP/1.1 204 None\r\n\r\nabc", (204, b"abc", False)),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", (200, b"abc", False)),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"abc"), (200, b"abc", True)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", (0, b"HTTP/1.1 200", False)),
        (b"HTTP/1.1 200 OK\r\nCont", (0, b"HTTP/1.1 200 OK\r\nCont", False)),
        (b"\r\n\r\nabc", (0, b"abc", False)),
        (b"", (0, b"", False)),
        (reply(PACKED, headers="Content-Encoding: gzip\r\n"), (200, b"abc" * 200, True)),
        (reply(zlib.compress(b"abc"), headers="Content-Encoding: deflate\r\n"), (200, b"abc", True)),
        (reply(b"abc", headers="Content-Encoding: br\r\n"), (200, b"abc", False)),
        (reply(b"abc", headers="Content-Encoding: gzip\r\n"), (200, b"", False)),
        (reply(b"x" * 1001), (200, b"x" * 1001, False)),
    ],
)
def test_a_broken_reply_is_read_as_far_as_possible(raw: bytes, read_as: tuple[int, bytes, bool]) -> None:
    assert read(raw) == read_as


def test_a_reply_that_unpacks_to_more_than_the_limit_is_not_whole() -> None:
    packed = reply(gzip.compress(b"x" * 100_000, mtime=0), headers="Content-Encoding: gzip\r\n")
    status, body, whole = read(packed)
    assert (status, body[:1000], whole) == (200, b"x" * 1000, False)
    assert len(body) <= 1001


def test_a_compressed_body_that_breaks_off_gives_what_came_before() -> None:
    text = json.dumps({"taskId": "task_1", "more": [str(number) for number in range(2000)]}).encode()
    packed = gzip.compress(text, mtime=0)
    _, body, whole = read(reply(packed[: len(packed) // 2], headers="Content-Encoding: gzip\r\n"), 10**6)
    assert body
    assert text.startswith(body)
    assert not whole


# The recorder


class Parser(asyncio.Protocol):
    """What a recorder passes on, in the order in which it does."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def data_received(self, data: bytes) -> None:
        self.calls.append(bytes(data))

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(exc)

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


def recording(*parts: bytes) -> tuple[ReplyRecorder, Parser]:
    parser = Parser()
    recorder = ReplyRecorder(parser)
    recorder.start()
    for part in parts:
        recorder.data_received(part)
    return recorder, parser


def test_a_clean_reply_is_passed_on_as_it_arrives() -> None:
    _, parser = recording(b"HTTP/1.1 200 OK\r\n", b"Content-Length: 6\r\n\r\nabc", b"def")
    assert parser.calls == [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", b"def"]


@pytest.mark.parametrize("ending", ["eof", "lost"])
def test_held_bytes_are_passed_on_before_the_end(ending: str) -> None:
    recorder, parser = recording(b"HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\nabc")
    assert parser.calls == []
    if ending == "eof":
        recorder.eof_received()
    recorder.connection_lost(None)
    assert parser.calls == [b"HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\nabc", *(["eof"] * (ending == "eof")), None]
    received = recorder.received(1000)
    assert received is not None
    assert received.whole


def test_a_reply_that_ends_with_a_reset_is_not_whole() -> None:
    recorder, parser = recording(b"HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\nabc")
    reset = ConnectionResetError()
    recorder.connection_lost(reset)
    assert parser.calls[-1] is reset
    received = recorder.received(1000)
    assert received is not None
    assert not received.whole


def test_at_most_256_kib_are_kept() -> None:
    data = b"x" * 100_000
    recorder, parser = recording(*[data] * 5)
    assert b"".join(parser.calls) == data * 5
    received = recorder.received(10**9)
    assert received is not None
    assert len(received.response.body) == 2**18


def test_bytes_between_two_exchanges_are_passed_on_unrecorded() -> None:
    recorder, parser = recording()
    recorder.stop()
    recorder.data_received(b"abc")
    recorder.pause_writing()
    recorder.resume_writing()
    assert parser.calls == [b"abc", "pause", "resume"]
    assert recorder.received(1000) is None
