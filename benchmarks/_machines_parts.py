"""The parts of one deployment: PostgreSQL, Redis, the emulated service, senders and submitters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from attrs import define, field, frozen

from benchmarks._children import Child
from benchmarks._machines_program import JOB

_ROOT = Path(__file__).parents[1]
sys.path.append(str(_ROOT / "tests"))

from servers import Postgres, RedisServer, postgres, postgres_missing, redis_missing, redis_server  # noqa: E402

__all__ = ("Deployment", "Servers", "Worker", "cpu_seconds", "deployment", "missing", "servers", "until")

_T = TypeVar("_T")
#: seconds until a part that does not react counts as failed
_PATIENCE = 120.0


def missing() -> str | None:
    """Return how to get what the benchmark needs and this machine does not have, else None."""
    if find_spec("psycopg") is None or find_spec("taskiq_redis") is None:
        return "needs psycopg and taskiq-redis: pip install 'ruxa-async[postgres,taskiq]'"
    return postgres_missing() or redis_missing()


@frozen
class Servers:
    """A PostgreSQL and a Redis server of this benchmark."""

    database: Postgres
    redis: RedisServer


@contextmanager
def servers() -> Iterator[Servers]:
    """Run both servers."""
    with postgres() as database, redis_server() as redis:
        yield Servers(database, redis)


def until(condition: Callable[[], _T]) -> _T:
    """Wait until *condition* returns a true value, and return it."""
    deadline = time.monotonic() + _PATIENCE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("a part of the benchmark did not react")
        time.sleep(0.02)
    return value


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of the process *pid*: user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@define(eq=False)
class Deployment:
    """An emulated service, and a schema and a queue of its own on *servers*."""

    servers: Servers
    emulator: Child
    url: str
    name: str = field(factory=lambda: f"m{uuid.uuid4().hex}")

    def job(self, through: str, *, rate: int, burst: int, lease: float = 10.0) -> dict[str, Any]:
        """Return the job of a process that buys *through* a journal or taskiq, for `_machines_program`."""
        return {
            "through": through,
            "url": self.url,
            "rate": rate,
            "burst": burst,
            "lease": lease,
            "sqlite": str(self.servers.redis.folder / f"{self.name}.db"),
            "dsn": self.servers.database.dsn,
            "schema": self.name,
            "redis": self.servers.redis.url,
            "queue": self.name,
        }

    def report(self) -> dict[str, Any]:
        """Return the ledger and the counts of the service."""
        return self.emulator.ask("report")

    def creates(self) -> list[float]:
        """Return the instants of the creates that the service accepted."""
        return [at for at, _ in self.report()["accepted"]]

    def holder(self) -> int:
        """Return the id of the process that holds the journal in PostgreSQL, 0 if none does."""
        rows = self.query("SELECT name FROM {}.holder WHERE lease_until > clock_timestamp()")
        return int(rows[0][0].split()[1]) if rows and rows[0][0] else 0

    def query(self, sql: str) -> list[Any]:
        """Return the rows of *sql*, in which braces stand for the schema; none if there is no schema yet."""
        import psycopg

        with suppress(psycopg.Error), psycopg.connect(self.servers.database.dsn) as connection:
            return connection.execute(sql.format(self.name).encode()).fetchall()
        return []


@contextmanager
def deployment(servers: Servers, **settings: Any) -> Iterator[Deployment]:
    """Run the emulated service in a process of its own, with the *settings* of `_limited.settings_of`."""
    with Child("_limited") as emulator:
        yield Deployment(servers, emulator, emulator.ask(settings)["url"])


class Worker:
    """``taskiq worker`` with one worker process, in a process group of its own, for a *job*."""

    def __init__(self, job: dict[str, Any], log: Path) -> None:
        self._job = job
        self._log = log

    def __enter__(self) -> Self:
        command = ["taskiq", "worker", "benchmarks._machines_taskiq:worker", "--workers", "1"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command, "--max-async-tasks", "2000", "--log-level", "WARNING"],
                env={**os.environ, JOB: json.dumps(self._job)},
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=_ROOT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.signal(signal.SIGKILL)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def hear(self) -> None:
        """Wait until the worker process opens its client."""
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"the worker ended: {self._log.read_text(encoding='utf-8')[-2_000:]}")

    def signal(self, number: int) -> None:
        """Send a signal to both processes, as systemd does, and as the loss of a machine kills both."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            if number == signal.SIGKILL:
                self._process.wait()
