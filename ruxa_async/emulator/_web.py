"""The service on a socket: aiohttp.web carries the bytes and enacts the faults for real.

A reset closes the connection with a RST, a cut reply stops in the middle of its body, a stalled one lasts
until the client goes away. One fault is only near the real one: ``refused`` resets the connection once the
request has been read, before the service acts on it, since which operation a connection will carry is not
known when it is accepted. A client over a socket cannot tell that nothing was done; the memory face says so
exactly.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from http import HTTPStatus

import anyio
from aiohttp import ClientError, ClientSession, ClientTimeout, web

from ._callback_sender import post_callbacks
from ._callbacks import CallbackPost
from ._media import draw
from ._messages import ServiceReply, ServiceRequest
from ._service import Service

__all__ = ("serve",)

#: How long the answer to a callback may take, in seconds, as the sibling of the service has it.
_SENDER_PATIENCE = 15.0
#: With this a close sends RST and forgets what was not sent yet.
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


async def serve(
    service: Service, listener: socket.socket, stop: asyncio.Event, started: Callable[[], object]
) -> None:
    """Serve *service* on *listener* until *stop* is set, then close all connections.

    *started* is called once, when requests are accepted.
    """
    loop = asyncio.get_running_loop()
    face = _Face(service)
    # One handler and no application: routing, middleware and logs would cost more than the service itself.
    connections = web.Server(face.answer, handler_cancellation=True, access_log=None)
    server = await loop.create_server(connections, sock=listener, backlog=2048)
    timeout = ClientTimeout(total=_SENDER_PATIENCE)
    async with (
        ClientSession(timeout=timeout, auto_decompress=False) as session,
        anyio.create_task_group() as tg,
    ):
        try:
            tg.start_soon(post_callbacks, service, _Poster(session).post)
            started()
            await stop.wait()
        finally:
            tg.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                server.close()
                await connections.shutdown(0.05)  # 0 would mean: without end
                await server.wait_closed()


class _Poster:
    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def post(self, letter: CallbackPost) -> int:
        try:
            async with self._session.post(
                letter.url, data=letter.body, headers=letter.headers, allow_redirects=False
            ) as response:
                return response.status
        except (ClientError, ValueError) as error:  # ValueError: no URL at all
            raise OSError(str(error)) from error


class _Face:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if request.can_read_body else b""
        letter = ServiceRequest(request.method, request.raw_path, request.headers, body)
        reply = self._service.handle(letter, time.monotonic())
        if reply.latency:
            await asyncio.sleep(reply.latency)
        match reply.fault:
            case "refused" | "reset":
                _reset(request)
            case "stall":
                await asyncio.Event().wait()
            case "cut":
                return await _cut(request, reply)
            case _:
                pass
        if reply.drip:
            return await _drip(request, reply)
        return web.Response(status=reply.status, headers=reply.headers, body=await _content(reply))


async def _content(reply: ServiceReply) -> bytes:
    """Return the body, drawn where the service could only send a placeholder."""
    return reply.body if reply.output is None else await asyncio.to_thread(draw, reply.output)


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        endpoint = transport.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        transport.abort()


async def _drip(request: web.BaseRequest, reply: ServiceReply) -> web.StreamResponse:
    """Announce the whole body and let it come slowly, a byte at a time up to a thousand bytes."""
    content = await _content(reply)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(content)
    await response.prepare(request)
    size = max(1, len(content) // 1000)
    for start in range(0, len(content), size):
        await asyncio.sleep(reply.drip * size / len(content))
        await response.write(content[start : start + size])
    await response.write_eof()
    return response


async def _cut(request: web.BaseRequest, reply: ServiceReply) -> web.StreamResponse:
    """Announce the whole body, send half of it, and hang up."""
    content = await _content(reply)
    reason = HTTPStatus(reply.status).phrase
    head = [f"HTTP/1.1 {reply.status} {reason}", f"Content-Length: {len(content)}"]
    head += [f"{name}: {value}" for name, value in reply.headers.items()]
    transport = request.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.write("\r\n".join([*head, "", ""]).encode() + content[: len(content) // 2])
        transport.close()
    return web.Response()
