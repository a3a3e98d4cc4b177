"""Traceable results: figures with the versions, the machine, the commit and the date of their run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from benchmarks._figures import Row
from benchmarks._harness import Options

__all__ = ("RESULTS", "Measured", "record")

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    *("ruxa-async", "aiohttp", "yarl", "multidict", "anyio", "attrs", "cattrs", "uvloop"),
    *("aiometer", "tenacity", "fal-client", "replicate", "openai", "runwayml"),
)


@attrs.frozen
class Measured:
    """The results of a benchmark: *rows* for tables, and *series* of numbers or points by name for plots.

    *suffix* is added to the benchmark's name in the name of the file.
    """

    rows: Sequence[Row]
    series: Mapping[str, Any] = {}
    suffix: str = ""


def record(name: str, measured: Measured, options: Options) -> Path:
    """Write *measured* to the file of benchmark *name* and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--verify", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain")),
        "options": attrs.asdict(options),
        "machine": _machine(),
        "versions": {package: _version(package) for package in _PACKAGES},
        "rows": list(measured.rows),
        "series": dict(measured.series),
    }
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return path


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "cores": os.cpu_count(),
        # The load of the machine, other processes included: the mean of the last five minutes.
        "load": round(os.getloadavg()[1], 1) if hasattr(os, "getloadavg") else None,
    }


def _first(path: str, name: str) -> str | None:
    """Return the text after the colon in the first line of *path* that begins with *name*."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
