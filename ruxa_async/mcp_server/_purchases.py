"""All purchases of a folder. A purchase belongs to the server, so it goes on when a call ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskGroup
from attrs import define, evolve, field

from ruxa_async import RuxaClient
from ruxa_async._logging import logger
from ruxa_async.errors import RuxaError
from ruxa_async.journal import JournalEntry
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Stats

from ._handles import handle_of
from ._purchase import Purchase, recorded_purchase

__all__ = ("RUN", "Purchases", "open_purchases")

#: The name of the run in the journal. A batch in the same folder has another one.
RUN = "mcp"


class _Entries(Protocol):
    async def entries(self, run: str) -> list[JournalEntry]: ...


@define(eq=False)
class Purchases:
    """The purchases of this and earlier processes, by handle, in the order of their first call."""

    _client: RuxaClient
    _folder: Path
    _tg: TaskGroup
    _known: dict[str, Purchase] = field(factory=dict)

    @property
    def known(self) -> Mapping[str, Purchase]:
        """All purchases by handle."""
        return self._known

    def buy(self, request: GenerationRequest, variant: int) -> Purchase:
        """Return the purchase of *request*; buy it unless that was done or is being done.

        A request that was not bought is sent again. One that may have been bought is not.
        """
        handle = handle_of(request, variant)
        purchase = self._known.get(handle)
        if purchase is None:
            purchase = self._known[handle] = Purchase(handle=handle, request=evolve(request, key=handle))
            self._follow(purchase)
        elif not purchase.is_paid:
            self._follow(purchase)
        else:
            self.follow_paid(purchase)
        return purchase

    def follow_paid(self, purchase: Purchase) -> None:
        """Follow *purchase* to its files if it is paid and they are not here. This never buys."""
        if purchase.is_paid and not purchase.is_complete:
            self._follow(purchase)

    def stats(self) -> Stats:
        """Return the counters of the client, with what counts against the budget."""
        return self._client.stats()

    async def load(self, journal: _Entries) -> None:
        """Read what earlier processes bought, and follow the tasks that have not ended."""
        for entry in await journal.entries(RUN):
            if entry.key is not None:
                self._known[entry.key] = recorded_purchase(entry.key, entry, self._folder)
        # A pass without requests adds to the budget what the journal recorded, before the first purchase.
        async with self._client.as_completed((), resume=RUN) as outcomes:
            async for _ in outcomes:
                pass
        for purchase in self._known.values():
            if not purchase.files:  # what was saved and then deleted stays deleted until it is asked for
                self.follow_paid(purchase)

    def _follow(self, purchase: Purchase) -> None:
        if not purchase.is_followed:
            purchase.restart()
            self._tg.start_soon(self._work_on, purchase)

    async def _work_on(self, purchase: Purchase) -> None:
        """Buy *purchase* or follow its task, and save its files. The journal decides which it is."""
        try:
            task = await self._client.submit(purchase.request, run=RUN)
            purchase.accept(task)
            generation = await task.result(timeout=None)
            purchase.succeed(generation)
            purchase.files = await generation.save(self._folder)
        except Exception as error:  # noqa: BLE001 - the agent sees it, and the other purchases go on
            if not isinstance(error, (RuxaError, OSError)):
                logger.error("the purchase %s ended with a bug", purchase.handle, exc_info=error)
            purchase.stop(error)
        finally:
            purchase.end()


@asynccontextmanager
async def open_purchases(client: RuxaClient, journal: _Entries, folder: Path) -> AsyncIterator[Purchases]:
    """Yield the purchases in *folder*, whose *journal* is that of *client*.

    When it is left, creates on the wire are finished by the client, and paid tasks are left to the next
    process.
    """
    async with anyio.create_task_group() as tg:
        purchases = Purchases(client, folder, tg)
        await purchases.load(journal)
        yield purchases
        tg.cancel_scope.cancel()
