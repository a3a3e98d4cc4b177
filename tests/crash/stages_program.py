"""Three stages in a process that is killed: each sketch becomes two paintings, each painting a film."""

from __future__ import annotations

import json
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import anyio
from crash.forks import CREATES, TRANSPORTS

from ruxa_async import (
    Limits,
    NanoBanana,
    NanoBananaPro,
    Polling,
    RateLimit,
    RuxaClient,
    Sora2,
    SqliteJournal,
    Succeeded,
)

__all__ = ("run",)


def paintings(sketch: Succeeded) -> list[NanoBananaPro]:
    return [
        NanoBananaPro(prompt=f"{sketch.key} in {ink}", image_input=sketch.generation.urls) for ink in "ab"
    ]


async def film(painting: Succeeded) -> Sora2:
    await anyio.sleep(0.002)
    return Sora2(prompt=f"film {painting.key}", input_reference=painting.generation.urls[0])


async def _run(
    url: str, key: str, folder: Path, rows: int, backend: str, on_open: Callable[[], None]
) -> None:
    client = RuxaClient(
        api_key=key,
        base_url=url,
        transport=TRANSPORTS[backend](),
        limits=Limits(
            max_concurrent_creates=CREATES, create_rate=RateLimit(1000), query_rate=RateLimit(1000)
        ),
        polling=Polling(min_interval=0.02),
        journal=SqliteJournal(folder / "journal.sqlite"),
    )
    requests = [NanoBanana(prompt=f"sketch {n}", key=f"k{n}") for n in range(rows)]
    with (folder / "outcomes.jsonl").open("w", encoding="utf-8") as out:
        async with client:
            on_open()
            sketches = client.as_completed(requests, window=8, resume="catalogue")
            films = sketches.then(paintings, window=6).then(film, name="film", window=6)
            async with films as outcomes:
                async for outcome in outcomes:
                    out.write(json.dumps({**outcome.as_dict(), "stage": outcome.stage}) + "\n")


def run(url: str, key: str, folder: Path, rows: int, backend: str, is_open: Event) -> None:
    """Run the stages of *folder* to their end, or go on with them; set *is_open* when the client is open."""
    anyio.run(_run, url, key, folder, rows, backend, is_open.set, backend=backend)
