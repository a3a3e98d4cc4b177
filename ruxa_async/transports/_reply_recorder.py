"""The bytes of the reply to a create as they arrive, and what can be read of them when aiohttp's parser gives up.

aiohttp discards a reply at the first byte that breaks a rule of HTTP, and closes the connection. The task id in that
reply is paid for. `ReplyRecorder` keeps the bytes, and `read_reply` reads them as far as they can be read.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Final, cast

from attrs import frozen

from ._base import Response

__all__ = ("ReceivedReply", "ReplyRecorder", "read_reply", "record")

#: bytes; a task id is within the first kilobyte of every reply that was ever seen
_MOST_KEPT: Final = 2**18

#: A head that aiohttp's parser accepts, if it names one length at most.
_CLEAN_HEAD: Final = re.compile(
    rb"HTTP/1\.[01] (?P<class>[1-9])[0-9]{2}(?: [^\r\n\0]*+)?\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n\0]*+\r\n)*+\r\n"
)
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"\s*HTTP/[0-9.]+[ \t]+([0-9]{3})(?![0-9])")
_CHUNK: Final = re.compile(rb"[\r\n]*([0-9A-Fa-f]{1,8})[^\r\n]*\r?\n")
_NO_BODY: Final = frozenset({204, 304})
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})


@frozen
class ReceivedReply:
    """What arrived of a reply. *whole* means that its own framing says so, and that nothing follows it."""

    response: Response
    whole: bool


class ReplyRecorder(asyncio.Protocol):
    """Stand between a connection and aiohttp's *protocol*, and keep what arrives while a create waits for its reply.

    A reply with a clean head is passed on as it arrives. Any other is held back until it is whole, because aiohttp
    would close the connection at its head, before the body arrives.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._kept: bytearray | None = None
        self._held = False
        #: Where the head of the reply begins; interim replies (1xx) are before it.
        self._start = 0
        self._ended = False

    def start(self) -> None:
        """Begin to keep what arrives."""
        self._kept, self._held, self._start, self._ended = bytearray(), True, 0, False

    def stop(self) -> None:
        """Forget what was kept, and pass on what arrives from now on."""
        self._kept, self._held = None, False

    def received(self, limit: int) -> ReceivedReply | None:
        """Return what arrived since `start`, None if nothing did; *limit* bounds the body in bytes."""
        return read_reply(bytes(self._kept), limit, ended=self._ended) if self._kept else None

    def data_received(self, data: bytes) -> None:
        if self._kept is None:
            self._protocol.data_received(data)
            return
        room = _MOST_KEPT - len(self._kept)
        self._kept += data[:room]
        if not self._held:
            self._protocol.data_received(data)
        elif len(data) >= room or self._is_clean() or self._is_whole():
            self._release()
            if rest := data[room:]:
                self._protocol.data_received(rest)

    def eof_received(self) -> bool | None:
        self._ended = True
        self._release()
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._ended or exc is None
        self._release()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _release(self) -> None:
        if self._held:
            self._held = False
            if self._kept:
                self._protocol.data_received(bytes(self._kept))

    def _is_clean(self) -> bool:
        assert self._kept is not None
        while (head := _CLEAN_HEAD.match(self._kept, self._start)) is not None:
            if head["class"] != b"1":
                return head[0].lower().count(b"\ncontent-length:") <= 1
            self._start = head.end()
        return False

    def _is_whole(self) -> bool:
        received = self.received(_MOST_KEPT)
        return received is not None and received.whole


def record(transport: asyncio.BaseTransport) -> ReplyRecorder:
    """Record what arrives at *transport* from now on; a connection keeps its recorder."""
    protocol = cast("asyncio.Protocol", transport.get_protocol())
    if not isinstance(protocol, ReplyRecorder):
        protocol = ReplyRecorder(protocol)
        transport.set_protocol(protocol)
    protocol.start()
    return protocol


def read_reply(raw: bytes, limit: int, *, ended: bool) -> ReceivedReply:
    """Return the reply in *raw*, its body decompressed up to *limit* bytes.

    *ended* says that the server closed the connection in order. Where no head can be found, all of *raw* is the body
    and the status is 0.
    """
    start = 0
    while (blank := _BLANK_LINE.search(raw, start)) is not None:
        status_line, *lines = raw[start : blank.start()].splitlines() or [b""]
        status = 0 if (match := _STATUS.match(status_line)) is None else int(match[1])
        if not 100 <= status < 200:
            headers, lengths = _headers(lines)
            body, whole = _body(raw[blank.end() :], status, headers, lengths, ended=ended)
            body, unpacked = _unpacked(body, headers, limit)
            return ReceivedReply(Response(status, headers, body), whole and unpacked and status > 0)
        start = blank.end()
    return ReceivedReply(Response(0, {}, raw[start:]), whole=False)


def _headers(lines: list[bytes]) -> tuple[dict[str, str], set[str]]:
    """Return the headers by lower-case names, the first of each name, and all lengths that are named."""
    headers: dict[str, str] = {}
    lengths: set[str] = set()
    for line in lines:
        name, _, value = (part.strip() for part in line.decode("latin-1").partition(":"))
        if (name := name.lower()) == "content-length":
            lengths.add(value)
        headers.setdefault(name, value)
    return headers, lengths


def _body(
    data: bytes, status: int, headers: dict[str, str], lengths: set[str], *, ended: bool
) -> tuple[bytes, bool]:
    """Return the body in *data*, and whether it is whole.

    What follows a body is part of what is returned: a length that is too short cuts a task id off.
    """
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _unchunked(data)
    if status in _NO_BODY:
        return data, not data
    if not lengths:
        return data, ended
    length = lengths.pop() if len(lengths) == 1 else ""
    return data, length.isdecimal() and len(data) == int(length[:18])


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    at = 0
    while (line := _CHUNK.match(data, at)) is not None:
        size, at = int(line[1], 16), line.end()
        if size == 0:
            return b"".join(pieces), not data[at:].strip(b"\r\n")
        pieces.append(data[at : at + size])
        at += size
    return b"".join(pieces), False


def _unpacked(body: bytes, headers: dict[str, str], limit: int) -> tuple[bytes, bool]:
    """Return *body* decompressed as far as it goes, and whether it is all of it."""
    encoding = headers.get("content-encoding", "").lower()
    if encoding not in _PACKED:
        return body, encoding in ("", "identity") and len(body) <= limit
    unpacker = zlib.decompressobj(wbits=47)  # finds out whether it is gzip or zlib
    pieces: list[bytes] = []
    left = limit
    try:
        # In small pieces: what was decompressed before an error counts.
        for at in range(0, len(body), 64):
            pieces.append(unpacker.decompress(unpacker.unconsumed_tail + body[at : at + 64], left + 1))
            left -= len(pieces[-1])
            if left < 0:
                break
    except zlib.error:
        return b"".join(pieces), False
    return b"".join(pieces), unpacker.eof and left >= 0 and not unpacker.unused_data
