"""A FastAPI app that takes a prompt over HTTP and answers with the picture when the service calls back.

    export RUXA_API_KEY=... RUXA_CALLBACK_SECRET=... PUBLIC_URL=https://example.org/ruxa
    python examples/callbacks_fastapi.py
    curl -H 'Content-Type: application/json' -d '{"prompt": "a cat on a windowsill"}' http://127.0.0.1:8080/pictures

Needs `pip install 'ruxa-async[asgi]' fastapi uvicorn`. Without a key it starts an emulator of its own, so
that you can try it as it is. Run one worker: a callback must reach the process that waits for it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from ruxa_async import CallbackReceiver, NanoBanana, RuxaClient, RuxaError
from ruxa_async.emulator import Emulator, EmulatorSettings

PORT = int(os.environ.get("PORT", "8080"))

receiver = CallbackReceiver(public_url=os.environ.get("PUBLIC_URL", f"http://127.0.0.1:{PORT}/ruxa"))


class Wish(BaseModel):
    prompt: str = Field(min_length=1)


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        key = url = None
        if not os.environ.get("RUXA_API_KEY"):
            emulator = await stack.enter_async_context(Emulator(EmulatorSettings(speed=10)))
            key, url = emulator.key, emulator.url
        app.state.ruxa = await stack.enter_async_context(
            RuxaClient(api_key=key, base_url=url, callbacks=receiver)
        )
        yield


app = FastAPI(lifespan=opened)
app.mount("/ruxa", receiver.asgi_app())


@app.post("/pictures")
async def make_picture(wish: Wish, request: Request) -> dict[str, Any]:
    ruxa: RuxaClient = request.app.state.ruxa
    try:
        picture = await ruxa.generate(NanoBanana(prompt=wish.prompt))
    except RuxaError as error:
        raise HTTPException(502, str(error)) from error
    return {"task_id": picture.task_id, "urls": picture.urls}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT)
