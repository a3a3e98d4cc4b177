"""What the service charged, in memory and in a file: the proof that nothing was bought twice or lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import attrs
from attrs import define, field, frozen

from ._tasks import EmulatedTask

__all__ = ("Counts", "KeptTask", "Ledger", "LedgerFile", "Purchase")

_VERSION = 1


@frozen(kw_only=True)
class Purchase:
    """One accepted create: what was bought for how many *credits*.

    *at* is its time in seconds on the service's clock, *callback* the address from the create, if any.
    """

    task_id: str
    model: str
    input: Mapping[str, Any]
    credits: float
    at: float
    callback: str | None = None

    @property
    def identity(self) -> str:
        """Model and input as JSON, equal for requests that differ only in the order of their fields."""
        return json.dumps([self.model, self.input], sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@define(eq=False)
class Ledger:
    """Every purchase in order, and the sum of their credits."""

    entries: list[Purchase] = field(factory=list)
    credits_spent: float = 0.0

    @property
    def charged(self) -> int:
        """The number of creates that were charged."""
        return len(self.entries)

    def record(self, purchase: Purchase) -> None:
        """Add *purchase*."""
        self.entries.append(purchase)
        self.credits_spent += purchase.credits

    def duplicates(self) -> list[tuple[Purchase, ...]]:
        """Return the purchases of the same model and input in groups, if there is more than one."""
        groups: dict[str, list[Purchase]] = {}
        for purchase in self.entries:
            groups.setdefault(purchase.identity, []).append(purchase)
        return [tuple(group) for group in groups.values() if len(group) > 1]

    def missing(self, known: Iterable[str]) -> list[Purchase]:
        """Return the purchases whose task ids are not in *known*: those that the client paid for and lost."""
        ids = set(known)
        return [purchase for purchase in self.entries if purchase.task_id not in ids]


@define(eq=False)
class Counts:
    """The numbers of requests to the service. Downloads need no key and are never limited."""

    creates: int = 0
    queries: int = 0
    files: int = 0
    #: Creates that were rejected (429), those of *creates_capped* included.
    creates_throttled: int = 0
    queries_throttled: int = 0
    #: Creates that were rejected because *max_running* tasks were running.
    creates_capped: int = 0
    #: Posts to callback addresses, forged ones included, and those of them without a 2xx reply.
    callbacks: int = 0
    callbacks_refused: int = 0
    #: Requests whose reply a fault delayed, changed or prevented.
    faults: int = 0

    @property
    def throttled(self) -> int:
        """The number of requests that were rejected (429)."""
        return self.creates_throttled + self.queries_throttled


@frozen
class KeptTask:
    """A charged task, and the callback address from its create."""

    task: EmulatedTask
    callback: str | None = None

    def shifted(self, seconds: float) -> KeptTask:
        """Return the same task with its instants *seconds* later, to convert between two clocks."""
        task = attrs.evolve(self.task, created=self.task.created + seconds, ends=self.task.ends + seconds)
        return KeptTask(task, self.callback)


class LedgerFile:
    """The file at *path*, open until `close`, with which the next emulator continues *tasks*.

    Each task is a line of JSON that is handed to the operating system before the service replies. It survives
    a kill of the process; a power failure may lose the last lines. Times are in seconds since the epoch, so
    that tasks go on while no emulator runs. *port* is the last port of the emulator, 0 if the file is new.
    Raises ValueError if the file is not a ledger, and OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path: Path = Path(path)
        self.port: int = 0
        self.tasks: list[KeptTask] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Only the owner may read it: it holds prompts.
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise OSError(f"the ledger {self._path} cannot be kept: {error.strerror or error}") from error
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            self._read_all()
        except BaseException:
            self.close()
            raise

    def _read_all(self) -> None:
        """Read every complete line, and cut off a last one that a kill left incomplete."""
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:complete].splitlines(), 1):
            try:
                self._read(json.loads(line))
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise ValueError(
                    f"{self._path} is no ledger of an emulator (line {number}: {error!r})"
                ) from error
        self._file.truncate(complete)
        self._file.seek(complete)

    def _read(self, entry: dict[str, Any]) -> None:
        callback = entry.pop("callback", None)
        if "port" in entry:
            self.port = int(entry["port"])
        else:
            self.tasks.append(KeptTask(EmulatedTask(**entry), callback))

    def record_port(self, port: int) -> None:
        """Write down *port*, which the next emulator with this file tries to use again."""
        self._write({"v": _VERSION, "port": port})

    def keep(self, kept: KeptTask) -> None:
        """Write down *kept*, with its instants in seconds since the epoch."""
        self._write({**attrs.asdict(kept.task), "callback": kept.callback})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        view = memoryview(json.dumps(entry).encode() + b"\n")
        while view:
            view = view[self._file.write(view) or 0 :]
