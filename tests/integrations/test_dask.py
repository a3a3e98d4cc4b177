"""Generating on a real Dask cluster of processes, with a real PostgreSQL and the emulator over HTTP.

The emulator's ledger decides what was bought.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask.bag
import pytest
from attrs import define
from distributed import Client, LocalCluster
from integrations.worker_program import CREATES_ON_WIRE, make_client, prompt, prompts, read
from journal.places import InPostgres
from servers import postgres_or_skip

from ruxa_async import (
    AuthenticationError,
    Generation,
    KeyConflictError,
    NanoBanana,
    RuxaClient,
    SubmissionHalted,
    SubmissionUnknownError,
)
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Fault
from ruxa_async.integrations.dask import Processed, generate

_logger = logging.getLogger("tests")

pytest.importorskip("psycopg", reason="needs the extra postgres")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


@define
class Place(InPostgres):
    """An account with a journal of its own, and the emulator that charges it."""

    emulator: Emulator = None  # type: ignore[assignment]

    @property
    def make_client(self) -> partial[RuxaClient]:
        return partial(make_client, self.emulator.url, self.dsn, self.schema)

    @property
    def bought(self) -> Counter[str]:
        """How often each prompt of this account was charged."""
        entries = self.emulator.service.ledger.entries
        return Counter(
            entry.input["prompt"] for entry in entries if entry.input["prompt"].startswith(self.schema)
        )

    def sending_process(self) -> int:
        """Return the process that holds the journal."""
        ((name,),) = self.rows("SELECT name FROM holder")
        return int(name.split()[1])

    def check(self, count: int, results: list[Processed[Any]], unknown: int = 0) -> None:
        """Check that each of *count* prompts has one result and was bought once, or is *unknown* at most."""
        assert Counter(result.request.key for result in results) == Counter(f"k{n}" for n in range(count))
        failed = [result for result in results if not result.ok]
        assert all(isinstance(result.error, SubmissionUnknownError) for result in failed), failed
        assert len(failed) <= unknown
        assert set(self.bought.values()) <= {1}
        assert {r.request.prompt for r in results if r.ok} <= {*self.bought}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with postgres_or_skip() as running:
        yield running.dsn


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    emulator = Emulator(EmulatorSettings(image=Durations(0.15, 0.3)))
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture(scope="module")
def cluster(emulator: Emulator) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            dashboard_address=":0",
            resources={"ruxa": 1},
            env={"RUXA_API_KEY": emulator.key},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def place(dsn: str, emulator: Emulator) -> Place:
    return Place(dsn, emulator=emulator)


def test_every_prompt_is_bought_once_and_processed_away_from_the_sending_worker(
    cluster: Client, place: Place
) -> None:
    results: list[Processed[tuple[int, int]]] = []
    sending = set()
    for result in generate(
        prompts(40, place.schema),
        make_client=place.make_client,
        run="catalogue",
        client=cluster,
        post_process=read,
        shard=10,
        window=3,
    ):
        results.append(result)
        sending.add(place.sending_process())
    place.check(40, results)
    assert len(sending) == 1
    assert not sending & {result.unwrap()[1] for result in results}
    assert place.rows("SELECT name FROM holder") == [("",)]  # the journal is free again


def test_a_second_pass_returns_the_same_generations_and_buys_nothing(cluster: Client, place: Place) -> None:
    passes = [
        list(generate(prompts(12, place.schema), make_client=place.make_client, run="again", client=cluster))
        for _ in range(2)
    ]
    first, second = ({one.request.key: one.unwrap().task_id for one in results} for results in passes)
    assert first == second
    place.check(12, passes[1])


def test_the_partitions_of_a_bag_are_its_shards(cluster: Client, place: Place) -> None:
    bag = dask.bag.from_sequence(range(30), npartitions=4).map(partial(prompt, name=place.schema))
    place.check(30, list(generate(bag, make_client=place.make_client, run="bag", client=cluster)))


def test_an_error_of_the_function_is_the_result_of_its_request_alone(cluster: Client, place: Place) -> None:
    def odd(generation: Generation) -> str:
        assert generation.request is not None
        if generation.request.key == "k3":
            raise ValueError("no picture for three")
        return f"{generation.request.key}"

    results = list(
        generate(
            prompts(6, place.schema),
            make_client=place.make_client,
            run="odd",
            client=cluster,
            post_process=odd,
        )
    )
    assert [result.unwrap() for result in results if result.ok] == ["k0", "k1", "k2", "k4", "k5"]
    (failed,) = [result for result in results if not result.ok]
    with pytest.raises(ValueError, match="no picture for three"):
        failed.unwrap()


def test_a_key_of_another_request_is_a_failed_result(cluster: Client, place: Place) -> None:
    requests = [NanoBanana(prompt=f"{place.schema} {n}", key="same") for n in range(2)]
    results = list(
        generate(requests, make_client=place.make_client, run="same", client=cluster, shard=1, window=1)
    )
    assert [type(result.error) for result in results] == [type(None), KeyConflictError]


def test_expired_links_are_renewed_by_the_sending_worker(cluster: Client, dsn: str) -> None:
    fault = Fault("expired", "file", status=403, nth=(1, 2, 3))
    emulator = Emulator(EmulatorSettings(image=Durations(0.1), faults=(fault,)))
    emulator.start()
    try:
        place = Place(dsn, emulator=emulator)
        run = generate(
            prompts(4, place.schema),
            make_client=place.make_client,
            run="links",
            client=cluster,
            post_process=read,
        )
        place.check(4, list(run))
    finally:
        emulator.stop()


def test_a_wrong_key_halts_the_pass(cluster: Client, place: Place) -> None:
    run = generate(
        prompts(2000, place.schema),
        make_client=partial(place.make_client, api_key="sk-wrong"),
        run="wrong",
        client=cluster,
        shard=10,
        window=2,
    )
    results: list[Processed[Generation]] = []
    with pytest.raises(SubmissionHalted) as halt:
        results.extend(run)
    assert isinstance(halt.value.cause, AuthenticationError)
    assert not place.bought


def test_what_make_client_raises_is_raised(cluster: Client, place: Place) -> None:
    def missing() -> RuxaClient:
        raise LookupError("no DSN on this worker")

    with pytest.raises(LookupError, match="no DSN on this worker"):
        list(generate(prompts(1, place.schema), make_client=missing, run="missing", client=cluster))


def test_without_a_worker_that_may_send_the_pass_ends(cluster: Client, place: Place) -> None:
    run = generate(
        prompts(1, place.schema),
        make_client=place.make_client,
        run="none",
        client=cluster,
        resources={"ruxa-eu": 1},
        timeout=0.1,
    )
    with pytest.raises(TimeoutError, match="ruxa-eu"):
        list(run)


@pytest.mark.parametrize("wrong", [{"shard": 0}, {"window": 0}])
def test_sizes_below_one_are_refused(cluster: Client, place: Place, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        generate([], make_client=place.make_client, run="sizes", client=cluster, **wrong)


def test_leaving_early_frees_the_journal(cluster: Client, place: Place) -> None:
    run = generate(
        prompts(100, place.schema), make_client=place.make_client, run="left", client=cluster, shard=5
    )
    next(run)
    run.close()
    assert place.rows("SELECT name FROM holder") == [("",)]
    left = sum(place.bought.values())
    assert 5 <= left < 100


# ---- what dies


def kill_once(pid: int, killed: list[int]) -> None:
    if not killed:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


def test_the_sending_worker_is_killed_and_another_goes_on(cluster: Client, place: Place) -> None:
    killed: list[int] = []
    results: list[Processed[Any]] = []
    for result in generate(
        prompts(80, place.schema),
        make_client=place.make_client,
        run="killed",
        client=cluster,
        post_process=read,
        shard=10,
        window=4,
    ):
        results.append(result)
        if len(results) == 20:
            kill_once(place.sending_process(), killed)
        if len(results) == 70:
            assert place.sending_process() not in killed
    assert killed
    place.check(80, results, unknown=CREATES_ON_WIRE)


def test_a_worker_that_processes_is_killed_and_its_shards_are_processed_again(
    cluster: Client, place: Place
) -> None:
    killed: list[int] = []
    results: list[Processed[Any]] = []
    for result in generate(
        prompts(60, place.schema),
        make_client=place.make_client,
        run="killed",
        client=cluster,
        post_process=read,
        shard=10,
        window=4,
    ):
        results.append(result)
        if len(results) == 20:
            kill_once(result.unwrap()[1], killed)
    assert killed
    place.check(60, results)


def test_a_script_that_is_killed_goes_on_when_it_runs_again(
    cluster: Client, place: Place, tmp_path: Path
) -> None:
    def script() -> subprocess.Popen[str]:
        arguments = [
            cluster.scheduler_info()["address"],
            place.emulator.url,
            place.dsn,
            place.schema,
            "50",
            str(tmp_path),
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "integrations.worker_program", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        )

    killed = script()
    assert killed.stdout is not None
    early = [json.loads(killed.stdout.readline()) for _ in range(3)]
    killed.kill()
    killed.communicate()
    assert sum(place.bought.values()) < 50
    out, _ = script().communicate(timeout=PATIENCE)
    lines = {key: (value, error) for key, value, error in map(json.loads, out.splitlines())}
    assert lines.keys() == {f"k{n}" for n in range(50)}
    assert all(lines[key] == (value, error) for key, value, error in early)
    assert {error for _, error in lines.values()} == {"None"}
    assert {path.name for path in tmp_path.iterdir()} == {value for value, _ in lines.values()}
    assert place.bought == Counter({f"{place.schema} {n}": 1 for n in range(50)})


# ---- the long form: RUXA_LONG=1


@pytest.mark.skipif(not os.environ.get("RUXA_LONG"), reason="takes about 15 minutes: RUXA_LONG=1 runs it")
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_prompts_take_bounded_memory(dsn: str) -> None:
    from benchmarks._dask_cluster import measure

    figures = measure(dsn, 100_000)
    _logger.info("%s", figures)
    assert figures["results"] == figures["charged"] == 100_000
    assert figures["bought_twice"] == 0
    # Megabytes of the script with the scheduler, and of each worker, from the first tenth to the last.
    growth = [last - first for first, last in zip(figures["memory"][0], figures["memory"][-1], strict=True)]
    assert max(growth) < 200, figures["memory"]
