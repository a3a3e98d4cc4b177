"""The server process of `random_limits_http`: the accounts of one draw, each on a port of its own.

It reads the draw as a line of JSON, writes the addresses as another, and replies to each further line with a
report of each account until its input ends. Each request is delayed by half a round trip before the account
receives it, and its reply by the other half.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from aiohttp import web

from benchmarks._draws import Draw, draw
from benchmarks._judge import report
from benchmarks._quota import Account
from ruxa_async.emulator import ServiceRequest

_SOCKETS = 0.001  # seconds; about a round trip here without any delay


class _Server:
    def __init__(self, draw: Draw) -> None:
        self.account = Account(draw, clock_at_start=None)
        self._half, self._jitter = max(0.0, draw.rtt - _SOCKETS) / 2, draw.jitter
        self._chance = random.Random(f"trips/{draw.seed}")

    async def start(self) -> str:
        """Listen, and return the address."""
        connections = web.Server(self._answer, access_log=None)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(connections, "127.0.0.1", 0, backlog=2048)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        await self._trip()
        asked = ServiceRequest(request.method, request.raw_path, request.headers, body)
        reply = self.account.handle(asked, time.monotonic())
        await self._trip()
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _trip(self) -> None:
        if self._half:
            await asyncio.sleep(self._half * (1 + self._jitter * self._chance.uniform(-1.0, 1.0)))


async def _main() -> None:
    given = json.loads(sys.stdin.readline())
    drawn = draw(given["seed"], longest=given["longest"])
    servers = [_Server(drawn) for _ in range(drawn.clients)]
    print(json.dumps({"urls": [await server.start() for server in servers]}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps({"reports": [report(server.account) for server in servers]}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
