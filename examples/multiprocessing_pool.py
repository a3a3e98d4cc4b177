"""A pool of processes around one client, which the parent holds: python examples/multiprocessing_pool.py."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anyio
from PIL import Image

from ruxa_async import NanoBanana, RuxaClient, SqliteJournal, Succeeded
from ruxa_async.emulator import Emulator, EmulatorSettings

OUT = Path("pool")


def write_prompt(number: int) -> str:  # runs in the pool
    return f"a {('red', 'green', 'blue')[number % 3]} boat, view {number}"


def make_thumbnail(path: Path) -> Path:  # runs in the pool
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((64, 64))
    small.save(path := path.with_suffix(".thumb.jpg"))
    return path


def end_with_parent() -> None:
    """End this process of the pool when the parent is killed: it would wait for work for ever."""

    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


async def main(pool: ProcessPoolExecutor) -> None:
    loop = asyncio.get_running_loop()

    async def requests() -> AsyncGenerator[NanoBanana]:
        for number in range(24):
            prompt = await loop.run_in_executor(pool, write_prompt, number)
            yield NanoBanana(prompt=prompt, key=f"picture-{number:02}")

    async def finish(outcome: Succeeded) -> None:
        (path,) = await outcome.generation.save(OUT)
        print(f"{outcome.key}: {await loop.run_in_executor(pool, make_thumbnail, path)}", flush=True)

    journal = SqliteJournal(OUT / "journal.sqlite", service="emulator")
    async with (  # your service: RuxaClient(journal=SqliteJournal(OUT / "journal.sqlite")), no Emulator
        Emulator(EmulatorSettings(speed=20), ledger=OUT / "emulator.jsonl") as emulator,
        RuxaClient(api_key=emulator.key, base_url=emulator.url, journal=journal) as ruxa,
        ruxa.as_completed(requests(), resume="pool") as outcomes,
        anyio.create_task_group() as tg,
    ):
        async for outcome in outcomes:
            if isinstance(outcome, Succeeded):
                tg.start_soon(finish, outcome)
            else:
                print(f"{outcome.key}: {outcome.error}", flush=True)


if __name__ == "__main__":  # the processes of the pool import this file
    OUT.mkdir(exist_ok=True)
    spawn = multiprocessing.get_context("spawn")  # shares no connection and no lock with the parent
    with ProcessPoolExecutor(2, spawn, initializer=end_with_parent) as executor:
        asyncio.run(main(executor))
