"""The sending process is killed again and again, and another takes over: budget and limits still hold.

The ledger of the emulated service is the judge. `nox -s machines` sets RUXA_LONG for ten times as many kills.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from journal.failover_program import Deployment, send, submit
from journal.places import InPostgres
from processes import fork_context, until
from servers import Postgres

from ruxa_async import Budget, Limits, RateLimit
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings

#: How often the sending process is killed, and the requests that it may buy.
KILLS, TASKS = (20, 1_000) if os.environ.get("RUXA_LONG") else (2, 100)
SUBMITTERS = 16
#: The creates on the wire of a client.
ON_WIRE = 16


@pytest.fixture(scope="module")
def forks() -> Any:
    return fork_context("journal.failover_program")


@frozen
class Charge:
    """A create that the service accepted, and when its task ended."""

    key: str
    task_id: str
    at: float
    ends: float


@define(eq=False)
class World:
    """One deployment: an emulated service, two processes that may send, and submitters."""

    emulator: Emulator
    deployment: Deployment
    place: InPostgres
    forks: Any
    processes: list[Any] = field(factory=list)

    def start(self, function: Callable[..., None], *arguments: Any) -> None:
        self.processes.append(self.forks.Process(target=function, args=(self.deployment, *arguments)))
        self.processes[-1].start()

    def holder(self) -> int:
        """Return the id of the process that sends, 0 if none does."""
        rows = self.place.rows(
            "SELECT name FROM holder WHERE lease_until > clock_timestamp() AND name LIKE 'process%'"
        )
        return int(rows[0][0].split()[1]) if rows else 0

    def run(self, keys: int, bought: int) -> dict[str, str]:
        """Let submitters ask for *keys* keys, and kill the sending process while *bought* of them are bought.

        Return all answers.
        """
        for _ in range(2):
            self.start(send)
        until(self.deployment.port_file.exists)
        files = [self.deployment.folder / f"{number}.json" for number in range(SUBMITTERS)]
        for number, file in enumerate(files):
            self.start(submit, [f"k{each}" for each in range(number, keys, SUBMITTERS)], file)
        for number in range(1, KILLS + 1):
            self._kill_after(number * bought // (KILLS + 1))
        for process in self.processes[2:][:SUBMITTERS]:
            process.join(120)
            assert process.exitcode == 0
        return {key: answer for file in files for key, answer in json.loads(file.read_text()).items()}

    def _kill_after(self, charges: int) -> None:
        """Kill the sending process once there are *charges*, and start one that stands by."""
        until(lambda: self.emulator.service.ledger.charged >= charges)
        os.kill(pid := until(self.holder), signal.SIGKILL)
        self.start(send)
        until(lambda: self.holder() not in {0, pid})

    @property
    def charges(self) -> list[Charge]:
        """All that the service accepted, in order; nothing twice."""
        service = self.emulator.service
        assert not service.ledger.duplicates()
        charges = []
        for entry in service.ledger.entries:
            task = service.task(entry.task_id)
            assert task is not None
            key = entry.input["prompt"].removeprefix("prompt ")
            charges.append(Charge(key, task.task_id, task.created, task.ends))
        return charges

    def states(self) -> dict[str, int]:
        return dict(self.place.rows("SELECT state, count(*) FROM jobs GROUP BY state"))


@pytest.fixture
def make_world(tmp_path: Path, server: Postgres, forks: Any) -> Iterator[Callable[..., World]]:
    worlds: list[World] = []

    def make(seconds: float, limits: Limits, budget: Budget | None = None) -> World:
        emulator = Emulator(EmulatorSettings(image=Durations(seconds, 0.3), latency=0.05))
        emulator.start()
        place = InPostgres(server.dsn, f"t{uuid.uuid4().hex}")
        deployment = Deployment(tmp_path, place.dsn, place.schema, emulator.url, emulator.key, limits, budget)
        worlds.append(World(emulator, deployment, place, forks))
        return worlds[-1]

    yield make
    for world in worlds:
        for process in world.processes:
            process.kill()
            process.join()
        world.emulator.stop()


def log(text: str, *values: object) -> None:
    logging.getLogger(__name__).info(text, *values)


def most_in(window: float, instants: list[float]) -> int:
    """Return the largest number of *instants*, which are sorted, in a *window* of seconds."""
    return max(number + 1 - bisect_left(instants, at - window) for number, at in enumerate(instants))


@pytest.mark.timeout(600)
def test_a_budget_and_a_rate_limit_hold_while_the_sending_process_is_killed(
    make_world: Callable[..., World],
) -> None:
    rate, burst = 50, 10
    world = make_world(0.5, Limits(create_rate=RateLimit(rate, burst=burst)), Budget(max_tasks=TASKS))
    answers = world.run(keys=TASKS * 3 // 2, bought=TASKS)
    charges, states = world.charges, world.states()
    most, unknown = most_in(1.0, [charge.at for charge in charges]), states.get("unknown", 0)
    log(
        "%s kills, %s submitters: %s charged of at most %s, %s unknown, at most %s creates in a second",
        KILLS, SUBMITTERS, len(charges), TASKS, unknown, most,
    )  # fmt: skip
    assert TASKS - unknown <= len(charges) <= TASKS
    assert most <= rate + burst + ON_WIRE
    assert unknown <= ON_WIRE * KILLS
    refused = [key for key, answer in answers.items() if answer == "BudgetExceededError"]
    doubted = [key for key, answer in answers.items() if answer == "SubmissionUnknownError"]
    assert len(answers) == TASKS * 3 // 2
    assert len(doubted) == unknown
    assert len(refused) == TASKS * 3 // 2 - TASKS
    known = {key: answer for key, answer in answers.items() if key not in {*refused, *doubted}}
    assert known == {each.key: each.task_id for each in charges if each.key not in doubted}


@pytest.mark.timeout(600)
def test_no_more_tasks_run_than_the_cap_while_the_sending_process_is_killed(
    make_world: Callable[..., World],
) -> None:
    cap = 30
    world = make_world(1.5, Limits(max_in_flight=cap, create_rate=RateLimit(200)))
    world.run(keys=TASKS, bought=TASKS)
    charges, running, most = world.charges, list[float](), 0
    for charge in charges:
        running = [ends for ends in running if ends > charge.at]
        running.append(charge.ends)
        most = max(most, len(running))
    log("%s kills: at most %s tasks ran of %s allowed; %s", KILLS, most, cap, world.states())
    assert most <= cap
