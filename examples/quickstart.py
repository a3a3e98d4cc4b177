"""One picture: python examples/quickstart.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ruxa_async import NanoBanana, RuxaClient
from ruxa_async.emulator import Emulator, EmulatorSettings


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


async def main() -> None:
    async with open_client() as ruxa:  # `async with RuxaClient() as ruxa:` with a key of your own
        picture = await ruxa.generate(NanoBanana(prompt="a cat on a windowsill", aspect_ratio="16:9"))
        for path in await picture.save("out"):
            print(path)


asyncio.run(main())
