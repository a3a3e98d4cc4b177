"""A page that makes pictures from prompts, served by as many processes as you like.

No process remembers anything: the browser asks for a prompt under a key until its picture is there. Each of
these requests may reach another process, or be repeated; a key is bought once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field

from ruxa_async import NanoBanana, RuxaError

from .pictures import broker, purchases

#: Seconds until the browser asks again, so that no proxy in between gives up.
LONGEST_REQUEST = 20.0


class Wish(BaseModel):
    key: str = Field(min_length=1, max_length=100)
    prompt: str = Field(min_length=1, max_length=2000)


@asynccontextmanager
async def opened(_app: FastAPI) -> AsyncGenerator[None]:
    async with broker:
        yield


app = FastAPI(lifespan=opened)


@app.get("/")
async def page() -> Response:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/pictures")
async def picture(wish: Wish) -> Response:
    try:
        request = NanoBanana(prompt=wish.prompt, key=wish.key)
        made = await purchases.generate(request, run="web", timeout=LONGEST_REQUEST)
    except RuxaError as error:
        return JSONResponse({"error": str(error)}, status_code=422)
    except TimeoutError:
        return JSONResponse({}, status_code=202)
    return JSONResponse({"urls": made.urls})
