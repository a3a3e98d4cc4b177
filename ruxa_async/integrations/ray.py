"""Generate on a Ray cluster: one named actor sends for the account, and any Ray task asks it.

Ray starts the actor again elsewhere if its process or machine dies, and repeats calls that were under way.
Ray Data repeats batches too. Nothing is bought twice by that: the journal knows each request by its run and
key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import anyio

from ruxa_async import RuxaClient
from ruxa_async.errors import ClientClosedError, JournalError, LinkExpiredError, MissingExtraError
from ruxa_async.requests import GenerationRequest
from ruxa_async.settings import Downloads

from ._shards import Bought, PostProcess, Processed, buy, process

try:
    import ray
except ImportError as _exc:
    raise MissingExtraError("ruxa_async.integrations.ray", "ray") from _exc

__all__ = ("Processed", "generate", "start_sender", "stop_sender")

#: calls that the actor may serve at once; each waits for the service most of the time
_MAX_CALLS = 10_000


class _Sender:
    """The actor: its client is opened by the first call and again after it crashed."""

    def __init__(self, make_client: Callable[[], RuxaClient]) -> None:
        self._make_client = make_client
        self._opening = asyncio.Lock()
        self._ruxa: RuxaClient | None = None
        self._leave = asyncio.Event()
        self._holding: asyncio.Task[None] | None = None

    async def buy(self, requests: list[GenerationRequest], run: str, renew: bool) -> Bought:
        ruxa = await self._open()
        try:
            return await buy(ruxa, requests, run, renew=renew)
        except (ClientClosedError, JournalError):
            if self._ruxa is ruxa:
                await self.close()
            raise

    async def close(self) -> None:
        """Close the client, which waits for creates on the wire."""
        self._ruxa = None
        self._leave.set()
        if self._holding is not None:
            await asyncio.wait([self._holding])

    async def _open(self) -> RuxaClient:
        async with self._opening:
            if self._ruxa is None:
                if self._holding is not None:
                    await asyncio.wait([self._holding])
                self._leave = asyncio.Event()
                opened: asyncio.Future[RuxaClient] = asyncio.get_running_loop().create_future()
                self._holding = asyncio.create_task(self._hold(opened, self._leave))
                self._ruxa = await opened
            return self._ruxa

    async def _hold(self, opened: asyncio.Future[RuxaClient], leave: asyncio.Event) -> None:
        """Hold a client open until *leave*; it is entered and left in this one task."""
        try:
            async with self._make_client() as ruxa:
                opened.set_result(ruxa)
                await leave.wait()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)


def start_sender(make_client: Callable[[], RuxaClient], *, name: str = "ruxa", **options: Any) -> Any:
    """Start the actor *name* that sends for an account, or return the one that runs already.

    *make_client* returns the `RuxaClient` and runs in the actor. Give it a `PostgresJournal` whose ``wait``
    exceeds its lease, and read the API key from the environment there. The actor is detached: it lives until
    `stop_sender` or until the cluster ends. *options* are those of a Ray actor, such as ``resources``.
    """
    settings = {
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_concurrency": _MAX_CALLS,
        **options,
    }
    return ray.remote(_Sender).options(name=name, **settings).remote(make_client)


def stop_sender(name: str = "ruxa", *, timeout: float = 30.0) -> None:
    """Close the client of the actor *name* within *timeout* seconds, and end the actor."""
    actor = ray.get_actor(name)
    ray.get(actor.close.remote(), timeout=timeout)
    ray.kill(actor)


def generate(
    requests: Iterable[GenerationRequest],
    *,
    run: str,
    name: str = "ruxa",
    post_process: PostProcess | None = None,
    timeout: float | None = None,
    downloads: Downloads = Downloads(),  # noqa: B008 - frozen
) -> list[Processed[Any]]:
    """Buy the *requests* that *run* has not bought through the actor *name*, and return a result for each.

    Call it in any Ray task or in the function of ``Dataset.map_batches``. A request with a key is bought once
    for each *run*; without a key, equal requests are one purchase.

    *post_process* is called in this process for each generation, and may be an async function. ``save`` and
    ``read`` of the generation work here without the API key, within the bounds of *downloads*. *timeout* is
    in seconds and bounds the wait for all generations; by default only the client's own timeouts do.

    Raises `ClientClosedError` or `JournalError` if the actor cannot go on, Ray's GetTimeoutError, and
    ValueError if there is no such actor.
    """
    sender, shard = ray.get_actor(name), list(requests)
    bought: Bought = ray.get(sender.buy.remote(shard, run, False), timeout=timeout)
    if post_process is None:
        return bought.results
    results = anyio.run(process, bought, post_process, downloads)
    if any(isinstance(each.error, LinkExpiredError) for each in results):
        bought = ray.get(sender.buy.remote(shard, run, True), timeout=timeout)
        results = anyio.run(process, bought, post_process, downloads)
    return results
