"""Carries out the posts to callback addresses, for either face."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ._callbacks import CallbackPost
from ._service import Service

__all__ = ("post_callbacks",)


async def post_callbacks(service: Service, send: Callable[[CallbackPost], Awaitable[int]]) -> None:
    """Post what *service* plans, by *send*, for as long as this runs.

    *send* returns the HTTP status that came back, or raises OSError if none did. It belongs to the event loop
    that serves *service*, whose clock is the service's.
    """
    plan, clock = service.callbacks, anyio.current_time

    async def post(letter: CallbackPost) -> None:
        try:
            status = await send(letter)
        except OSError:
            status = 0
        if status // 100 != 2:
            plan.refused(letter, clock())

    async with anyio.create_task_group() as tg:
        while True:
            news = anyio.Event()
            plan.news = news.set
            for letter in plan.take(clock()):
                tg.start_soon(post, letter)
            with anyio.CancelScope(deadline=plan.next_time()):
                await news.wait()
