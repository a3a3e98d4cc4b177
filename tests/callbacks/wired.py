"""A client, an emulated service and a receiver between them, all in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
from attrs import define
from harness import KEY, client_of, service_of

from ruxa_async import CallbackReceiver, RuxaClient
from ruxa_async.callbacks._messages import Answer
from ruxa_async.emulator import CallbackPost, Callbacks, Service, ServiceRequest, post_callbacks

PUBLIC = "https://hooks.example/ruxa"
SECRET = "a secret of many bytes, for tests"


def receiver_of(**options: Any) -> CallbackReceiver:
    options = {"public_url": PUBLIC, "secret": SECRET} | options
    return CallbackReceiver(**options)


async def post(receiver: CallbackReceiver, url: str, body: bytes = b"", **headers: str) -> int:
    """Post to *receiver* as an application does; return the status."""
    token = receiver.admit("POST", urlsplit(url).path)
    answer = token if isinstance(token, Answer) else await receiver.take(token, headers, body)
    return answer.status


def sender(receiver: CallbackReceiver) -> Callable[[CallbackPost], Awaitable[int]]:
    async def send(letter: CallbackPost) -> int:
        await anyio.lowlevel.checkpoint()
        token = receiver.admit("POST", urlsplit(letter.url).path)
        headers = {name.lower(): value for name, value in letter.headers.items()}
        answer = token if isinstance(token, Answer) else await receiver.take(token, headers, letter.body)
        return answer.status

    return send


@define
class Wired:
    ruxa: RuxaClient
    service: Service
    receiver: CallbackReceiver


@asynccontextmanager
async def wired(
    service: Service | None = None,
    receiver: CallbackReceiver | None = None,
    *,
    how: Callbacks | None = None,
    client: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Wired]:
    service = service or service_of(callbacks=how or Callbacks(), **settings)
    receiver = receiver or receiver_of()
    async with anyio.create_task_group() as tg:
        tg.start_soon(post_callbacks, service, sender(receiver))
        await anyio.lowlevel.checkpoint()
        try:
            async with client_of(service, callbacks=receiver, **(client or {})) as ruxa:
                yield Wired(ruxa, service, receiver)
        finally:
            tg.cancel_scope.cancel()


def charge(service: Service, callback: str, now: float = 0.0, prompt: str = "a fox") -> str:
    """Buy a task on *service* that is to be reported to *callback*; return its id."""
    body = {"model": "google/nano-banana", "input": {"prompt": prompt}, "callback_url": callback}
    headers = {"authorization": f"Bearer {KEY}"}
    reply = service.handle(
        ServiceRequest("POST", "/api/v1/tasks/create", headers, json.dumps(body).encode()), now
    )
    assert reply.status == 200
    return service.ledger.entries[-1].task_id
