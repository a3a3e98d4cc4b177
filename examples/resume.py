"""Many pictures that are bought once, however often this is stopped and started: python examples/resume.py.

With a key of your own, `main` begins with
``async with RuxaClient(journal=SqliteJournal("pictures/journal.sqlite")) as ruxa:``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ruxa_async import Failed, NanoBanana, RuxaClient, SqliteJournal, Succeeded
from ruxa_async.emulator import Emulator, EmulatorSettings

PROMPTS = Path(__file__).with_name("prompts.txt")
OUT = Path("pictures")


async def main() -> None:
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    requests = (NanoBanana(prompt=prompt, key=f"picture-{n:02}") for n, prompt in enumerate(prompts, 1))
    async with open_client() as ruxa, ruxa.as_completed(requests, resume="pictures") as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Succeeded(key=key, generation=picture):
                    (path,) = await picture.save(OUT)  # what is there already is not fetched again
                    print(f"{key}: {path}", flush=True)
                case Failed(key=key, error=error):
                    print(f"{key}: {error}", flush=True)


@asynccontextmanager
async def open_client() -> AsyncGenerator[RuxaClient]:
    """Give a client of your service if RUXA_BASE_URL is set, else of an emulator, which costs nothing."""
    if os.environ.get("RUXA_BASE_URL"):
        async with RuxaClient(journal=SqliteJournal(OUT / "journal.sqlite")) as ruxa:
            yield ruxa
    else:  # the emulator keeps its ledger from run to run; its address may differ
        journal = SqliteJournal(OUT / "journal.sqlite", service="emulator")
        async with (
            Emulator(EmulatorSettings(speed=20), ledger=OUT / "emulator.jsonl") as emulator,
            RuxaClient(api_key=emulator.key, base_url=emulator.url, journal=journal) as ruxa,
        ):
            yield ruxa


asyncio.run(main())
