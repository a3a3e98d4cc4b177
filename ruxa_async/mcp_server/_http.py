"""The server over streamable HTTP, on loopback only: all who reach it can spend the budget."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer

__all__ = ("PATH", "serve_http")

#: The path of the server.
PATH = "/mcp"
#: Seconds that open calls get when the server stops.
_GRACE = 1


class _Uvicorn(uvicorn.Server):
    """A uvicorn that leaves signals to the command, which cancels it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    server: MCPServer[Any], listener: socket.socket, *, on_ready: Callable[[], object]
) -> None:
    """Serve on *listener*, which is bound to a loopback address, until it is cancelled.

    Requests with another Host or Origin than loopback are refused, against pages that rebind a name.
    """
    app = server.streamable_http_app(streamable_http_path=PATH)  # for 127.0.0.1: it checks Host and Origin
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GRACE)
    serving = _Uvicorn(config)
    async with anyio.create_task_group() as tg:
        tg.start_soon(_stop_when_cancelled, serving)
        on_ready()
        with anyio.CancelScope(shield=True):  # it ends in order, so that calls and sockets are closed
            await serving.serve(sockets=[listener])
        tg.cancel_scope.cancel()


async def _stop_when_cancelled(serving: uvicorn.Server) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        serving.should_exit = True
