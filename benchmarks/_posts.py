"""Send the posts on standard input, a JSON list of [url, body], and print the latency of each response."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from aiohttp import ClientSession, TCPConnector

_AT_ONCE = 8


async def _main() -> None:
    posts = json.load(sys.stdin)
    times: list[float] = []
    statuses: Counter[int] = Counter()
    waiting = iter(posts)

    async def post_on(session: ClientSession) -> None:
        for url, body in waiting:
            began = time.perf_counter()
            async with session.post(url, data=body.encode(errors="replace")) as response:
                await response.read()
            times.append(time.perf_counter() - began)
            statuses[response.status] += 1

    async with ClientSession(connector=TCPConnector(limit=_AT_ONCE)) as session, asyncio.TaskGroup() as tg:
        for _ in range(_AT_ONCE):
            tg.create_task(post_on(session))
    json.dump({"times": times, "statuses": statuses}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
