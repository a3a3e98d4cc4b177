"""Standard output, which holds nothing but results.

Its reader may be slow or gone, so a thread writes the results. The event loop, which receives the replies to
creates, never waits for the reader.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import TypeAlias

import anyio
from anyio import from_thread, lowlevel

from ruxa_async.batch import InputError

__all__ = ("Put", "print_line", "print_text", "printing")

#: Queues the bytes of a line, with its line end, for printing; returns at once.
Put: TypeAlias = Callable[[bytes], object]

#: Seconds that the reader gets to take the remaining lines after an interrupt.
_DRAIN_SECONDS = 2.0
_NO_OUTPUT = "there is no standard output to print to"


def print_line(text: object) -> None:
    """Print *text* and a line end, or nothing if the process has no standard output."""
    if sys.stdout is not None:
        print_text(f"{text}\n")


def print_text(text: str) -> None:
    """Print *text*. A reader that has left is not an error.

    Raises `InputError` if the process has no standard output, OSError if writing fails.
    """
    if sys.stdout is None:
        raise InputError(_NO_OUTPUT)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # The rest of the buffer is flushed at exit, and would raise again.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise _write_error(error) from error


@asynccontextmanager
async def printing() -> AsyncIterator[Put]:
    """Yield a function that prints lines; all are printed before the context is left.

    If printing fails, also because the reader has left, the body is cancelled and OSError raised. After an
    interrupt, lines that the reader does not take within two seconds are lost. Raises `InputError` if the
    process has no standard output.
    """
    lines, printer = SimpleQueue[bytes | None](), _Printer(_raw_output())
    threading.Thread(target=printer.work, args=(lines,), name="ruxa-async output", daemon=True).start()
    try:
        with printer.scope:
            yield lines.put
        lines.put(None)
        await printer.done.wait()
    finally:
        lines.put(None)
        with anyio.move_on_after(_DRAIN_SECONDS, shield=True):
            await printer.done.wait()
    if printer.error is not None:
        raise printer.error


class _Printer:
    """Writes lines in a thread. Cancels *scope* if that fails, and sets *done* at the end."""

    def __init__(self, file: io.FileIO) -> None:
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.done: anyio.Event = anyio.Event()
        self.error: OSError | None = None
        self._file: io.FileIO = file
        self._token: lowlevel.EventLoopToken = lowlevel.current_token()

    def work(self, lines: SimpleQueue[bytes | None]) -> None:
        """Write *lines* until one is None."""
        try:
            while (line := lines.get()) is not None:
                view = memoryview(line)
                while view:
                    view = view[self._file.write(view) or 0 :]
        except BrokenPipeError as error:
            self.error = error
        except OSError as error:
            self.error = _write_error(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(self._ended, token=self._token)

    def _ended(self) -> None:
        self.done.set()
        if self.error is not None:
            self.scope.cancel()


def _write_error(error: OSError) -> OSError:
    return OSError(f"standard output cannot be written to: {error.strerror or error}")


def _raw_output() -> io.FileIO:
    """Return standard output without its buffer: a thread that waits for the reader would hold its lock."""
    try:
        sys.stdout.flush()
        return io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
    except (AttributeError, io.UnsupportedOperation):
        raise InputError(_NO_OUTPUT) from None
