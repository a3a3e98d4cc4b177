"""The service on a socket: an aiohttp server that also carries out the faults.

A reset closes the connection with a RST. A cut reply stops in the middle of its body. A stalled one lasts
until the client closes the connection. ``refused`` resets the connection after the request is read, because
the operation is unknown before; a client cannot tell it from a reset that was charged. With a
`MemoryTransport`, it is exact: nothing was sent.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import anyio
from aiohttp import ClientError, ClientSession, ClientTimeout, web

from ._callbacks import CallbackPost
from ._http import ServiceReply, ServiceRequest
from ._pictures import draw
from ._service import Service, post_callbacks

__all__ = ("serve",)

#: Seconds; the reply to a callback may take that long, as at the sibling service.
_CALLBACK_TIMEOUT = 15.0
#: The value of SO_LINGER with which closing a socket sends a RST and discards unsent bytes.
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


async def serve(
    service: Service, listener: socket.socket, stop: asyncio.Event, started: Callable[[], object]
) -> None:
    """Serve *service* on *listener* until *stop* is set, then close all connections.

    *started* is called once, as soon as requests are accepted.
    """
    loop = asyncio.get_running_loop()
    handler = _Handler(service)
    # No aiohttp application: its routing, middleware and logs would take longer than the service itself.
    connections = web.Server(handler.reply, handler_cancellation=True, access_log=None)
    server = await loop.create_server(connections, sock=listener, backlog=2048)
    timeout = ClientTimeout(total=_CALLBACK_TIMEOUT)
    async with (
        ClientSession(timeout=timeout, auto_decompress=False) as session,
        anyio.create_task_group() as tg,
    ):
        try:
            tg.start_soon(post_callbacks, service, partial(_post, session))
            started()
            await stop.wait()
        finally:
            tg.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                server.close()
                await connections.shutdown(0.05)  # seconds; 0 would wait forever
                await server.wait_closed()


async def _post(session: ClientSession, post: CallbackPost) -> int:
    try:
        async with session.post(
            post.url, data=post.body, headers=post.headers, allow_redirects=False
        ) as response:
            return response.status
    except (ClientError, ValueError) as error:  # ValueError: not a URL
        raise OSError(str(error)) from error


class _Handler:
    def __init__(self, service: Service) -> None:
        self._service: Service = service

    async def reply(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if request.can_read_body else b""
        received = ServiceRequest(request.method, request.raw_path, request.headers, body)
        reply = self._service.handle(received, time.monotonic())
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
    """Return the body, or the drawn picture if it is a placeholder."""
    return reply.body if reply.output is None else await asyncio.to_thread(draw, reply.output)


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        endpoint = transport.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        transport.abort()


async def _drip(request: web.BaseRequest, reply: ServiceReply) -> web.StreamResponse:
    """Send the body over *reply.drip* seconds, in equal pieces (bytes, if it is short)."""
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
    """Send half of the announced body and close the connection."""
    content = await _content(reply)
    reason = HTTPStatus(reply.status).phrase
    head = [f"HTTP/1.1 {reply.status} {reason}", f"Content-Length: {len(content)}"]
    head += [f"{name}: {value}" for name, value in reply.headers.items()]
    transport = request.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.write("\r\n".join([*head, "", ""]).encode() + content[: len(content) // 2])
        transport.close()
    return web.Response()
