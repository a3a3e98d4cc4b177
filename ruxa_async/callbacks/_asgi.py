"""A callback receiver as an ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruxa_async.errors import MissingExtraError

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as exc:
    raise MissingExtraError("callbacks in an ASGI application", "asgi") from exc

from ._messages import SHOWN_PATH, TOO_LATE, Answer, collect

if TYPE_CHECKING:
    from ._receiver import CallbackReceiver

__all__ = ("make_app",)

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def make_app(receiver: CallbackReceiver) -> Starlette:
    """Return an application that passes every request to *receiver*."""

    async def answer(request: Request) -> Response:
        token = receiver.admit(request.method, request.scope["path"])
        # Servers write their access logs from the scope.
        request.scope.update(path=SHOWN_PATH, raw_path=SHOWN_PATH.encode(), query_string=b"")
        if isinstance(token, Answer):
            return _response(token, closing=True)
        body = await _read(request, receiver)
        if isinstance(body, Answer):
            return _response(body, closing=True)
        return _response(await receiver.take(token, request.headers, body))

    return Starlette(routes=[Route("/{path:path}", answer, methods=_METHODS)])


async def _read(request: Request, receiver: CallbackReceiver) -> bytes | Answer:
    """Return the body, or the response to one that is too large, too slow, or broke off."""
    try:
        return await collect(request.stream(), limit=receiver.max_body, timeout=receiver.body_timeout)
    except ClientDisconnect:
        return TOO_LATE  # the sender is gone and does not read it


def _response(answer: Answer, *, closing: bool = False) -> Response:
    # Without Connection: close, the server would wait for the rest of the body.
    headers = {**answer.headers, "Connection": "close"} if closing else answer.headers
    return Response(answer.body, answer.status, headers, "application/json")
