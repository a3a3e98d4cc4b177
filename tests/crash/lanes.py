"""A service that survives every kill, and the processes that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from attrs import frozen
from crash.forks import COUNTS, FIRST

from ruxa_async._internal.failpoints import FAILPOINTS
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings

ROWS = 10
#: The status of a process that was ended by SIGKILL, which not every system knows by that name.
KILLED = -9


@contextmanager
def served(**settings: Any) -> Iterator[Emulator]:
    """The service, in a thread of this process: it lives through every kill."""
    settings = {"image": Durations(0.1, 0.5), "latency": 0.02, **settings}
    emulator = Emulator(EmulatorSettings(**settings))
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()


@frozen
class Ended:
    """How a process ended, how often it had reached each point, and after how many seconds its first request left."""

    status: int
    seconds: float
    counts: dict[str, int]
    first: float

    @property
    def in_hand(self) -> int:
        """Creates between being taken and their task id's being durable: what may be on the wire."""
        return self.counts["create taken"] - self.counts["task id durable"]


class Lane:
    """One process that forks children, one at a time."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(
        self,
        folder: Path,
        emulator: Emulator,
        *,
        rows: int = ROWS,
        worse: str | None = None,
        backend: str = "asyncio",
        reverse: bool = False,
        kill: tuple[str, int] | None = None,
        kill_after: float | None = None,
        born: Callable[[int], object] = lambda _: None,
    ) -> Ended:
        """Run the batch of *folder* in a child until it ends or is killed; *born* is told its pid."""
        counts = folder.with_name(f"{folder.name}.counts")
        command = {
            "out": str(folder),
            "url": emulator.url,
            "key": emulator.key,
            "rows": rows,
            "worse": worse,
            "backend": backend,
            "reverse": reverse,
            "kill": kill,
            "kill_after": kill_after,
            "counts": str(counts),
            "log": str(folder.with_name(f"{folder.name}.log")),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        counts.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        born(int(self._process.stdout.readline()))
        said = json.loads(self._process.stdout.readline())
        kept = counts.read_bytes() if counts.exists() else b""
        reached = COUNTS.unpack_from(kept) if kept else (0,) * len(FAILPOINTS)
        (first,) = FIRST.unpack_from(kept, COUNTS.size) if kept else (0.0,)
        return Ended(said["status"], said["seconds"], dict(zip(FAILPOINTS, reached, strict=True)), first)
