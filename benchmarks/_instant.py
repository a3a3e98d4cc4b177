"""A server that costs next to nothing, to measure a client that sends as fast as it can.

Every create is accepted, and every task is done at its first query. The server parses only the HTTP that
these clients send, and its replies are as long as the emulator's.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

__all__ = ("Instant",)

_CREATED = b'{"code":200,"message":"success","data":{"taskId":"%b"}}'
_DONE = (
    b'{"code":200,"message":"success","data":{"taskId":"%b","model":"google/nano-banana","state":"success",'
    b'"param":"{}","resultJson":"{\\"resultUrls\\":[\\"https://files.test/media/%b/0.png\\"]}",'
    b'"failCode":"","failMsg":"","createTime":1764000000000,"completeTime":1764000000001}}'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%b"
_LENGTH = b"content-length:"


class Instant:
    """The log of requests that all connections share, as in `LoggedService`."""

    def __init__(self) -> None:
        self.log: list[tuple[float, int]] = []
        self._made = 0

    def connection(self) -> asyncio.Protocol:
        """Return the protocol of one connection."""
        return _Connection(self)

    def answer(self, head: bytes) -> bytes:
        """Return the reply to the request that begins with *head*."""
        if head.startswith(b"POST"):
            self._note(-1)
            body = _CREATED % (b"task_nano-banana_%012d" % self._made)
            self._made += 1
        else:
            name = head.split(b" ", 2)[1].rpartition(b"/")[2]
            self._note(int(name[-12:]))
            body = _DONE % (name, name)
        return _HEAD % (len(body), body)

    def _note(self, place: int) -> None:
        self.log.append((time.monotonic(), place))

    def report(self) -> dict[str, Any]:
        """Return the part of the report of `LoggedService` that exists here."""
        return {
            "creates": self._made,
            "queries": len(self.log) - self._made,
            "throttled": 0,
            "charged": self._made,
            "bought_twice": 0,
            "cpu": time.process_time(),
            "ends": {},
            "log": self.log,
        }


class _Connection(asyncio.Protocol):
    def __init__(self, service: Instant) -> None:
        self._service = service
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, body = self._came.partition(b"\r\n\r\n")
        length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0] if found else b""
        if found and len(body) >= int(length or 0):
            self._came = b""  # these clients send no request before the last reply
            self._transport.write(self._service.answer(head))
