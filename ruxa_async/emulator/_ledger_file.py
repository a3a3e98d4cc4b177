"""A ledger in a file, so that an emulator that was stopped, however harshly, goes on where it was.

Each purchase is a line of JSON that is handed to the system before the service answers. It survives the death
of the process; a loss of power may cost the last ones. Times in the file are in seconds since the epoch, so
tasks go on while nobody serves them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any

import attrs
from attrs import frozen

from ._tasks import EmulatedTask

__all__ = ("KeptTask", "LedgerFile")

_VERSION = 1


@frozen
class KeptTask:
    """A task that was charged, and the callback address it was given."""

    task: EmulatedTask
    callback: str | None = None

    def shifted(self, seconds: float) -> KeptTask:
        """Return the same with instants that are *seconds* later, to go from one clock to another."""
        task = attrs.evolve(self.task, created=self.task.created + seconds, ends=self.task.ends + seconds)
        return KeptTask(task, self.callback)


class LedgerFile:
    """The file at *path*, open from construction to `close`; *port* is where it was served last, 0 if never.

    Raises ValueError for a file that is no ledger, and OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.port = 0
        self.tasks: list[KeptTask] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._path, os.O_CREAT | os.O_RDWR, 0o600
            )  # prompts are nobody else's business
        except OSError as error:
            raise OSError(f"the ledger {self._path} cannot be kept: {error.strerror or error}") from error
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            self._read_all()
        except BaseException:
            self.close()
            raise

    def _read_all(self) -> None:
        """Take in every whole line, and cut off one that a kill broke in the middle."""
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                self._read(json.loads(line))
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise ValueError(
                    f"{self._path} is no ledger of an emulator (line {number}: {error!r})"
                ) from error
        self._file.truncate(whole)
        self._file.seek(whole)

    def _read(self, entry: dict[str, Any]) -> None:
        callback = entry.pop("callback", None)
        if "port" in entry:
            self.port = int(entry["port"])
        else:
            self.tasks.append(KeptTask(EmulatedTask(**entry), callback))

    def serve_at(self, port: int) -> None:
        """Note where the emulator can be reached now: the next one is best reached there too."""
        self._write({"v": _VERSION, "port": port})

    def keep(self, kept: KeptTask) -> None:
        """Write *kept*, whose instants are in seconds since the epoch."""
        self._write({**attrs.asdict(kept.task), "callback": kept.callback})

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        view = memoryview(json.dumps(entry).encode() + b"\n")
        while view:
            view = view[self._file.write(view) or 0 :]
