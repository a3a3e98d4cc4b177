"""Child processes that exchange lines of JSON, so that several can be prepared and then start at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ("Child",)

_ROOT = Path(__file__).parents[1]


class Child:
    """A module of this package as a process, which ends when the block is left."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{self._module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send the signal *number* to the process."""
        self._process.send_signal(number)

    def tell(self, question: object) -> None:
        """Send a line without waiting for a reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for the next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"benchmarks.{self._module} ended before it answered")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, question: object) -> dict[str, Any]:
        """Send a line and wait for the reply."""
        self.tell(question)
        return self.hear()
