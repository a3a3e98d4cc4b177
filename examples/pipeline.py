"""Stages that run side by side, each taking what the one before has finished: python examples/pipeline.py.

Sketches are made first; each becomes the input of a larger picture as soon as it is there. Nothing waits for
a whole stage, and a slow stage slows the earlier ones instead of piling up their results.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from ruxa_async import Completions, Failed, NanoBanana, NanoBananaPro, RuxaClient, Succeeded
from ruxa_async.emulator import Emulator, EmulatorSettings

SUBJECTS = (
    "a heron in reeds",
    "a night market",
    "a fox on old atlases",
    "a tram under wisteria",
    "three quinces",
)


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


async def enlarged(sketches: Completions) -> AsyncGenerator[NanoBananaPro]:
    """Turn each finished sketch into a request of the next stage."""
    async for outcome in sketches:
        match outcome:
            case Succeeded(key=key, generation=sketch):
                yield NanoBananaPro(
                    prompt="the same picture, finished in oils",
                    image_input=sketch.urls,
                    resolution="2k",
                    key=key,
                )
            case Failed(key=key, error=error):
                print(f"{key}: {error}")


async def main() -> None:
    sketching = (NanoBanana(prompt=f"a quick sketch of {s}", key=s.replace(" ", "-")) for s in SUBJECTS)
    async with (
        open_client() as ruxa,
        ruxa.as_completed(sketching) as sketches,
        aclosing(enlarged(sketches)) as wanted,
        ruxa.as_completed(wanted) as pictures,
    ):
        async for outcome in pictures:
            match outcome:
                case Succeeded(key=key, generation=picture):
                    (path,) = await picture.save("out")
                    print(f"{key}: {path}")
                case Failed(key=key, error=error):
                    print(f"{key}: {error}")


asyncio.run(main())
