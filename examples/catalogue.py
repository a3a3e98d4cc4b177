"""A web application that buys one picture for each article, for any number of callers: one key, one charge.

    python examples/catalogue.py
    curl -o chair.png http://127.0.0.1:8080/pictures/chair

You may stop and start it at any time: no picture is bought twice. Without RUXA_API_KEY it starts an emulator.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from ruxa_async import NanoBanana, RuxaClient, RuxaError, SqliteJournal
from ruxa_async.emulator import Emulator, EmulatorSettings

RUXA = web.AppKey("ruxa", RuxaClient)
PORT = int(os.environ.get("PORT", "8080"))
OUT = Path("catalogue")


async def picture(request: web.Request) -> web.Response:
    article = request.match_info["article"]
    wanted = NanoBanana(prompt=f"{article}, on white", key=article)
    try:
        (content,) = await (await request.app[RUXA].generate(wanted, run="catalogue")).read()
    except RuxaError as error:
        return web.json_response({"error": str(error)}, status=502)
    return web.Response(body=content, content_type="image/png")


async def opened(app: web.Application) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        key = url = service = None
        if not os.environ.get("RUXA_API_KEY"):
            emulator = await stack.enter_async_context(
                Emulator(EmulatorSettings(speed=20), ledger=OUT / "emulator.jsonl")
            )
            key, url, service = emulator.key, emulator.url, "emulator"
        journal = SqliteJournal(OUT / "journal.sqlite", service=service)
        app[RUXA] = await stack.enter_async_context(RuxaClient(api_key=key, base_url=url, journal=journal))
        yield


def make_app() -> web.Application:
    OUT.mkdir(exist_ok=True)
    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.router.add_get("/pictures/{article}", picture)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=PORT)
