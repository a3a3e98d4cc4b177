"""A process that buys the requests of a run, with a journal in PostgreSQL, for tests that kill it.

It stands by until it holds the journal, says so, buys, and says how it ended.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import anyio

from ruxa_async import Failed, JournalError, Limits, NanoBanana, RateLimit, RuxaClient
from ruxa_async.journal import PostgresJournal


async def buy(command: dict[str, Any]) -> None:
    journal = PostgresJournal(command["dsn"], lease=1.0, wait=math.inf)
    requests = (NanoBanana(prompt=f"prompt {n}", key=f"k{n}") for n in range(command["rows"]))
    ended = dict.fromkeys(("succeeded", "unknown", "refused"), 0)
    async with RuxaClient(
        api_key=command["key"],
        base_url=command["url"],
        journal=journal,
        limits=Limits(max_in_flight=8, max_concurrent_creates=4, create_rate=RateLimit(1000, 1.0, burst=100)),
    ) as ruxa:
        say("holds")
        try:
            async with ruxa.as_completed(requests, resume="run") as outcomes:
                async for outcome in outcomes:
                    if not isinstance(outcome, Failed):
                        ended["succeeded"] += 1
                    else:
                        ended["refused" if isinstance(outcome.error, JournalError) else "unknown"] += 1
        except JournalError:  # it was taken over
            ended["refused"] += 1
    say(json.dumps(ended))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(buy, json.loads(sys.argv[1]))
