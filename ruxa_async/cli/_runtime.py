"""Shared by all commands: the client, interruption, errors as sentences, exit codes."""

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

from ._text import printable

if TYPE_CHECKING:
    from ruxa_async._client.client import RuxaClient

__all__ = (
    "BAD_INPUT",
    "DONE",
    "HALTED",
    "INTERRUPTED",
    "SOME_FAILED",
    "console",
    "exit_code_of",
    "open_client",
    "require_folder",
    "require_key",
    "run",
    "say",
)

#: Seconds that the journal gets to write replies after a second interrupt, before the process is ended.
_LAST_SECONDS = 2.0

#: Seconds within which the service must be reached for the first time: a user waits at the screen.
_UNREACHABLE_TIMEOUT = 30.0

#: The open clients, whose drain a second interrupt aborts.
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

#: Standard error: messages for the user. Standard output holds nothing but results.
console = Console(stderr=True, highlight=False)


def say(sentence: str) -> None:
    """Print *sentence* on standard error, above the live display."""
    console.print(f"ruxa-async: {printable(sentence)}", markup=False, emoji=False, soft_wrap=True)


class _LogHandler(logging.Handler):
    """Prints log records above the live display."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def exit_code_of(work: Callable[[], int]) -> int:
    """Return the exit code of *work*. An error is printed as a sentence, or raised if RUXA_DEBUG is set."""
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

    The library's warnings are shown, with *quiet* only its errors. RUXA_LOG sets another level.
    """
    level = asked_level()
    handler = _LogHandler(level or (logging.ERROR if quiet else logging.WARNING))
    if level is not None:
        handler.setFormatter(logging.Formatter(FORMAT))
    logger.addHandler(handler)
    logger.removeHandler(stderr_handler)  # it would write into the live display
    try:
        return anyio.run(_interruptible, command)
    finally:
        logger.removeHandler(handler)


async def _interruptible(command: Callable[[], Awaitable[int]]) -> int:
    code = INTERRUPTED
    async with anyio.create_task_group() as tg:
        with anyio.CancelScope() as scope:
            # On Windows Ctrl-C raises KeyboardInterrupt instead, which cancels the command as well.
            if sys.platform != "win32":
                await tg.start(_stop_on_signals, scope)
            code = await command()
        tg.cancel_scope.cancel()
    return code


async def _stop_on_signals(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Cancel *scope* at the first signal; at the second, stop waiting for replies to creates."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        received = aiter(signals)
        await anext(received)
        say("stopping; creates on the wire may take some seconds (interrupt again to leave at once)")
        scope.cancel()
        await anext(received)
        say("leaving at once")
        _leave_within(_LAST_SECONDS)
        for client in tuple(_clients):
            client.abort_drain()
        await anyio.sleep_forever()


def _leave_within(seconds: float) -> None:
    """End the process after *seconds*, even if something blocks. Until then the journal's thread writes."""
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
        say("the reader of standard output left, so the run was stopped; run the same again to continue")
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        path = error.filename or "a file"
        say(f"{path}: the disk is full: free some space and run the same again to continue")
        return SOME_FAILED
    if isinstance(error, (RuxaError, OSError)):
        say(str(error) or type(error).__name__)
        return HALTED if isinstance(error, _HALTED) else SOME_FAILED
    described = f"{type(error).__name__}: {error}"
    say(f"this is a bug, please report it: {described} (RUXA_DEBUG=1 shows the traceback)")
    return SOME_FAILED


def require_key() -> None:
    """Raise `InputError` without an API key."""
    if not os.environ.get("RUXA_API_KEY"):
        raise InputError("no API key: set RUXA_API_KEY, or try it out with --emulator, which needs none")


def require_folder(folder: Path) -> None:
    """Create *folder* if it does not exist. Raises `InputError` if files cannot be written to it."""
    try:
        ensure_writable(folder)
    except FileExistsError as error:
        raise InputError(f"{folder} is not a folder: give another --out") from error
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error


@asynccontextmanager
async def open_client(
    *, emulator: bool = False, speed: float = 1.0, ledger: Path | None = None, **settings: Any
) -> AsyncIterator[RuxaClient]:
    """Yield a client with these *settings*, for the service or for an *emulator* that is started for it.

    The emulator runs at *speed* times real time and keeps its charges in *ledger*.
    """
    if not emulator:
        require_key()
    from ruxa_async import RuxaClient  # noqa: PLC0415 - not needed to report wrong usage

    settings.setdefault("retries", Retries(unreachable_timeout=_UNREACHABLE_TIMEOUT))
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
