"""What a client does with a journal that remembers: opens it, learns from it, and leaves it in order."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, cast

import anyio

from ruxa_async._engine.engine import Engine
from ruxa_async._logging import logger
from ruxa_async.errors import ConfigurationError, JournalError
from ruxa_async.journal import Journal, LastingJournal, SavedFile

__all__ = ("LearnedState",)

_DURATIONS = "durations"
_RATES = "rates"
#: For how many seconds a rate is worth remembering: an account's limits may change, and finding them is quick.
_RATES_HOLD = 3600.0
#: How many seconds of learning a kill may cost.
_KEPT_EVERY = 10.0


class LearnedState:
    """The journal of one client, as far as it is a `LastingJournal`; else nothing happens here."""

    def __init__(self, journal: Journal, engine: Engine[Any], *, base_url: str, api_key: str) -> None:
        # Asked of its class as well: an object that answers to every name, as fakes do, promises nothing.
        lasting = isinstance(journal, LastingJournal) and hasattr(type(journal), "bind")
        self._journal = cast("LastingJournal", journal) if lasting else None
        self._cadence = engine.polling
        self._rates = engine.rates
        self._base_url = base_url
        self._api_key = api_key
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<LearnedState of {self._journal!r}>"  # not the key

    @property
    def lasts(self) -> bool:
        """Whether there is such a journal."""
        return self._journal is not None

    @property
    def saved(self) -> Callable[[str, SavedFile], Awaitable[None]] | None:
        """What to tell of each file that is whole, None if nobody wants to know."""
        return None if self._journal is None else self._journal.saved

    def lasting(self) -> LastingJournal:
        """Return the journal. Raises `ConfigurationError` if there is none that lasts."""
        if self._journal is None:
            raise ConfigurationError(
                "resume= needs a journal that lasts: make the client with journal=SqliteJournal(path)"
            )
        return self._journal

    async def open(self) -> None:
        """Open the journal unless its owner did, check that it is this account's, and load what was learned."""
        if self._journal is None:
            return
        async with AsyncExitStack() as stack:
            if not self._journal.is_open:
                await stack.enter_async_context(self._journal)
            await self._journal.bind(base_url=self._base_url, api_key=self._api_key)
            stack.push_async_callback(self._journal.unbind)
            self._load(await self._journal.learned(_DURATIONS), await self._journal.learned(_RATES))
            self._stack = stack.pop_all()

    def _load(self, durations: Any, rates: Any) -> None:
        try:
            self._cadence.load(durations or {})
            if rates is not None:
                ago = max(0.0, time.time() - rates["at"])
                if ago <= _RATES_HOLD:
                    self._rates.load(rates["found"], anyio.current_time())
        except (TypeError, KeyError, AttributeError, ValueError) as exc:
            logger.warning("what the journal has learned cannot be used, so it is learned anew: %r", exc)

    async def keep_learning(self) -> None:
        """Keep what was learned every few seconds, in case the process is killed."""
        while self._journal is not None:
            await anyio.sleep(_KEPT_EVERY)
            with suppress(JournalError):  # a journal that cannot write says so to who buys
                await self._keep(self._journal)

    async def _keep(self, journal: LastingJournal) -> None:
        await journal.learn(_DURATIONS, self._cadence.export())
        await journal.learn(_RATES, {"at": time.time(), "found": self._rates.export()})

    async def close(self) -> None:
        """Keep what was learned, and close the journal if `open` opened it. Every row in it is durable already."""
        if self._journal is None:
            return
        try:
            async with self._stack:
                await self._keep(self._journal)
        except JournalError as exc:
            logger.warning(
                "the journal could not be closed in order, but what it acknowledged is safe: %s", exc
            )
