"""The server on standard input and output."""

from __future__ import annotations

import io
import sys
import threading
from contextlib import suppress
from typing import Any, cast

import anyio
from anyio import from_thread, lowlevel
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server

__all__ = ("serve_stdio",)


async def serve_stdio(server: MCPServer[Any]) -> None:
    """Serve until standard input ends."""
    send, receive = anyio.create_memory_object_stream[str]()
    token = lowlevel.current_token()
    threading.Thread(
        target=_read, args=(sys.stdin.fileno(), send, token), name="ruxa-async input", daemon=True
    ).start()
    low = server._lowlevel_server  # noqa: SLF001 - as MCPServer.run_stdio_async does
    # stdio_server only iterates over its input. Its own reader cannot be cancelled, so that a signal would
    # wait for the next line.
    async with receive, stdio_server(stdin=cast("Any", receive)) as (messages, replies):
        await low.run(messages, replies, low.create_initialization_options())


def _read(descriptor: int, send: MemoryObjectSendStream[str], token: lowlevel.EventLoopToken) -> None:
    """Send each line of standard input in a thread that does not keep the process."""
    # Not sys.stdin, whose lock the interpreter wants when it ends.
    raw = io.FileIO(descriptor, "rb", closefd=False)
    lines = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8", errors="replace")
    with suppress(anyio.RunFinishedError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        for line in lines:
            from_thread.run(send.send, line, token=token)
        from_thread.run_sync(send.close, token=token)
