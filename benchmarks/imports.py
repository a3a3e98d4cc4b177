"""imports: how long a program takes to import the library, or to make a client.

Each is a fresh interpreter on core 0 that runs one line and ends. The time is that of the whole process, less
that of one that does nothing in the same round. Byte code is cached, files are in memory. The target for the
first import is 80 ms.

Not measured: a first start after an installation or a reboot reads from disk and compiles, and takes longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks._figures import Row, Sample, ratios, spread
from benchmarks._harness import Measure, Options, Round, interleaved
from benchmarks._processes import CLIENT_CORE, pin

__all__ = ("run",)

_BARE = "(nothing)"
_LINES = {
    _BARE: "pass",
    "import ruxa_async": "import ruxa_async",
    "import RuxaClient, NanoBanana": "from ruxa_async import RuxaClient, NanoBanana",
    "RuxaClient()": "from ruxa_async import RuxaClient; RuxaClient()",
    "import asyncio": "import asyncio",
    "import anyio": "import anyio",
    "import aiohttp": "import aiohttp",
}


def run(options: Options) -> list[Row]:
    """Measure every line."""
    pin(CLIENT_CORE)
    for line in _LINES.values():
        _seconds(line)  # so that byte code and files are cached
    variants: dict[str, Measure] = {name: _measure(line) for name, line in _LINES.items()}
    rounds = interleaved(variants, options.times(21, quick=3), about="imports")
    return [_row(name, rounds) for name in _LINES]


def _measure(line: str) -> Measure:
    return lambda _: {"seconds": _seconds(line)}


def _seconds(line: str) -> float:
    environment = {**os.environ, "RUXA_API_KEY": "sk-emulated"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", line], env=environment, check=True)
    return time.perf_counter() - start


def _row(name: str, rounds: list[Round]) -> Row:
    for each in rounds:
        each[name]["over"] = each[name]["seconds"] - each[_BARE]["seconds"]
    return {
        "line": name,
        "ms in all": spread(1e3 * each[name]["seconds"] for each in rounds),
        "ms over nothing": spread(1e3 * each[name]["over"] for each in rounds),
        "x import aiohttp": ratios(rounds, name, "import aiohttp", _whole),
    }


def _whole(sample: Sample) -> float:
    seconds: float = sample["seconds"]
    return seconds
