"""What every command needs: the client it works with, interruption, errors as sentences, exit codes."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskStatus
from rich.console import Console

from ruxa_async._internal.files import ensure_writable
from ruxa_async._logging import FORMAT, asked_level, logger, stderr_handler
from ruxa_async.batch import InputError, RowError
from ruxa_async.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    JournalInUseError,
    JournalMismatchError,
    MissingExtraError,
    PermissionDeniedError,
    RequestValidationError,
    RuxaError,
    SubmissionHalted,
)
from ruxa_async.settings import Retries

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient

__all__ = (
    "BAD_INPUT",
    "DONE",
    "HALTED",
    "INTERRUPTED",
    "SOME_FAILED",
    "console",
    "need_folder",
    "need_key",
    "open_client",
    "printable",
    "run",
    "say",
)

#: Not printable, but no more than an end of line, and what joins the letters and pictures of some scripts.
_HARMLESS = frozenset("\n\u200c\u200d")

#: What a second interrupt leaves for writing down what is known.
_LAST_SECONDS = 2.0

#: Seconds in which the service must be reached for the first time: a user waits at the screen.
_REACHED_WITHIN = 30.0

#: The clients at work, which a second interrupt hurries.
_clients: set[RuxaClient] = set()

DONE, SOME_FAILED, BAD_INPUT, HALTED, INTERRUPTED = 0, 1, 2, 3, 130

_BAD_INPUT = (
    InputError,
    RowError,
    RequestValidationError,
    MissingExtraError,
    JournalInUseError,
    JournalMismatchError,
    ValueError,
)
_HALTED = (SubmissionHalted, AuthenticationError, InsufficientCreditsError, PermissionDeniedError)

#: For people: standard error, so that standard output holds results alone.
console = Console(stderr=True, highlight=False)


def say(sentence: str) -> None:
    """Tell the person at the terminal, above any live display."""
    console.print(f"ruxa-async: {printable(sentence)}", markup=False, emoji=False, soft_wrap=True)


def printable(text: str) -> str:
    """Return *text* without what a terminal would obey: prompts and messages come from outside."""
    return "".join(each if each.isprintable() or each in _HARMLESS else "\ufffd" for each in text)


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

    The library's warnings are shown, unless *quiet*, and what RUXA_LOG asks for in any case.
    """
    level = asked_level()
    handler = _LogHandler(level or (logging.ERROR if quiet else logging.WARNING))
    if level is not None:
        handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    logger.removeHandler(stderr_handler)  # it would write into the display
    try:
        return anyio.run(_interruptible, command)
    finally:
        logger.removeHandler(handler)


async def _interruptible(command: Callable[[], Awaitable[int]]) -> int:
    code = INTERRUPTED
    async with anyio.create_task_group() as tg:
        with anyio.CancelScope() as scope:
            # On Windows Ctrl-C arrives as a KeyboardInterrupt, which cancels this as well.
            if sys.platform != "win32":
                await tg.start(_stop_on_signals, scope)
            code = await command()
        tg.cancel_scope.cancel()
    return code


async def _stop_on_signals(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Stop in order at the first signal, and without waiting for answers at the second."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        received = aiter(signals)
        await anext(received)
        say("stopping; what is being sent right now may take some seconds (interrupt again to leave at once)")
        scope.cancel()
        await anext(received)
        say("leaving at once")
        _leave_within(_LAST_SECONDS)
        for client in tuple(_clients):
            client.abort_drain()
        await anyio.sleep_forever()


def _leave_within(seconds: float) -> None:
    """End the process after *seconds*, even if something still blocks it.

    The journal's thread writes until then.
    """
    last = threading.Timer(seconds, os._exit, [INTERRUPTED])
    last.daemon = True
    last.start()


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: BaseException) -> int:
    if isinstance(error, _BAD_INPUT):
        say(str(error))
        return BAD_INPUT
    if isinstance(error, BrokenPipeError):
        say("nobody reads standard output any more, so this was stopped; run the same again to go on")
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        say(
            f"{error.filename or 'a file'}: the disk is full: free some space and run the same again to go on"
        )
        return SOME_FAILED
    if isinstance(error, (RuxaError, OSError)):
        say(str(error) or type(error).__name__)
        return HALTED if isinstance(error, _HALTED) else SOME_FAILED
    say(
        f"this should not have happened: {type(error).__name__}: {error} (RUXA_DEBUG=1 shows where; please "
        "report it)"
    )
    return SOME_FAILED


def need_key() -> None:
    """Raise `InputError` without an API key, before aiohttp is imported and before a file is made."""
    if not os.environ.get("RUXA_API_KEY"):
        raise InputError("no key: set RUXA_API_KEY to yours, or try it out with --emulator, which needs none")


def need_folder(folder: Path) -> None:
    """Make *folder* if it does not exist.

    Raises `InputError` if outputs could not be written to it: before any is bought.
    """
    try:
        ensure_writable(folder)
    except FileExistsError as error:
        raise InputError(f"{folder} is not a folder: give another --out") from error
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error


@asynccontextmanager
async def open_client(
    *,
    emulator: bool,
    speed: float,
    ledger: Path | None = None,
    **settings: Any,
) -> AsyncIterator[RuxaClient]:
    """Yield a client with these *settings*, for the service or for an emulator.

    The emulator runs at *speed* times real time. *ledger* keeps what that emulator charged.
    """
    if not emulator:
        need_key()
    from ruxa_async import RuxaClient  # noqa: PLC0415 - wrong usage should not wait for aiohttp

    settings.setdefault("retries", Retries(unreachable_timeout=_REACHED_WITHIN))
    async with AsyncExitStack() as stack:
        if emulator:
            from ruxa_async.emulator import Emulator, EmulatorSettings  # noqa: PLC0415 - Pillow is an extra

            served = Emulator(EmulatorSettings(speed=speed, dialect="detailed"), ledger=ledger)
            service = await stack.enter_async_context(served)
            settings |= {"api_key": service.key, "base_url": service.url}
        client = await stack.enter_async_context(RuxaClient(**settings))
        _clients.add(client)
        stack.callback(_clients.discard, client)
        yield client
