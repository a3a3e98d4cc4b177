"""A fresh client process for each measurement on core 0, and its server on core 1, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks._figures import Sample

__all__ = ("CLIENT_CORE", "SERVER_CORE", "Server", "client", "pin")

CLIENT_CORE, SERVER_CORE = 0, 1
_ROOT = Path(__file__).parents[1]
_PATIENCE = 900.0


def pin(core: int) -> None:
    """Keep this process on *core*, if the system permits it and has more than one."""
    if hasattr(os, "sched_setaffinity") and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


def client(name: str, **job: Any) -> Sample:
    """Run the client *name* of `_clients` in a process of its own and return its measurements."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._clients"],
        input=json.dumps({"client": name, **job}),
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        check=True,
        timeout=_PATIENCE,
    )
    sample: Sample = json.loads(done.stdout)
    return sample


class Server:
    """The emulator in a process of its own; *settings* are those of `EmulatorSettings` that JSON can hold.

    *median* and *sigma* are those of the durations. *instant* starts a server that costs next to nothing, in
    which every task is done at once. `report` returns what it logged.
    """

    def __init__(
        self, *, median: float = 0.0, sigma: float = 0.0, instant: bool = False, **settings: Any
    ) -> None:
        self._settings: dict[str, Any] = {"median": median, "sigma": sigma, **settings}
        if instant:
            self._settings = {"instant": True}
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        self.url = self._ask(self._settings)["url"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        with process:  # closes the other pipe
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def report(self) -> dict[str, Any]:
        """Return counts, CPU seconds, the end of each task and the arrival of each request."""
        return self._ask("report")

    def _ask(self, question: object) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the benchmark's server ended before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer
