"""Real servers for tests, each in a folder of its own and without a port, started once for each test process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define

__all__ = (
    "Postgres",
    "RedisServer",
    "postgres",
    "postgres_missing",
    "postgres_or_skip",
    "redis_missing",
    "redis_server",
)


def _postgres_bin() -> Path | None:
    """Return the folder of initdb and pg_ctl, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return versions[-1].parent if versions else None


def postgres_missing() -> str | None:
    """Return how to get PostgreSQL if it is not installed, else None."""
    if os.name == "nt" or _postgres_bin() is None:
        return "needs PostgreSQL: apt-get install postgresql (its programs are used, no service is started)"
    return None


@define
class Postgres:
    """A PostgreSQL server in *folder*, on a socket in the same folder."""

    folder: Path

    @property
    def dsn(self) -> str:
        return f"postgresql://ruxa@/postgres?host={self.folder}"

    def start(self, *settings: str) -> None:
        options = [f"unix_socket_directories={self.folder}", "listen_addresses=", *settings]
        self._run(
            "pg_ctl",
            "-w",
            "-l",
            str(self.folder / "log"),
            "-o",
            " ".join(f"-c {each}" for each in options),
            "start",
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def kill(self) -> None:
        """Kill the server as the kernel does when memory runs out; `start` recovers it."""
        pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start the server after `kill`, once its other processes have noticed and ended."""
        for _ in range(100):
            try:
                return self.start()
            except subprocess.CalledProcessError:
                time.sleep(0.1)
        raise TimeoutError("the server did not start")

    def create(self) -> None:
        self._run("initdb", "-A", "trust", "-U", "ruxa", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        home = _postgres_bin()
        assert home is not None
        # PostgreSQL refuses to run as root.
        user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        )
        command = [*user, str(home / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server of its own."""
    # Not pytest's folder: the path of a socket must be short, and another user must reach it.
    folder = Path(tempfile.mkdtemp(prefix="ruxa-pg-"))
    folder.chmod(0o755)
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(folder)
    server.create()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_or_skip() -> Iterator[Postgres]:
    """Run a server of its own during the block; skip the test if PostgreSQL is not installed."""
    import pytest

    if (missing := postgres_missing()) is not None:
        pytest.skip(missing)
    with postgres() as running:
        yield running


def redis_missing() -> str | None:
    """Return how to get Redis if it is not installed, else None."""
    if shutil.which("redis-server") is None:
        return "needs Redis: apt-get install redis-server (its program is used, no service is started)"
    return None


@define
class RedisServer:
    """A Redis server in *folder*, on a socket in the same folder, which writes its data at `save` only."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/socket"

    def start(self) -> None:
        settings = {
            "port": "0",
            "unixsocket": f"{self.folder}/socket",
            "dir": str(self.folder),
            "logfile": f"{self.folder}/log",
            "save": "",
            "rdbcompression": "no",  # so that a test can look for texts in the file
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(["redis-server", *options])
        for _ in range(200):
            if self._ask("ping") == "PONG":
                return
            time.sleep(0.05)
        raise TimeoutError("the server did not start")

    def save(self) -> bytes:
        """Write all data to a file, and return its bytes."""
        assert self._ask("save") == "OK"
        return (self.folder / "dump.rdb").read_bytes()

    def kill(self) -> None:
        """Kill the server; with `start` it comes back with the data of the last `save`, else without."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """Remove the data of the last `save`."""
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def _ask(self, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-s", f"{self.folder}/socket", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a server of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ruxa-redis-"))
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
