"""Standard output, which belongs to results alone.

A reader may be slow or gone. A thread of its own therefore writes the results: the event loop, which receives
the replies to creates, never waits for a reader.
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

#: Takes the bytes of a line, its end included, and never waits.
Put: TypeAlias = Callable[[bytes], object]

#: For how many seconds a reader is waited for after an interrupt.
_PATIENCE = 2.0
_NO_OUTPUT = "there is no standard output to print to"


def print_line(text: object) -> None:
    """Print *text* on a line of its own; if nobody reads it, nothing is lost, so that is not an error."""
    if sys.stdout is not None:  # as it is where the process was started without one
        print_text(f"{text}\n")


def print_text(text: str) -> None:
    """Print *text* and nothing else.

    Raises `InputError` if there is no standard output, OSError if it takes nothing.
    """
    if sys.stdout is None:
        raise InputError(_NO_OUTPUT)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would raise again at exit.
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(f"standard output cannot be written to: {error.strerror or error}") from error


@asynccontextmanager
async def printing() -> AsyncIterator[Put]:
    """Give a function that prints lines, and print them all before this is left.

    When they cannot be printed, because nobody reads them or for another reason, what is inside is cancelled
    and the OSError raised. After an interrupt what is not printed within two seconds is not printed. Raises
    `InputError` if there is no standard output.
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
        with anyio.move_on_after(_PATIENCE, shield=True):
            await printer.done.wait()
    if printer.error is not None:
        raise printer.error


class _Printer:
    """Writes lines in a thread; *scope* is cancelled when that fails, *done* is set after the last line."""

    def __init__(self, file: io.FileIO) -> None:
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.error: OSError | None = None
        self._file = file
        self._token = lowlevel.current_token()

    def work(self, lines: SimpleQueue[bytes | None]) -> None:
        """Write what comes until None comes. For a thread that may be left waiting."""
        try:
            while (line := lines.get()) is not None:
                view = memoryview(line)
                while view:
                    view = view[self._file.write(view) or 0 :]
        except BrokenPipeError as error:
            self.error = error
        except OSError as error:
            self.error = OSError(f"standard output cannot be written to: {error.strerror or error}")
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(self._ended, token=self._token)

    def _ended(self) -> None:
        self.done.set()
        if self.error is not None:
            self.scope.cancel()


def _raw_output() -> io.FileIO:
    """Return standard output without its buffer, whose lock a thread that waits would hold at exit."""
    try:
        sys.stdout.flush()
        return io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
    except (AttributeError, io.UnsupportedOperation):
        raise InputError(_NO_OUTPUT) from None
