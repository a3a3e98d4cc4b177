"""A named run continues: nothing is bought twice, and no paid task is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from harness import KEY, URL

from ruxa_async import (
    Completions,
    ConfigurationError,
    DownloadError,
    Failed,
    GenerationRequest,
    JournalError,
    KeyConflictError,
    Limits,
    NanoBanana,
    NotFoundError,
    Outcome,
    PollingStoppedError,
    Resume,
    RuxaClient,
    SqliteJournal,
    SubmissionUnknownError,
    Succeeded,
    TaskFailedError,
    Timeouts,
)
from ruxa_async._client import learned_state
from ruxa_async._engine import denial
from ruxa_async.emulator import Durations, EmulatorSettings, Service, ServiceReply, TokenBucket, parse_fault
from ruxa_async.emulator._ledger import KeptTask
from ruxa_async.journal import JobState, Match
from ruxa_async.transports import MemoryService, MemoryTransport


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)  # a journal has a thread, so time is real here


def service_of(**settings: Any) -> Service:
    settings.setdefault("image", Durations(0.05))
    return Service(EmulatorSettings(key=KEY, **settings))


def prompts(numbers: Iterable[int]) -> list[NanoBanana]:
    return [NanoBanana(prompt=f"prompt {n}", key=f"k{n}") for n in numbers]


class Walled:
    """A service behind a firewall that answers queries with a page of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handle(self, request: Any, now: float) -> ServiceReply:
        if request.method == "GET":
            return ServiceReply(status=403, body=b"<html>Access denied</html>")
        return self._service.handle(request, now)


@asynccontextmanager
async def opened(path: Path, service: MemoryService, **options: Any) -> AsyncIterator[RuxaClient]:
    options.setdefault("timeouts", Timeouts(create_drain=0.5))
    async with RuxaClient(
        api_key=KEY,
        base_url=URL,
        transport=MemoryTransport(service),
        journal=SqliteJournal(path / "journal"),
        **options,
    ) as client:
        yield client


async def run(
    path: Path,
    service: MemoryService,
    requests: Iterable[GenerationRequest],
    *,
    resume: str | Resume = "run",
    **options: Any,
) -> dict[int, Outcome]:
    async with (
        opened(path, service, **options) as client,
        client.as_completed(requests, resume=resume) as all_,
    ):
        return {outcome.index: outcome async for outcome in all_}


async def test_ended_requests_come_from_the_journal_and_only_the_rest_is_bought(tmp_path: Path) -> None:
    service = service_of()
    first = await run(tmp_path, service, prompts(range(5)))
    asked = service.counts.queries
    second = await run(tmp_path, service, prompts([7, 3, 1, 0, 2, 4]))
    assert all(isinstance(outcome, Succeeded) for outcome in (*first.values(), *second.values()))
    assert service.ledger.charged == 6
    assert service.ledger.duplicates() == []
    before = {outcome.key: outcome for outcome in first.values()}
    for outcome in second.values():
        if outcome.key == "k7":
            assert outcome.queries == service.counts.queries - asked
        else:
            assert outcome.ok
            known = before[outcome.key].unwrap()
            assert outcome.generation.urls == known.urls
            assert outcome.task_id == known.task_id
            assert outcome.queries == 0
            assert outcome.submitted_at <= outcome.finished_at


async def test_requests_without_a_key_are_recognised_by_model_and_input(tmp_path: Path) -> None:
    service = service_of()
    cat, dog = NanoBanana(prompt="a cat"), NanoBanana(prompt="a dog")
    await run(tmp_path, service, [cat, dog, cat])
    await run(tmp_path, service, [dog, cat, cat, cat])
    assert Counter(entry.input["prompt"] for entry in service.ledger.entries) == {"a cat": 3, "a dog": 1}


async def test_other_runs_and_unnamed_batches_buy_again(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, prompts([1]))
    await run(tmp_path, service, prompts([1]), resume="other")
    async with opened(tmp_path, service) as client:
        await client.generate(prompts([1])[0])
    assert service.ledger.charged == 3


async def test_an_accepted_task_is_followed(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.6))
    async with opened(tmp_path, service) as client:
        with anyio.move_on_after(0.3):
            async with client.as_completed(prompts(range(4)), resume="run") as outcomes:
                async for _ in outcomes:
                    pass
    assert service.ledger.charged == 4
    assert len(outcomes.unfinished) == 4
    seen: list[Match] = []
    done = await run(
        tmp_path,
        service,
        prompts(range(5)),
        resume=Resume("run", on_match=lambda _, match: seen.append(match)),
        timeouts=Timeouts(task=30),
    )
    assert service.ledger.charged == 5
    assert all(outcome.ok for outcome in done.values())
    assert [match.known.state if match.known else None for match in seen] == [JobState.ACCEPTED] * 4 + [None]
    assert [match.name for match in seen] == [f"k{n}" for n in range(5)]


async def test_a_task_whose_queries_were_denied_is_followed_by_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denial, "GRACE", 0.3)
    service = service_of()
    first = await run(tmp_path, Walled(service), prompts(range(2)))
    assert [type(getattr(outcome, "error", None)) for outcome in first.values()] == [PollingStoppedError] * 2
    second = await run(tmp_path, service, prompts(range(2)))
    assert all(isinstance(outcome, Succeeded) for outcome in second.values())
    assert {each.task_id for each in second.values()} == {each.task_id for each in first.values()}
    assert service.ledger.charged == 2


async def test_a_task_resumed_after_its_timeout_is_still_followed(tmp_path: Path) -> None:
    service = service_of(image=Durations(1.0))
    async with opened(tmp_path, service) as client:
        await anyio.sleep(0)
        with anyio.move_on_after(0.2):
            async with client.as_completed(prompts([1]), resume="run") as outcomes:
                async for _ in outcomes:
                    pass
    await anyio.sleep(0.5)
    # It is older than this by now; what counts is the time from its being picked up.
    async with opened(tmp_path, service) as client:
        outcomes = client.as_completed(prompts([1]), resume="run", task_timeout=0.6)
        (outcome,) = [outcome async for outcome in outcomes]
    assert outcome.ok


async def test_an_unknown_create_fails_and_is_not_sent(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("reset_after:create:nth=2")])
    await run(tmp_path, service, prompts(range(3)))
    for _ in range(2):
        async with opened(tmp_path, service) as client:
            outcomes = client.as_completed(prompts(range(3)), resume="run")
            async with outcomes:
                failed = [outcome async for outcome in outcomes if not outcome.ok]
        assert len(failed) == len(outcomes.unknown) == 1
        assert isinstance(failed[0].error, SubmissionUnknownError)
        assert "`ruxa-async journal FOLDER_OR_FILE`" in str(failed[0].error)
        assert failed[0].task_id is None
        assert service.ledger.charged == 3
    again = await run(tmp_path, service, prompts(range(3)), resume=Resume("run", resend_unknown=True))
    assert all(outcome.ok for outcome in again.values())
    assert service.ledger.charged == 4


async def test_adopt_and_forget_settle_an_unknown_create(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("reset_after:create:nth=1,2")])
    await run(tmp_path, service, prompts(range(2)))
    (bought, _) = service.ledger.entries
    key = "k" + bought.input["prompt"].removeprefix("prompt ")
    async with SqliteJournal(tmp_path / "journal") as journal:
        unknown = {entry.name for entry in await journal.unknowns()}
        await journal.adopt(key, bought.task_id)
        await journal.forget(*(unknown - {key}))
    done = await run(tmp_path, service, prompts(range(2)))
    assert all(outcome.ok for outcome in done.values())
    assert bought.task_id in {outcome.task_id for outcome in done.values()}
    assert service.ledger.charged == 3


async def test_a_failed_task_fails_again_without_retry_failed(tmp_path: Path) -> None:
    service = service_of(fail_share=1.0, fail_code="E7", fail_message="no")
    await run(tmp_path, service, prompts([1]))
    again = await run(tmp_path, service, prompts([1]))
    assert isinstance(again[0], Failed)
    assert isinstance(again[0].error, TaskFailedError)
    assert (again[0].error.fail_code, again[0].error.fail_message) == ("E7", "no")
    assert service.ledger.charged == 1
    await run(tmp_path, service, prompts([1]), resume=Resume("run", retry_failed=True))
    assert service.ledger.charged == 2


async def test_refused_request_is_sent_again(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("error:create:nth=1:status=422")])
    first = await run(tmp_path, service, prompts([1]))
    assert not first[0].ok
    again = await run(tmp_path, service, prompts([1]))
    assert again[0].ok
    assert service.ledger.charged == 1


async def test_a_key_conflict_fails_one_request_and_the_others_go_on(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, prompts([1, 2]))
    changed = [NanoBanana(prompt="another", key="k1"), *prompts([2, 3, 3])]
    done = await run(tmp_path, service, changed)
    assert service.ledger.charged == 3
    conflicts = {n: outcome.error for n, outcome in done.items() if isinstance(outcome, Failed)}
    assert {*conflicts} == {0, 3}
    assert all(isinstance(error, KeyConflictError) for error in conflicts.values())
    assert "'k1'" in str(conflicts[0])
    assert "prompt 1" in str(conflicts[0])
    assert "another" in str(conflicts[0])


async def test_leaving_early_lists_running_tasks_and_not_ended_ones(tmp_path: Path) -> None:
    service = service_of()
    await run(tmp_path, service, prompts(range(20)))
    async with opened(tmp_path, service, limits=Limits(max_in_flight=20)) as client:
        async with client.as_completed(prompts(range(30)), resume="run") as outcomes:
            async for _ in outcomes:
                break
        assert {job.key for job in outcomes.unfinished} <= {f"k{n}" for n in range(20, 30)}
        # The name is free again, also within the same client.
        rest = [outcome async for outcome in client.as_completed(prompts(range(30)), resume="run")]
        assert client.orphans == ()
    assert len(rest) == 30
    assert service.ledger.charged == 30
    assert service.ledger.duplicates() == []


async def test_two_passes_at_once_raise(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.5))
    async with opened(tmp_path, service) as client, client.as_completed(prompts([1]), resume="run") as first:
        await anyio.sleep(0.1)
        with pytest.raises(JournalError, match="has not ended"):
            await anext(client.as_completed(prompts([1]), resume="run"))
        assert [outcome.ok async for outcome in first] == [True]
    assert service.ledger.charged == 1


async def test_resume_needs_a_lasting_journal() -> None:
    async with RuxaClient(api_key=KEY, base_url=URL, transport=MemoryTransport(service_of())) as client:
        with pytest.raises(ConfigurationError, match="SqliteJournal"):
            client.as_completed([], resume="run")


@pytest.mark.parametrize("name", ["", " ", 5])
def test_run_needs_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match="names the run"):
        Resume(name)


async def test_a_request_cancelled_during_its_look_up_is_unsubmitted(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.05))
    for turns in range(1, 40, 3):
        async with opened(tmp_path, service) as client:
            outcomes = client.as_completed(prompts(range(50)), resume="run", window=100)
            async with outcomes:
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
    done = await run(tmp_path, service, prompts(range(50)))
    assert len(done) == 50
    assert all(outcome.ok for outcome in done.values())
    assert service.ledger.duplicates() == []
    assert service.ledger.missing(outcome.task_id or "" for outcome in done.values()) == []


# ---- learned state


async def test_rates_are_loaded_for_an_hour(tmp_path: Path) -> None:
    service = service_of(creates=TokenBucket(20, 2))
    async with opened(tmp_path, service) as client:
        async for _ in client.as_completed(prompts(range(30)), resume="run"):
            pass
        found = client.stats().rates
    assert found["create"] is not None  # in real time, so no figure
    async with opened(tmp_path, service) as client:
        assert client.stats().rates == found
    async with SqliteJournal(tmp_path / "journal") as journal:
        learned = await journal.learned("rates")
        await journal.learn("rates", {**learned, "at": learned["at"] - 3601})
    async with opened(tmp_path, service) as client:
        assert client.stats().rates == {"create": None, "query": None}


async def test_learned_state_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_state, "_SAVE_EVERY", 0.02)
    service = service_of(creates=TokenBucket(20, 2))
    async with (
        SqliteJournal(tmp_path / "journal") as journal,
        RuxaClient(api_key=KEY, base_url=URL, transport=MemoryTransport(service), journal=journal) as client,
    ):
        async for _ in client.as_completed(prompts(range(20)), resume="run"):
            pass
        await anyio.sleep(0.1)
        # The client is still open, as it is when the process is killed.
        assert (await journal.learned("rates"))["found"]["create"] is not None
        assert "google/nano-banana" in await journal.learned("durations")


@pytest.mark.parametrize("nonsense", [5, {}, {"at": 9e9, "found": {"shared": True}}, {"at": "x"}])
async def test_malformed_learned_state_is_ignored_with_a_warning(
    tmp_path: Path, nonsense: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteJournal(tmp_path / "journal") as journal:
        await journal.learn("rates", nonsense)
    done = await run(tmp_path, service_of(), prompts([1]))
    assert done[0].ok
    assert "cannot be read" in caplog.text


async def test_nothing_starts_after_the_run_was_stopped(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.5))
    async with opened(tmp_path, service) as client:
        with anyio.move_on_after(0.2):
            async with client.as_completed(prompts([1]), resume="run") as outcomes:
                await anyio.sleep_forever()
    for at, unfinished, unsubmitted in ((0, ["k1"], []), (1, ["k1"], ["k2"])):
        left: list[Completions] = []

        def stop(index: int, _: Match, at: int = at, left: list[Completions] = left) -> None:
            if index == at:
                left[0]._pipeline._stop_pulling()  # as a halt does, at the worst moment

        async with opened(tmp_path, service) as client:
            outcomes = client.as_completed(prompts([1, 2, 3]), resume=Resume("run", on_match=stop))
            left.append(outcomes)
            async with outcomes:
                await anyio.sleep(0.1)
            assert [job.key for job in outcomes.unfinished] == unfinished
            assert [job.key for job in outcomes.unsubmitted] == unsubmitted
    assert service.ledger.charged == 1


async def test_a_create_on_the_wire_is_unknown_to_the_next_pass(tmp_path: Path) -> None:
    service = service_of(latency=0.5)
    async with opened(tmp_path, service, timeouts=Timeouts(create_drain=0.05)) as client:
        async with client.as_completed(prompts([1]), resume="run"):
            await anyio.sleep(0.1)
        (outcome,) = [outcome async for outcome in client.as_completed(prompts([1]), resume="run")]
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, SubmissionUnknownError)
        assert "sent just now" in str(outcome.error)
        await anyio.sleep(0.8)  # its answer came after all, and was written down
    done = await run(tmp_path, service, prompts([1]))
    assert done[0].ok
    assert service.ledger.charged == 1


# ---- outputs of an earlier run


async def test_outputs_of_an_earlier_run_are_read_with_renewed_links(tmp_path: Path) -> None:
    service = service_of(faults=[parse_fault("expired:file:nth=2")])
    async with opened(tmp_path, service) as client:
        (first,) = [outcome async for outcome in client.as_completed(prompts([1]), resume="run")]
        content = await first.unwrap().read()
    async with opened(tmp_path, service) as client:
        (again,) = [outcome async for outcome in client.as_completed(prompts([1]), resume="run")]
        asked = service.counts.queries
        assert await again.unwrap().read() == content
        assert service.counts.queries == asked + 1
        assert await again.unwrap().read() == content
        assert service.counts.queries == asked + 1


async def test_saved_outputs_are_kept_and_a_disk_error_renews_no_link(tmp_path: Path) -> None:
    service = service_of()
    async with opened(tmp_path, service) as client:
        (first,) = [outcome async for outcome in client.as_completed(prompts([1]), resume="run")]
        paths = await first.unwrap().save(tmp_path / "out")
    asked = service.counts.queries, service.counts.files
    async with opened(tmp_path, service) as client:
        (again,) = [outcome async for outcome in client.as_completed(prompts([1]), resume="run")]
        assert await again.unwrap().save(tmp_path / "out") == paths
        assert (service.counts.queries, service.counts.files) == asked
        with pytest.raises(DownloadError, match="cannot be written"):
            await again.unwrap().save(paths[0])
        assert service.counts.queries == asked[0]


@pytest.mark.parametrize("changed", [{}, {"outputs": 2}], ids=["forgotten", "other"])
async def test_a_failed_renewal_raises_the_first_download_error(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    service = service_of()
    done = await run(tmp_path, service, prompts([1]))
    task = service.task(done[0].task_id or "")
    assert task is not None
    later = Service(
        attrs.evolve(service.settings, faults=[parse_fault("expired:file:every=1")], **changed),
        past=[KeptTask(task).shifted(service.epoch)] if changed else [],
    )
    async with opened(tmp_path, later) as client:
        (again,) = [outcome async for outcome in client.as_completed(prompts([1]), resume="run")]
        with pytest.raises(DownloadError, match="expired") as caught:
            await again.unwrap().save(tmp_path)
    assert later.counts.queries == 1
    assert isinstance(caught.value.__cause__, type(None) if changed else NotFoundError)
