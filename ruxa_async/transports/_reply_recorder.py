"""A recorder and a lenient parser for replies to creates that aiohttp's parser rejects.

At the first byte that violates HTTP, aiohttp discards the reply and closes the connection. The reply may hold
the id of a paid task. `ReplyRecorder` keeps its bytes, and `read_reply` parses as much of them as possible.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Final, cast

from attrs import frozen

from ._base import Response

__all__ = ("ReceivedReply", "ReplyRecorder", "read_reply", "record")

#: bytes of a reply that are kept; replies have the task id within their first kilobyte
_MOST_KEPT: Final = 2**18

#: A head that aiohttp's parser accepts, unless it has several Content-Length headers.
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
    """The part of a reply that arrived. *whole*: it is complete by its framing, and no byte follows."""

    response: Response
    whole: bool


class ReplyRecorder(asyncio.Protocol):
    """Records the bytes from a connection to aiohttp's *protocol* while a create waits for its reply.

    A reply with a valid head is passed on as it arrives. Others are held back until they are complete,
    because aiohttp would close the connection at the invalid head, before the body arrives.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._kept: bytearray | None = None
        self._held = False
        #: The offset of the final reply's head, after interim replies (1xx).
        self._start = 0
        self._ended = False

    def start(self) -> None:
        """Begin to record."""
        self._kept, self._held, self._start, self._ended = bytearray(), True, 0, False

    def stop(self) -> None:
        """Discard the recorded bytes, and pass on later ones unrecorded."""
        self._kept, self._held = None, False

    def received(self, limit: int) -> ReceivedReply | None:
        """Return the reply since `start`, None without any byte; *limit* bounds its body in bytes."""
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
    """Start to record the bytes from *transport*; a connection keeps its recorder."""
    protocol = cast("asyncio.Protocol", transport.get_protocol())
    if not isinstance(protocol, ReplyRecorder):
        protocol = ReplyRecorder(protocol)
        transport.set_protocol(protocol)
    protocol.start()
    return protocol


def read_reply(raw: bytes, limit: int, *, ended: bool) -> ReceivedReply:
    """Return the reply in *raw*, with its body decompressed up to *limit* bytes.

    *ended* says that the server closed the connection cleanly. Without a head, all of *raw* is the body, and
    the status is 0.
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
    """Return the headers by lower-case names, the first of each name, and all values of Content-Length."""
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
    """Return the body in *data*, and whether it is complete.

    Bytes after the end of the body are included, because a wrong length could cut off the task id.
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
    """Return *body*, decompressed as far as possible, and whether it is complete."""
    encoding = headers.get("content-encoding", "").lower()
    if encoding not in _PACKED:
        return body, encoding in ("", "identity") and len(body) <= limit
    unpacker = zlib.decompressobj(wbits=47)  # accepts gzip and zlib
    pieces: list[bytes] = []
    left = limit
    try:
        # In small pieces, to keep the output before an error.
        for at in range(0, len(body), 64):
            pieces.append(unpacker.decompress(unpacker.unconsumed_tail + body[at : at + 64], left + 1))
            left -= len(pieces[-1])
            if left < 0:
                break
    except zlib.error:
        return b"".join(pieces), False
    return b"".join(pieces), unpacker.eof and left >= 0 and not unpacker.unused_data
