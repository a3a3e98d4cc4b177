"""Generating on a local Ray cluster, with a real PostgreSQL and the emulator over HTTP: `nox -s ray`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from integrations.worker_program import CREATES_ON_WIRE, make_client, prompt, read
from journal.places import InPostgres
from servers import postgres_or_skip

from ruxa_async import SubmissionUnknownError
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings

ray = pytest.importorskip("ray", reason="needs Ray, about 300 MB: pip install 'ruxa-async[ray]'")
pytest.importorskip("psycopg", reason="needs the extra postgres")

from ruxa_async.integrations.ray import Processed, generate, start_sender, stop_sender  # noqa: E402

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there"),
    pytest.mark.timeout(300),
    # Ray's own: it leaves files and sockets to the garbage collector, and announces changes of its defaults.
    pytest.mark.filterwarnings("default"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    emulator = Emulator(EmulatorSettings(image=Durations(0.15, 0.3)))
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with postgres_or_skip() as running:
        yield running.dsn


@pytest.fixture(scope="module", autouse=True)
def _cluster(emulator: Emulator) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUXA_API_KEY", emulator.key)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def place(dsn: str, emulator: Emulator) -> Iterator[InPostgres]:
    place = InPostgres(dsn)
    start_sender(partial(make_client, emulator.url, place.dsn, place.schema), num_cpus=0)
    yield place
    stop_sender()


def bought(emulator: Emulator, place: InPostgres) -> Counter[str]:
    prompts = [entry.input["prompt"] for entry in emulator.service.ledger.entries]
    return Counter(prompt for prompt in prompts if prompt.startswith(place.schema))


def shard_of(name: str, numbers: range) -> list[Processed[tuple[int, int]]]:
    """What a Ray task does with its part of the prompts."""
    return generate([prompt(number, name) for number in numbers], run="catalogue", post_process=read)


def test_tasks_that_are_run_twice_buy_once(emulator: Emulator, place: InPostgres) -> None:
    task = ray.remote(num_cpus=1)(shard_of)
    parts = [range(start, start + 10) for start in (0, 10, 20)] * 2
    parts.append(range(5, 25))  # overlapping
    results = [
        result for part in ray.get([task.remote(place.schema, part) for part in parts]) for result in part
    ]
    assert all(result.ok for result in results)
    assert bought(emulator, place) == Counter({f"{place.schema} {n}": 1 for n in range(30)})


def test_the_actor_is_killed_and_starts_again(emulator: Emulator, place: InPostgres) -> None:
    task = ray.remote(num_cpus=0.5)(shard_of)
    waiting = [task.remote(place.schema, range(start, start + 10)) for start in range(0, 100, 10)]
    end = time.monotonic() + 60
    while sum(bought(emulator, place).values()) < 20:
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
    ((holder,),) = place.rows("SELECT name FROM holder")
    os.kill(int(holder.split()[1]), signal.SIGKILL)
    results = [result for part in ray.get(waiting, timeout=120) for result in part]
    failed = [result.error for result in results if not result.ok]
    assert all(isinstance(error, SubmissionUnknownError) for error in failed), failed
    assert len(failed) <= CREATES_ON_WIRE
    assert set(bought(emulator, place).values()) == {1}
    assert len(results) == 100


def test_ray_data_maps_batches_of_rows_to_facts(emulator: Emulator, place: InPostgres) -> None:
    data = pytest.importorskip("ray.data", reason="needs pip install 'ray[data]'")

    def pictures(batch: dict[str, Any], name: str) -> dict[str, Any]:
        requests = [prompt(int(number), name) for number in batch["id"]]
        results = generate(requests, run="catalogue", post_process=read)
        return {"key": [one.request.key for one in results], "size": [one.unwrap()[0] for one in results]}

    mapped = data.range(24).map_batches(pictures, batch_size=8, fn_kwargs={"name": place.schema})
    rows = mapped.take_all()
    assert {row["key"] for row in rows} == {f"k{n}" for n in range(24)}
    assert all(row["size"] > 0 for row in rows)
    assert bought(emulator, place) == Counter({f"{place.schema} {n}": 1 for n in range(24)})


def test_what_make_client_raises_reaches_the_caller(place: InPostgres) -> None:
    def missing() -> Any:
        raise LookupError("no DSN here")

    start_sender(missing, name="missing", num_cpus=0)
    with pytest.raises(LookupError, match="no DSN here"):
        generate([prompt(0, place.schema)], run="missing", name="missing")
    stop_sender("missing")
    with pytest.raises(ValueError, match="missing"):
        generate([prompt(0, place.schema)], run="missing", name="missing")
