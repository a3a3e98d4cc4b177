"""What the tests run on the workers of an engine, which import it by its name, and a script for Dask."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ruxa_async import Generation, Limits, NanoBanana, Polling, RateLimit, RuxaClient
from ruxa_async.journal import PostgresJournal

CREATES_ON_WIRE = 4


def prompt(number: int, name: str) -> NanoBanana:
    return NanoBanana(prompt=f"{name} {number}", key=f"k{number}")


def prompts(count: int, name: str) -> Iterator[NanoBanana]:
    return (prompt(n, name) for n in range(count))


def make_client(url: str, dsn: str, schema: str, api_key: str | None = None) -> RuxaClient:
    """Open the journal as a sending worker does; the key comes from the worker's environment."""
    return RuxaClient(
        api_key=api_key,
        base_url=url,
        journal=PostgresJournal(dsn, schema=schema, lease=1.0, wait=30.0),
        limits=Limits(
            max_in_flight=300,
            max_concurrent_creates=CREATES_ON_WIRE,
            create_rate=RateLimit(200),
            query_rate=RateLimit(1000),
        ),
        polling=Polling(min_interval=0.05),
    )


async def read(generation: Generation) -> tuple[int, int]:
    """Fetch the output; return its size and the process that fetched it."""
    (content,) = await generation.read()
    assert content.startswith((b"\x89PNG", b"\xff\xd8"))
    return len(content), os.getpid()


async def save(folder: Path, generation: Generation) -> str:
    (path,) = await generation.save(folder)
    return path.name


def main() -> None:
    """Be a script that may be killed: print the key of each result as it comes."""
    from distributed import Client

    from ruxa_async.integrations.dask import generate

    scheduler, url, dsn, schema, count, folder = sys.argv[1:]
    with Client(scheduler) as client:
        for result in generate(
            prompts(int(count), schema),
            make_client=partial(make_client, url, dsn, schema),
            run="script",
            client=client,
            post_process=partial(save, Path(folder)),
            shard=5,
            window=3,
        ):
            line = json.dumps([result.request.key, result.value, repr(result.error)])
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
