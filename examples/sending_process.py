"""The process that sends for an account, behind HTTP: python examples/sending_process.py [PORT].

Any other process buys with ``POST /generate {"key": ..., "prompt": ...}`` and may repeat it: one key is one
purchase. Keep it on a private network: everybody who reaches it can buy. Without RUXA_API_KEY it starts an
emulator.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from os import environ

from aiohttp import web

from ruxa_async import ClientClosedError, JournalError, NanoBanana, RuxaClient, RuxaError, SqliteJournal
from ruxa_async.emulator import Emulator, EmulatorSettings

CLIENT = web.AppKey("CLIENT", RuxaClient)


@asynccontextmanager
async def open_client() -> AsyncGenerator[RuxaClient]:
    """Give a client of your account if RUXA_API_KEY is set, else of an emulator, which costs nothing."""
    if environ.get("RUXA_API_KEY"):
        async with RuxaClient(journal=SqliteJournal("sending.sqlite")) as ruxa:
            yield ruxa
    else:
        journal = SqliteJournal("sending.sqlite", service="emulator")
        async with (
            Emulator(EmulatorSettings(speed=20), ledger="emulator.jsonl") as emulator,
            RuxaClient(api_key=emulator.key, base_url=emulator.url, journal=journal) as ruxa,
        ):
            yield ruxa


async def generate(http: web.Request) -> web.Response:
    order = await http.json()
    request = NanoBanana(prompt=order["prompt"], key=order["key"])
    try:
        generation = await http.app[CLIENT].generate(request, run="orders")
    except (ClientClosedError, JournalError) as error:
        raise web.HTTPServiceUnavailable(text=str(error)) from error  # ask again
    except RuxaError as error:
        return web.json_response({"error": error.as_dict()})
    return web.json_response({"generation": generation.as_dict()})


async def lifespan(app: web.Application) -> AsyncGenerator[None]:
    async with open_client() as app[CLIENT]:
        yield


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(lifespan)
    app.router.add_post("/generate", generate)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8642)
