"""A callback receiver as an aiohttp.web application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from ._messages import SHOWN_PATH, TOO_LARGE, Answer, collect

if TYPE_CHECKING:
    from ._receiver import CallbackReceiver

__all__ = ("make_app", "serve")

#: seconds to keep reading a body after an early response, so that the sender can read the response
_LINGER = 1.0


def make_app(receiver: CallbackReceiver) -> web.Application:
    """Return an application that passes every request to *receiver*."""

    async def answer(request: web.Request) -> web.Response:
        token = receiver.admit(request.method, request.path)
        # An outer application would write the path, which holds the token, into its access log.
        request._cache["path_qs"] = SHOWN_PATH  # noqa: SLF001 - the only way; tested
        if isinstance(token, Answer):
            return _response(token, read=not request.can_read_body)
        body = await _read(request, receiver)
        if isinstance(body, Answer):
            return _response(body, read=False)
        return _response(await receiver.take(token, request.headers, body))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def _read(request: web.Request, receiver: CallbackReceiver) -> bytes | Answer:
    """Return the body, or the response to one that is too large or too slow."""
    if (request.content_length or 0) > receiver.max_body:
        return TOO_LARGE
    pieces = request.content.iter_any()
    return await collect(pieces, limit=receiver.max_body, timeout=receiver.body_timeout)


def _response(answer: Answer, *, read: bool = True) -> web.Response:
    response = web.Response(
        status=answer.status, body=answer.body, headers=answer.headers, content_type="application/json"
    )
    if not read:
        response.force_close()
    return response


@asynccontextmanager
async def serve(
    receiver: CallbackReceiver, host: str, port: int, *, header_timeout: float
) -> AsyncIterator[tuple[str, int]]:
    """Serve *receiver* on a socket of its own; see `CallbackReceiver.serve`."""
    runner = web.AppRunner(
        make_app(receiver),
        access_log=None,  # a path holds a token
        keepalive_timeout=header_timeout,
        lingering_time=_LINGER,
        shutdown_timeout=_LINGER,
        handle_signals=False,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        yield str(address[0]), int(address[1])
    finally:
        await runner.cleanup()
