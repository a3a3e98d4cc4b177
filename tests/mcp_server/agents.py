"""Agents for the tests: clients of the mcp package, connected to ``ruxa-async mcp`` in a process of its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
from anyio.streams.text import TextReceiveStream
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent

from ruxa_async.emulator import Emulator

__all__ = ("CAT", "MODEL", "Agent", "agent", "command_of", "environment_of", "http_server", "text_of")

MODEL = "google/nano-banana"
CAT = {"model": MODEL, "input": {"prompt": "a cat"}}


def command_of(out: Path, *options: str) -> list[str]:
    return ["-m", "ruxa_async", "mcp", "--out", str(out), *options]


def environment_of(emulator: Emulator) -> dict[str, str]:
    return {**os.environ, "RUXA_API_KEY": emulator.key, "RUXA_BASE_URL": emulator.url}


def text_of(result: CallToolResult) -> str:
    (text,) = (each.text for each in result.content if isinstance(each, TextContent))
    return text


class Agent:
    """Calls the tools, and gives their values as dictionaries."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        return await self.client.call_tool(tool, arguments)

    async def values(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.call(tool, **arguments)
        values = result.structured_content
        assert isinstance(values, dict), result
        return values

    async def buy(self, **arguments: Any) -> dict[str, Any]:
        """Buy, wait and return the values, the result of `wait` under its name."""
        bought = await self.values("generate", **arguments)
        result = await self.call("wait", handle=bought["handle"], timeout=30)
        links = [each for each in result.content if isinstance(each, ResourceLink)]
        pictures = [each for each in result.content if isinstance(each, ImageContent)]
        return {**(result.structured_content or {}), "links": links, "thumbnails": pictures}


@asynccontextmanager
async def agent(emulator: Emulator, out: Path, *options: str) -> AsyncIterator[Agent]:
    """Yield an agent that started the server on standard input and output."""
    server = StdioServerParameters(
        command=sys.executable, args=command_of(out, *options), env=environment_of(emulator)
    )
    async with Client(server) as client:
        yield Agent(client)


@asynccontextmanager
async def http_server(emulator: Emulator, out: Path, *options: str) -> AsyncIterator[str]:
    """Yield the address of a server on a free port."""
    command = [sys.executable, *command_of(out, "--http", "127.0.0.1:0", *options)]
    async with await anyio.open_process(
        command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=environment_of(emulator)
    ) as process:
        assert process.stderr is not None
        said = ""
        async for part in TextReceiveStream(process.stderr):
            said += part
            if (found := re.search(r"http://\S+/mcp", said)) is not None:
                break
        else:
            raise AssertionError(said)
        try:
            yield found[0]
        finally:
            process.terminate()
            with anyio.fail_after(20, shield=True):
                await process.wait()
