"""An aiohttp app that takes a prompt over HTTP and answers with the picture when the service calls back.

    export RUXA_API_KEY=... RUXA_CALLBACK_SECRET=... PUBLIC_URL=https://example.org/ruxa
    python examples/callbacks_aiohttp.py
    curl -d 'a cat on a windowsill' http://127.0.0.1:8080/pictures

Without a key it starts an emulator of its own, so that it can be tried as it is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from ruxa_async import CallbackReceiver, NanoBanana, RuxaClient, RuxaError
from ruxa_async.emulator import Emulator, EmulatorSettings

RUXA = web.AppKey("ruxa", RuxaClient)
PORT = int(os.environ.get("PORT", "8080"))


async def make_picture(request: web.Request) -> web.Response:
    prompt = (await request.text()).strip()
    if not prompt:
        return web.json_response({"error": "send a prompt"}, status=400)
    try:
        picture = await request.app[RUXA].generate(NanoBanana(prompt=prompt))
    except RuxaError as error:
        return web.json_response({"error": str(error)}, status=502)
    return web.json_response({"task_id": picture.task_id, "urls": picture.urls})


def make_app() -> web.Application:
    receiver = CallbackReceiver(public_url=os.environ.get("PUBLIC_URL", f"http://127.0.0.1:{PORT}/ruxa"))

    async def opened(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            key = url = None
            if not os.environ.get("RUXA_API_KEY"):
                emulator = await stack.enter_async_context(Emulator(EmulatorSettings(speed=10)))
                key, url = emulator.key, emulator.url
            app[RUXA] = await stack.enter_async_context(
                RuxaClient(api_key=key, base_url=url, callbacks=receiver)
            )
            yield

    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.router.add_post("/pictures", make_picture)
    app.add_subapp("/ruxa", receiver.aiohttp_app())
    return app


if __name__ == "__main__":
    # A connection that is open and silent for longer is closed; aiohttp's own default is an hour.
    web.run_app(make_app(), host="127.0.0.1", port=PORT, keepalive_timeout=15)
