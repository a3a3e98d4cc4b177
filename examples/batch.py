"""Many pictures, each as soon as it is finished, errors as values: python examples/batch.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from ruxa_async import DownloadError, Failed, NanoBanana, RuxaClient, SubmissionHalted, Succeeded
from ruxa_async.emulator import Emulator, EmulatorSettings

PROMPTS = Path(__file__).with_name("prompts.txt")


@asynccontextmanager
async def open_client() -> AsyncGenerator[RuxaClient]:
    """Give a client of your service if RUXA_BASE_URL is set, else of an emulator, which costs nothing."""
    if os.environ.get("RUXA_BASE_URL"):
        async with RuxaClient() as ruxa:  # RUXA_API_KEY, RUXA_BASE_URL
            yield ruxa
    else:
        async with (
            Emulator(EmulatorSettings(speed=20)) as emulator,
            RuxaClient(api_key=emulator.key, base_url=emulator.url) as ruxa,
        ):
            yield ruxa


def requests() -> Iterator[NanoBanana]:
    for number, prompt in enumerate(PROMPTS.read_text(encoding="utf-8").splitlines(), 1):
        yield NanoBanana(prompt=prompt, key=f"picture-{number:02}")


async def main() -> None:
    async with open_client() as ruxa:
        outcomes = ruxa.as_completed(requests())
        try:
            async with outcomes:
                async for outcome in outcomes:
                    match outcome:
                        case Succeeded(key=key, generation=generation, queries=queries):
                            try:
                                (path,) = await generation.save("out")
                                print(f"{key}: {path} ({queries} queries)")
                            except DownloadError as error:  # it stays paid, and its link works for a while
                                print(f"{key}: task {generation.task_id} is not saved: {error}")
                        case Failed(key=key, error=error):
                            print(f"{key}: {error}")
        except SubmissionHalted as halt:
            print(halt)
        for job in (*outcomes.unfinished, *outcomes.unknown):
            print(f"{job.key}: paid, or perhaps paid; task {job.task_id}")


asyncio.run(main())
