"""The requests of the transport contract, and the search of errors for secrets.

Every request carries a key and a signed query, and every error and log line is searched for both.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from ruxa_async.errors import TransportError
from ruxa_async.transports import Request, Response, Transport

__all__ = (
    "BIG",
    "KEY",
    "METHODS",
    "SENDS",
    "SIGNATURE",
    "ContractBase",
    "Send",
    "failure",
    "is_cancel",
    "request",
    "send_whole",
    "stream_whole",
    "texts_of",
)

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


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield every text that shows *error* or an error in its chain."""
    yield "".join(traceback.format_exception(error))
    following: list[BaseException | None] = [error]
    while following:
        current = following.pop()
        if current is not None:
            yield from (str(current), repr(current), repr(current.args), repr(vars(current)))
            following += [current.__cause__, current.__context__]


async def failure(send: Send, transport: Transport, asked: Request) -> TransportError:
    """Return the error with which *asked* ends; check that it shows no secret."""
    with pytest.raises(TransportError) as caught:
        await send(transport, asked)
    for text in texts_of(caught.value):
        assert KEY not in text
        assert SIGNATURE not in text
    assert asked.method in str(caught.value)
    assert "127.0.0.1" in str(caught.value) or ".invalid" in str(caught.value)
    return caught.value


def is_cancel(error: BaseException) -> bool:
    """Return whether *error* is a cancellation, or a group of nothing else (trio)."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_cancel, error.exceptions))
    return isinstance(error, anyio.get_cancelled_exc_class())


SENDS: tuple[Send, ...] = (send_whole, stream_whole)
METHODS = ("POST", "GET")


class ContractBase:
    """What all parts of the contract share: how to make a transport, and the parameters of the tests."""

    def make(self, **options: Any) -> AbstractAsyncContextManager[Transport]:
        """Return a context manager that gives a transport; *options* are *pool_size* and *max_body*."""
        raise NotImplementedError("define make() in your subclass of TransportContract")

    @pytest.fixture(params=SENDS, ids=["send", "stream"])
    def send(self, request: pytest.FixtureRequest) -> Send:
        """Give the two ways to send a request and to read its reply."""
        function: Send = request.param
        return function

    @pytest.fixture(params=METHODS)
    def method(self, request: pytest.FixtureRequest) -> str:
        """Give the two methods that the client uses."""
        name: str = request.param
        return name

    @pytest.fixture(autouse=True)
    def quiet_about_the_key(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """Check that no log line shows the key or the signature."""
        with caplog.at_level("DEBUG"):
            yield
        assert KEY not in caplog.text
        assert SIGNATURE not in caplog.text
