"""Learned durations and rate limits, which one client saves in its journal and the next one loads."""

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
#: Seconds after which saved rates are not loaded: a limit that was raised is found slowly from an old rate.
_RATES_VALID = 3600.0
#: Seconds between two saves: a killed process loses what it learned since the last one.
_SAVE_EVERY = 10.0


class LearnedState:
    """The learned state of one client. Without a `LastingJournal` every method does nothing."""

    def __init__(self, journal: Journal, engine: Engine[Any], *, base_url: str, api_key: str) -> None:
        # The class is checked as well: a mock has every attribute.
        lasting = isinstance(journal, LastingJournal) and hasattr(type(journal), "bind")
        self._journal = cast("LastingJournal", journal) if lasting else None
        self._engine = engine
        self._polling = engine.schedule
        self._rates = engine.scopes
        self._base_url = base_url
        self._api_key = api_key
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<LearnedState of {self._journal!r}>"  # not the key

    @property
    def is_enabled(self) -> bool:
        """Whether the journal is a `LastingJournal`."""
        return self._journal is not None

    @property
    def on_file_saved(self) -> Callable[[str, SavedFile], Awaitable[None]] | None:
        """The function to call with each downloaded file, None without such a journal."""
        return None if self._journal is None else self._journal.saved

    def require_journal(self) -> LastingJournal:
        """Return the journal. Raises `ConfigurationError` if it is not a `LastingJournal`."""
        if self._journal is None:
            raise ConfigurationError(
                "resume= and run= need a journal that lasts: make the client with journal=SqliteJournal(path)"
            )
        return self._journal

    async def open(self) -> None:
        """Open the journal unless it is open, check that it is this account's, and load the learned state."""
        if self._journal is None:
            return
        async with AsyncExitStack() as stack:
            if not self._journal.is_open:
                await stack.enter_async_context(self._journal)
            await self._journal.bind(base_url=self._base_url, api_key=self._api_key)
            stack.push_async_callback(self._journal.unbind)
            if (takeover := self._journal.takeover) is not None:
                self._engine.take_over(
                    anyio.current_time() - takeover.idle,
                    unknown=takeover.unknown,
                    accepted=takeover.accepted,
                )
            self._load(await self._journal.learned(_DURATIONS), await self._journal.learned(_RATES))
            self._stack = stack.pop_all()

    def _load(self, durations: Any, rates: Any) -> None:
        try:
            self._polling.load(durations or {})
            if rates is not None:
                ago = max(0.0, time.time() - rates["at"])
                if ago <= _RATES_VALID:
                    self._rates.load(rates["found"], anyio.current_time())
        except (TypeError, KeyError, AttributeError, ValueError) as exc:
            logger.warning(
                "the learned state in the journal cannot be read, so learning starts over: %r", exc
            )

    async def save_periodically(self) -> None:
        """Save every 10 seconds, in case the process is killed."""
        while self._journal is not None:
            await anyio.sleep(_SAVE_EVERY)
            with suppress(JournalError):  # the next create raises it
                await self._save(self._journal)

    async def _save(self, journal: LastingJournal) -> None:
        await journal.learn(_DURATIONS, self._polling.export())
        await journal.learn(_RATES, {"at": time.time(), "found": self._rates.export()})

    async def close(self) -> None:
        """Save the learned state, and close the journal if `open` opened it. Its rows are durable already."""
        if self._journal is None:
            return
        try:
            async with self._stack:
                await self._save(self._journal)
        except JournalError as exc:
            logger.warning(
                "the journal could not be closed in order, but what it acknowledged is safe: %s", exc
            )
