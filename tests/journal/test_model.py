"""Random operations and reopenings: the journal always agrees with a model, a dict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal.places import InFile, InPostgres, Place
from journal.tools import failure, job, of, request, success
from servers import Postgres

from ruxa_async import JournalError, KeyConflictError
from ruxa_async.journal import JobState, JournalRun

RUN = "run"
MAY_BE_SENT_AGAIN = (JobState.NOT_BOUGHT, JobState.FORGOTTEN, JobState.UNKNOWN, JobState.FAILED)


@pytest.fixture
def anyio_backend() -> str:
    raise AssertionError("these tests run their own loops")


@define
class Expected:
    """One job of the model."""

    prompt: str
    state: JobState = JobState.INTENDED
    task_id: str | None = None
    past: tuple[str, ...] = ()
    attempts: int = 1


Handle = tuple[str, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "buy", "buy", "buy", "accept", "accept", "succeed", "fail", "stop", "refuse", "lose", "adopt",
                "forget", "again", "reopen", "pass",
            ]
        ),
        st.integers(0, 7),
    ),
    max_size=40,
)  # fmt: skip
PROMPTS = ("a", "b")


@define
class Machine:
    """The journal and the dict side by side."""

    place: Place
    journal: Any = None
    run: Any = None
    model: dict[Handle, Expected] = field(factory=dict)
    entries: dict[Handle, object] = field(factory=dict)
    seen: Counter[str] = field(factory=Counter)
    ids: int = 0

    async def open(self) -> None:
        self.journal = await self.place.journal().__aenter__()
        await self.begin_pass()

    async def begin_pass(self) -> None:
        self.run = await self.journal.open_run(RUN)
        self.seen.clear()

    async def reopen(self) -> None:
        await self.journal.aclose()
        for job_ in self.model.values():
            if job_.state is JobState.INTENDED:
                job_.state = JobState.UNKNOWN
        await self.open()

    async def step(self, what: str, number: int) -> None:
        if what == "reopen":
            await self.reopen()
        elif what == "pass":
            self.run.close()
            await self.begin_pass()
        elif what == "buy":
            await self.buy(number)
        elif self.model:
            handle = sorted(self.model)[number % len(self.model)]
            await self.change(what, handle, self.model[handle])

    async def buy(self, number: int) -> None:
        prompt = PROMPTS[number % 2]
        key = None if number < 4 else f"k{number % 3}"
        name = key or f"#{prompt}"
        run: JournalRun = self.run
        handle = (name, 1 if key else self.seen[name] + 1)
        known = self.model.get(handle)
        changed = known is not None and known.prompt != prompt
        free = known is not None and known.state in (JobState.NOT_BOUGHT, JobState.FORGOTTEN)
        if key is not None and (self.seen[name] or (changed and not free)):
            with pytest.raises(KeyConflictError):
                await run.match(request(prompt, key))
            self.seen[name] += 1
            return
        match = await run.match(request(prompt, key))
        self.seen[name] += 1
        if known is None:
            assert match.known is None
            self.entries[handle] = await self.journal.intend(job(key, prompt=prompt, entry=match.entry))
            self.model[handle] = Expected(prompt)
        elif changed:  # nothing was bought for this key, so another request may have it
            assert match.known is None
            self.entries[handle] = await self.journal.intend(job(key, prompt=prompt, entry=match.entry))
            known.prompt, known.state, known.attempts = prompt, JobState.INTENDED, known.attempts + 1
        else:
            assert match.known is not None
            self.entries[handle] = match.entry

    async def change(self, what: str, handle: Handle, known: Expected) -> None:
        entry, journal = self.entries[handle], self.journal
        intended, accepted = known.state is JobState.INTENDED, known.state is JobState.ACCEPTED
        if what == "accept" and intended:
            known.state, known.task_id = JobState.ACCEPTED, self.new_id()
            await journal.accepted(of(entry, known.task_id))
        elif what in ("succeed", "fail", "stop") and accepted:
            assert known.task_id is not None
            ends = {"succeed": success(known.task_id), "fail": failure(known.task_id), "stop": None}
            states = {"succeed": JobState.SUCCEEDED, "fail": JobState.FAILED, "stop": JobState.ACCEPTED}
            known.state = states[what]
            await journal.finished(of(entry, known.task_id), ends[what])
        elif what == "refuse" and intended:
            known.state = JobState.NOT_BOUGHT
            await journal.not_bought(of(entry))
        elif what == "lose" and intended:
            known.state = JobState.UNKNOWN
            await journal.unknown(of(entry))
        elif what == "again" and known.state not in MAY_BE_SENT_AGAIN:
            with pytest.raises(JournalError, match="since it was looked up"):
                await journal.intend(of(entry))
        elif what == "again":
            past = (known.task_id,) if known.task_id is not None else ()
            known.state, known.task_id, known.past = JobState.INTENDED, None, known.past + past
            known.attempts += 1
            await journal.intend(of(entry))
        elif what in ("adopt", "forget"):
            await self.settle(what, handle, known)

    async def settle(self, what: str, handle: Handle, known: Expected) -> None:
        if handle[0].startswith("#"):
            return  # its name is a digest: that is tested elsewhere
        new = self.new_id()
        settled = JobState.ADOPTED if what == "adopt" else JobState.FORGOTTEN
        call = self.journal.adopt(handle[0], new) if what == "adopt" else self.journal.forget(handle[0])
        if known.state in (JobState.UNKNOWN, JobState.ADOPTED, JobState.FORGOTTEN):
            await call
            known.state, known.task_id = settled, new if what == "adopt" else None
        else:
            with pytest.raises(JournalError, match="not in doubt"):
                await call

    def new_id(self) -> str:
        self.ids += 1
        return f"task_{self.ids}"

    async def compare(self) -> None:
        await self.reopen()
        unknown = {handle for handle, job_ in self.model.items() if job_.state is JobState.UNKNOWN}
        assert len(await self.journal.unknowns(RUN)) == len(unknown)
        counts = await self.journal.counts(RUN)
        assert counts.jobs == {
            state: sum(job_.state is state for job_ in self.model.values()) for state in JobState
        }
        for handle, expected in sorted(self.model.items(), key=lambda item: item[0]):
            key = None if handle[0].startswith("#") else handle[0]
            found = (await self.run.match(request(expected.prompt, key))).known
            assert found is not None
            assert (found.state, found.task_id, found.earlier_task_ids, found.attempts) == (
                expected.state,
                expected.task_id,
                expected.past,
                expected.attempts,
            )


async def play(place: Place, steps: list[tuple[str, int]]) -> None:
    machine = Machine(place)
    await machine.open()
    try:
        for step in steps:
            await machine.step(*step)
        await machine.compare()
    finally:
        await machine.journal.aclose()


@settings(max_examples=40, deadline=None)
@given(STEPS, st.sampled_from(["asyncio", "trio"]))
def test_a_journal_in_a_file_agrees_with_a_model_in_memory(
    steps: list[tuple[str, int]], backend: str
) -> None:
    with TemporaryDirectory() as folder:
        anyio.run(play, InFile(Path(folder) / "journal.db"), steps, backend=backend)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, backend=st.sampled_from(["asyncio", "trio"]))
def test_a_journal_on_a_server_agrees_with_a_model_in_memory(
    server: Postgres, steps: list[tuple[str, int]], backend: str
) -> None:
    anyio.run(play, InPostgres(server.dsn), steps, backend=backend)
