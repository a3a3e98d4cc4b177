"""A batch that is killed at any point goes on: nothing lost, nothing bought twice, nothing half done.

Real processes.

The service is in this process and lives through it all; its ledger is the witness. RUXA_LONG=1 adds kills at
random times; `nox -s crash` runs that and shows the figures.
"""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest
from crash.folders import Findings, Folder
from crash.forks import NO_LINKS, TRANSPORTS
from crash.lanes import KILLED, Lane, served

from ruxa_async._internal.failpoints import FAILPOINTS
from ruxa_async.emulator import Durations, TokenBucket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it forks, and kills by pidfd")

LANES = 3
#: One more point, at which the service kills: it has charged, and its reply is not written.
CHARGED = "charged"
#: The one point that is met only on a disk without links, and the one that is met when a run has told other
#: lines.
NAME_TAKEN, TIDIED = "name taken", "lines tidied"
LONG = bool(os.environ.get("RUXA_LONG"))
KILLS = 300 if LONG else 10
#: At these, ten creates are in flight, the last ones apart: each job meets them once.
ONCE_A_JOB = [
    "create taken",
    "intent durable",
    "create sent",
    "reply read",
    "task id durable",
    "end seen",
    "outcome yielded",
    "file placed",
]

_T = TypeVar("_T")
_logger = logging.getLogger("crash")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def lanes() -> Iterator[SimpleQueue[Lane]]:
    free: SimpleQueue[Lane] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(LANES):
            free.put(stack.enter_context(Lane()))
        yield free


@pytest.fixture(scope="module", params=TRANSPORTS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def totals(backend: str) -> Iterator[Findings]:
    found = Findings()
    yield found
    _logger.info("all points on %s: %s", backend, found)


@pytest.fixture(scope="module")
def plain(backend: str, lanes: SimpleQueue[Lane], tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How often each point is reached by a run that nobody kills, or by another one on a disk without links."""
    lane = lanes.get()
    counts: list[dict[str, int]] = []
    for worse in (None, NO_LINKS):
        with served() as emulator:
            folder = Folder(
                tmp_path_factory.mktemp("plain") / "out", emulator, lane, worse=worse, backend=backend
            )
            ended = folder.run()
            assert ended.status == 0
            assert folder.finish().problems == []
            counts.append(ended.counts)
            assert ended.counts[TIDIED] == 0
            ended.counts[TIDIED] = folder.run().counts[TIDIED]  # in the first order again
    lanes.put(lane)
    assert counts[0].pop(NAME_TAKEN) == 0
    return {**counts[1], **counts[0]}


def test_every_failpoint_is_reached_by_a_run_without_kills(plain: dict[str, int]) -> None:
    assert [point for point in FAILPOINTS if not plain[point]] == []
    assert {plain[point] for point in ONCE_A_JOB} == {10}


def killed_at(path: Path, lane: Lane, backend: str, point: str, nth: int) -> Findings:
    """Kill a batch when it reaches *point* for the *nth* time, and finish it."""
    worse = NO_LINKS if point == NAME_TAKEN else None
    for attempt in range(5):
        with served() as emulator:
            folder = Folder(path / f"{nth}-{attempt}", emulator, lane, worse=worse, backend=backend)
            if point == TIDIED:
                folder.run(reverse=True)
            ended = folder.run(kill_at_charge=nth) if point == CHARGED else folder.run(kill=(point, nth))
            found = folder.finish()
        if ended.status == KILLED or found.problems:
            return found
        # How rows and queries group is a matter of luck, and this run had fewer of them.
        nth = ended.counts[point]
    raise AssertionError(f"{point} was never reached {nth} times again")


def side_by_side(
    lanes: SimpleQueue[Lane], work: Callable[[Lane, _T], Findings], over: Iterable[_T]
) -> Findings:
    """Do *work* for each of *over*, in as many lanes as there are; return what all of it came to."""

    def one(item: _T) -> Findings:
        lane = lanes.get()
        try:
            return work(lane, item)
        finally:
            lanes.put(lane)

    found = Findings()
    with ThreadPoolExecutor(LANES) as pool:
        for part in pool.map(one, over):
            found.add(part)
    return found


@pytest.mark.parametrize("point", [*FAILPOINTS, CHARGED])
def test_a_kill_at_each_failpoint_loses_nothing(
    backend: str,
    point: str,
    plain: dict[str, int],
    lanes: SimpleQueue[Lane],
    tmp_path: Path,
    totals: Findings,
) -> None:
    times = 10 if point == CHARGED else plain[point]
    positions = sorted({1, (times + 1) // 2, times})
    if backend != "asyncio" and not LONG:
        positions = positions[len(positions) // 2 :][:1]
    found = side_by_side(lanes, lambda lane, nth: killed_at(tmp_path, lane, backend, point, nth), positions)
    totals.add(found)
    assert found.problems == []
    assert found.kills == len(positions)


@pytest.mark.parametrize(
    ("worse", "point", "bad"),
    [
        ("careless intent", "create sent", "twice"),
        ("careless ending", "reply read", "lost"),
        ("careless name", "file named", "partial"),
    ],
)
def test_the_checks_find_lost_and_duplicate_purchases(
    lanes: SimpleQueue[Lane], tmp_path: Path, worse: str, point: str, bad: str
) -> None:
    lane = lanes.get()
    with served() as emulator:
        folder = Folder(tmp_path / "out", emulator, lane, worse=worse)
        folder.run(kill=(point, 5))
        found = folder.finish()
    lanes.put(lane)
    assert getattr(found, bad) > 0


# ---- at random times, again and again in one folder, on services of several kinds

KINDS: list[dict[str, Any]] = [
    {},
    {"fail_share": 0.3, "outputs": 2},
    {"creates": TokenBucket(100.0, burst=4), "retry_after": "seconds"},
    {"latency": 0.1, "image": Durations(0.02, 1.0)},
]


def killed_at_random(path: Path, lane: Lane, backend: str, seed: int) -> Findings:
    """Kill three runs of one batch at times that *seed* decides, and finish it."""
    chance = random.Random(seed)
    with served(**KINDS[seed % len(KINDS)], seed=seed) as emulator:
        folder = Folder(path / str(seed), emulator, lane, rows=chance.choice([10, 25]), backend=backend)
        for _ in range(3):
            folder.run(kill_after=chance.uniform(0.02, 0.5), reverse=chance.random() < 0.5)
        return folder.finish()


def test_kills_at_random_times_lose_nothing(backend: str, lanes: SimpleQueue[Lane], tmp_path: Path) -> None:
    found, seed = Findings(), 0
    while found.kills < KILLS:
        batch = range(seed, seed + LANES)
        found.add(
            side_by_side(lanes, lambda lane, seed: killed_at_random(tmp_path, lane, backend, seed), batch)
        )
        assert found.problems == []
        seed += LANES
    _logger.info("at random times on %s, %s folders: %s", backend, seed, found)
