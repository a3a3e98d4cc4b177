"""The client process of `random_limits_http`: buy the batch of a draw.

It reads a job, imports everything, and starts at the next line. Stalls are real: a timer of the event loop
sleeps for their length. Several clients share the loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from benchmarks._code import prepare


async def _run(job: dict[str, Any]) -> list[float | None]:
    """Return the seconds until the last result of each client."""
    from benchmarks._draws import draw
    from benchmarks._judge import batch

    drawn, loop = draw(job["seed"], longest=job["longest"]), asyncio.get_running_loop()
    timers = [loop.call_later(start, time.sleep, end - start) for start, end in drawn.stalls]
    try:
        return list(await asyncio.gather(*(batch(drawn, None, url, job["cut_off"]) for url in job["urls"])))
    finally:
        for timer in timers:
            timer.cancel()


def main() -> None:
    """Report that everything is imported, and run the job on the next line."""
    job = json.loads(sys.stdin.readline())
    prepare(job["code"])
    import benchmarks._judge  # noqa: F401 - it takes a while
    import ruxa_async.transports._aiohttp  # noqa: F401

    print(json.dumps({"ready": True}), flush=True)
    if sys.stdin.readline():
        print(json.dumps({"last": asyncio.run(_run(job))}), flush=True)


if __name__ == "__main__":
    main()
