"""What every command needs: the client it works with, interruption, errors as sentences, exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from rich.console import Console

from ruxa_async.batch.records import InputError
from ruxa_async.batch.requests import RowError
from ruxa_async.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    MissingExtraError,
    PermissionDeniedError,
    RequestValidationError,
    RuxaError,
    SubmissionHalted,
)

if TYPE_CHECKING:
    from ruxa_async._client import RuxaClient
    from ruxa_async.events import EventHook
    from ruxa_async.settings import Limits

__all__ = (
    "BAD_INPUT",
    "DONE",
    "HALTED",
    "INTERRUPTED",
    "SOME_FAILED",
    "console",
    "open_client",
    "run",
    "say",
)

DONE, SOME_FAILED, BAD_INPUT, HALTED, INTERRUPTED = 0, 1, 2, 3, 130

_BAD_INPUT = (InputError, RowError, RequestValidationError, MissingExtraError, ValueError)
_HALTED = (SubmissionHalted, AuthenticationError, InsufficientCreditsError, PermissionDeniedError)

#: For people: standard error, so that standard output holds results alone.
console = Console(stderr=True, highlight=False)


def say(sentence: str) -> None:
    """Tell the person at the terminal, above any live display."""
    console.print(f"ruxa-async: {sentence}", markup=False, emoji=False, soft_wrap=True)


class _LogHandler(logging.Handler):
    """Show the library's warnings above the live display."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def explained(work: Callable[[], int]) -> int:
    """Do *work* and return its exit code; errors become sentences and codes, unless RUXA_DEBUG is set."""
    try:
        return work()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("RUXA_DEBUG"):
            raise
        return _explain(_leaf(error))


def run(command: Callable[[], Awaitable[int]], *, quiet: bool = False) -> int:
    """Run *command* until it ends or is interrupted, and return its exit code.

    The library's warnings are shown, unless *quiet*.
    """
    logger = logging.getLogger("ruxa_async")
    handler = _LogHandler(logging.ERROR if quiet else logging.WARNING)
    logger.addHandler(handler)
    try:
        return anyio.run(_interruptible, command)
    finally:
        logger.removeHandler(handler)


async def _interruptible(command: Callable[[], Awaitable[int]]) -> int:
    code = INTERRUPTED
    async with anyio.create_task_group() as tg:
        with anyio.CancelScope() as scope:
            if (
                sys.platform != "win32"
            ):  # there Ctrl-C arrives as a KeyboardInterrupt, which cancels this as well
                tg.start_soon(_cancel_on_signal, scope)
            code = await command()
        tg.cancel_scope.cancel()
    return code


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            say(
                "stopping; what is being sent right now may take some seconds (interrupt again to leave at once)"
            )
            scope.cancel()
            return


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: BaseException) -> int:
    if isinstance(error, _BAD_INPUT):
        say(str(error))
        return BAD_INPUT
    if isinstance(error, (RuxaError, OSError)):
        say(str(error) or type(error).__name__)
        return HALTED if isinstance(error, _HALTED) else SOME_FAILED
    say(
        f"this should not have happened: {type(error).__name__}: {error} (RUXA_DEBUG=1 shows where; please report it)"
    )
    return SOME_FAILED


@asynccontextmanager
async def open_client(
    *, emulator: bool, speed: float, limits: Limits | None = None, on_event: EventHook | None = None
) -> AsyncIterator[RuxaClient]:
    """Give a client of the service, or of an emulator of its own at *speed* times real time."""
    from ruxa_async import Limits, RuxaClient  # noqa: PLC0415 - wrong usage should not wait for aiohttp

    limits = limits or Limits()
    if emulator:
        from ruxa_async.emulator import Emulator, EmulatorSettings  # noqa: PLC0415 - Pillow is an extra

        async with (
            Emulator(EmulatorSettings(speed=speed)) as service,
            RuxaClient(api_key=service.key, base_url=service.url, limits=limits, on_event=on_event) as client,
        ):
            yield client
    else:
        if not os.environ.get("RUXA_API_KEY"):
            raise InputError(
                "no key: set RUXA_API_KEY to yours, or try it out with --emulator, which needs none"
            )
        async with RuxaClient(limits=limits, on_event=on_event) as client:
            yield client
