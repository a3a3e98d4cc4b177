"""Records of a journal are there after it is reopened, and runs match them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from journal.places import Place
from journal.tools import KEY, URL, failure, is_open, job, journal_threads, of, request, success

from ruxa_async import (
    InsufficientCreditsError,
    JournalError,
    JournalMismatchError,
    KeyConflictError,
    MalformedResponseError,
    NanoBanana,
    PollingStoppedError,
    SubmissionUnknownError,
    TaskFailedError,
)
from ruxa_async.journal import (
    JobState,
    Journal,
    JournalEntry,
    JournalRun,
    LastingJournal,
    Match,
    NullJournal,
    SavedFile,
)
from ruxa_async.journal._identity import identify
from ruxa_async.journal._journal import DatabaseJournal

FILE = SavedFile(number=0, name="a cat.png", size=3, sha256="ab" * 32)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[LastingJournal]:
    async with place.journal() as journal:
        yield journal


async def known(journal: LastingJournal, asked: NanoBanana, run: str = "run") -> JournalEntry | None:
    """Return what a new pass through *run* knows of *asked*."""
    passing = await journal.open_run(run)
    try:
        return (await passing.match(asked)).known
    finally:
        passing.close()


async def begin(journal: LastingJournal, key: str | None, run: str = "run", prompt: str = "a cat") -> object:
    """Write the intent of a new job of *run*."""
    passing = await journal.open_run(run)
    match = await passing.match(request(prompt, key))
    passing.close()
    return await journal.intend(job(key, prompt=prompt, entry=match.entry))


def test_both_classes_implement_their_protocols(place: Place) -> None:
    one: Journal = NullJournal()
    two: LastingJournal = place.journal()
    assert isinstance(two, LastingJournal)
    assert not isinstance(one, LastingJournal)


async def test_a_job_from_its_intent_to_its_end(place: Place) -> None:
    async with opened(place) as journal:
        assert await known(journal, request(key="k")) is None
        entry = await begin(journal, "k")
        await journal.accepted(of(entry, "task_1"))
        status = success("task_1", credits=4.0, duration=9.5, raw={"x": [1]})
        await journal.finished(of(entry, "task_1"), status)
        await journal.saved("task_1", FILE)
    async with opened(place) as journal:
        found = await known(journal, request(key="k"))
        assert found is not None
        assert found.request == request(key="k")
        assert (found.state, found.task_id, found.status) == (JobState.SUCCEEDED, "task_1", status)
        assert (found.run, found.name, found.key, found.model) == ("run", "k", "k", "google/nano-banana")
        assert (found.attempts, found.files, found.failure) == (1, (FILE,), None)
        assert None not in (found.intended_at, found.accepted_at, found.finished_at)
        counts = await journal.counts()
        assert (counts.total, counts.jobs[JobState.SUCCEEDED], counts.files, counts.credits) == (1, 1, 1, 4.0)
        assert [*counts.models] == ["google/nano-banana"]
        grouped = await journal.counts("run", group_by=lambda model, given: f"{model}: {given['prompt']}")
        (group,) = grouped.models.items()
        assert group == (
            f"google/nano-banana: {found.request.input()['prompt']}",
            counts.models["google/nano-banana"],
        )


async def test_an_accepted_task_is_known_by_its_id(place: Place) -> None:
    async with opened(place) as journal:
        await journal.accepted(of(await begin(journal, "k"), "task_1"))
    async with opened(place) as journal:
        found = await known(journal, request(key="k"))
        assert found is not None
        assert (found.state, found.task_id, found.status) == (JobState.ACCEPTED, "task_1", None)


async def test_a_task_that_failed_is_known_with_its_error(place: Place) -> None:
    async with opened(place) as journal:
        entry = await begin(journal, "k")
        await journal.accepted(of(entry, "task_1"))
        await journal.finished(
            of(entry, "task_1", TaskFailedError("task_1", "500", "no luck")), failure("task_1")
        )
        found = await known(journal, request(key="k"))
    assert found is not None
    assert (found.state, found.error_kind) == (JobState.FAILED, "TaskFailedError")
    assert isinstance(found.failure, TaskFailedError)
    assert (found.failure.fail_code, found.failure.fail_message) == ("500", "no luck")


async def test_a_task_that_succeeded_without_a_usable_answer_failed(place: Place) -> None:
    error = MalformedResponseError("task_1", "it names no output", "{}")
    async with opened(place) as journal:
        entry = await begin(journal, "k")
        await journal.accepted(of(entry, "task_1"))
        await journal.finished(of(entry, "task_1", error), success("task_1", urls=()))
        found = await known(journal, request(key="k"))
    assert found is not None
    assert found.state is JobState.FAILED
    assert isinstance(found.failure, MalformedResponseError)
    assert str(found.failure) == str(error)


async def test_a_task_that_is_followed_no_longer_stays_accepted(place: Place) -> None:
    async with opened(place) as journal:
        entry = await begin(journal, "k")
        await journal.accepted(of(entry, "task_1"))
        await journal.finished(of(entry, "task_1", PollingStoppedError("task_1", "silence")), None)
        found = await known(journal, request(key="k"))
    assert found is not None
    assert (found.state, found.error_kind) == (JobState.ACCEPTED, "PollingStoppedError")
    assert found.failure is None


async def test_a_task_that_was_attached_to_is_found_by_its_id(place: Place) -> None:
    async with opened(place) as journal:
        await journal.accepted(of(await begin(journal, "k"), "task_1"))
        await journal.finished(of(None, "task_1"), success("task_1"))
        await journal.finished(of(None, "task of somebody else"), success("task_2"))
        found = await known(journal, request(key="k"))
        assert found is not None
        assert found.state is JobState.SUCCEEDED
        assert (await journal.counts()).total == 1


async def test_a_job_that_was_not_bought_is_recorded_with_the_reason(place: Place) -> None:
    async with opened(place) as journal:
        entry = await begin(journal, "k")
        await journal.not_bought(of(entry, error=InsufficientCreditsError(402, None, "no credits")))
        found = await known(journal, request(key="k"))
    assert found is not None
    assert (found.state, found.error_kind) == (JobState.NOT_BOUGHT, "InsufficientCreditsError")
    assert "no credits" in (found.error_message or "")


async def test_another_attempt_is_counted_and_clears_the_reason(place: Place) -> None:
    async with opened(place) as journal:
        entry = await begin(journal, "k")
        await journal.not_bought(of(entry, error=InsufficientCreditsError(402, None, "no credits")))
        assert await journal.intend(of(entry)) == entry
        await journal.accepted(of(entry, "task_1"))
        found = await known(journal, request(key="k"))
        assert found is not None
        assert (found.attempts, found.error_kind) == (2, None)
        assert (await journal.counts()).total == 1


async def test_buying_a_failed_job_again_keeps_the_first_task_id(place: Place) -> None:
    async with opened(place) as journal:
        entry = await begin(journal, "k")
        for number in ("task_1", "task_2"):
            await journal.accepted(of(entry, number))
            await journal.finished(of(entry, number), failure(number))
            await journal.saved(number, FILE)
            await journal.intend(of(entry))
        await journal.accepted(of(entry, "task_3"))
        found = await known(journal, request(key="k"))
    assert found is not None
    assert (found.state, found.task_id, found.status) == (JobState.ACCEPTED, "task_3", None)
    assert (found.earlier_task_ids, found.files) == (("task_1", "task_2"), ())


async def test_a_job_that_was_intended_when_the_process_ended_is_unknown(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, "k")
        assert await journal.unknowns() == []
    async with opened(place) as journal:
        (job_,) = await journal.unknowns()
        assert (job_.name, job_.state) == ("k", JobState.UNKNOWN)
        assert "process ended" in (job_.error_message or "")


async def test_a_job_that_is_intended_when_the_last_client_ends_is_unknown(place: Place) -> None:
    async with opened(place) as journal:
        for _ in range(2):
            await journal.bind(base_url=URL, api_key=KEY)
        await begin(journal, "k")
        await journal.unbind()
        assert await journal.unknowns() == []
        await journal.unbind()
        assert [job_.name for job_ in await journal.unknowns()] == ["k"]


# ---- identity within a run


async def test_equal_requests_without_keys_are_matched_by_their_number(place: Place) -> None:
    async with opened(place) as journal:
        run = await journal.open_run("run")
        matches = [await run.match(request()) for _ in range(3)]
        assert [match.known for match in matches] == [None, None, None]
        entries = [await journal.intend(job(entry=match.entry)) for match in matches[:2]]
        for number, entry in enumerate(entries):
            await journal.accepted(of(entry, f"task_{number}"))
        run.close()
    async with opened(place) as journal:
        run = await journal.open_run("run")
        again = [await run.match(request()) for _ in range(3)]
        assert [match.known and match.known.task_id for match in again] == ["task_0", "task_1", None]


async def test_order_and_other_rows_do_not_matter(place: Place) -> None:
    async with opened(place) as journal:
        for prompt in ("a", "b"):
            await journal.accepted(of(await begin(journal, None, prompt=prompt), f"task_{prompt}"))
        run = await journal.open_run("run")
        found = {}
        for prompt in ("new", "b", "other", "a"):
            match = await run.match(request(prompt))
            found[prompt] = match.known and match.known.task_id
        assert found == {"new": None, "b": "task_b", "other": None, "a": "task_a"}


async def test_a_key_of_another_request_is_a_conflict(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, "k")
        run = await journal.open_run("run")
        with pytest.raises(KeyConflictError, match="another request") as caught:
            await run.match(request("a dog", "k"))
        assert (caught.value.key, caught.value.run) == ("k", "run")


@pytest.mark.parametrize("prompt", ["a cat", "a dog"])
async def test_a_key_that_is_used_twice_in_a_pass_is_a_conflict(place: Place, prompt: str) -> None:
    async with opened(place) as journal:
        run = await journal.open_run("run")
        await run.match(request("a cat", "k"))
        for _ in range(2):
            with pytest.raises(KeyConflictError, match="came before"):
                await run.match(request(prompt, "k"))


async def test_a_run_matches_no_job_of_another_run_or_of_none(place: Place) -> None:
    async with opened(place) as journal:
        await journal.intend(job("k"))
        await begin(journal, "k", "one")
        assert await known(journal, request(key="k"), "two") is None
        assert (await known(journal, request(key="k"), "one")) is not None
        assert (await journal.counts("one")).total == 1
        assert (await journal.counts("two")).total == 0
        assert (await journal.counts()).total == 2


async def test_entries_are_the_jobs_of_a_run_in_the_order_of_their_intents(place: Place) -> None:
    async with opened(place) as journal:
        await journal.intend(job("outside"))
        for key in ("b", "a"):
            await begin(journal, key, "one")
        await begin(journal, "c", "two")
        assert isinstance(journal, DatabaseJournal)
        assert [(each.run, each.key) for each in await journal.entries("one")] == [("one", "b"), ("one", "a")]
        assert await journal.entries("three") == []


async def test_a_job_outside_of_runs_is_bought_each_time(place: Place) -> None:
    async with opened(place) as journal:
        entries = [await journal.intend(job(key)) for key in ("k", "k", None, None)]
        assert len({*entries}) == 4
    async with opened(place) as journal:
        assert [(job_.run, job_.key, job_.name[:2]) for job_ in await journal.unknowns()] == [
            (None, "k", "k"),
            (None, "k", "k~"),
            (None, None, name_begins(request())),
            (None, None, name_begins(request())),
        ]


def name_begins(asked: NanoBanana) -> str:
    """Return how the name of a job without a key begins."""
    return f"#{identify(asked).digest.hex()}"[:2]


async def test_a_second_intent_is_refused_while_the_first_may_buy(place: Place) -> None:
    async with opened(place) as journal:
        run = await journal.open_run("run")
        match = await run.match(request(key="k"))
        first = await journal.intend(job("k", entry=match.entry))
        for entry in (match.entry, first):
            with pytest.raises(JournalError, match="became intended since it was looked up"):
                await journal.intend(job("k", entry=entry))
        await journal.not_bought(of(first))
        assert await journal.intend(job("k", entry=match.entry)) == first
        await journal.unknown(of(first))
        with pytest.raises(JournalError, match="became unknown"):  # only `Resume(resend_unknown=True)` may
            await journal.intend(job("k", entry=match.entry))
        assert await journal.intend(job("k", entry=first)) == first
        await journal.accepted(of(first, "task_1"))
        with pytest.raises(JournalError, match="became accepted"):
            await journal.intend(job("k", entry=first))
        assert (await journal.counts()).total == 1


async def test_one_pass_at_a_time_and_another_after_it(place: Place) -> None:
    async with opened(place) as journal:
        run: JournalRun = await journal.open_run("run")
        assert run.name == "run"
        with pytest.raises(JournalError, match="has not ended"):
            await journal.open_run("run")
        await journal.open_run("another")
        run.close()
        await journal.open_run("run")
        with pytest.raises(ValueError, match="cannot be empty"):
            await journal.open_run(" ")


async def test_a_pass_and_a_purchase_by_key_of_one_run_exclude_each_other(place: Place) -> None:
    async with opened(place) as journal:
        run = await journal.open_run("run")
        with pytest.raises(JournalError, match="a pass through the run 'run' has not ended"):
            await journal.open_purchase("run", request(key="k"))
        other = await journal.open_purchase("another", request(key="k"))
        run.close()
        purchase = await journal.open_purchase("run", request(key="k"))
        assert purchase.match.known is None
        with pytest.raises(JournalError, match="purchases by key in the run 'run' have not ended"):
            await journal.open_run("run")
        purchase.close()
        await journal.open_run("run")
        other.close()


async def test_a_key_is_bought_by_one_at_a_time_and_found_afterwards(place: Place) -> None:
    async with opened(place) as journal:
        first = await journal.open_purchase("run", request(key="k"))
        with pytest.raises(JournalError, match="another client of this journal"):
            await journal.open_purchase("run", request(key="k"))
        (await journal.open_purchase("run", request(key="other"))).close()
        await journal.accepted(of(await journal.intend(job("k", entry=first.match.entry)), "task_1"))
        first.close()
        with pytest.raises(KeyConflictError):
            await journal.open_purchase("run", request("a dog", key="k"))
        found = (await journal.open_purchase("run", request(key="k"))).match.known
        assert found is not None
        assert (found.state, found.task_id) == (JobState.ACCEPTED, "task_1")
        with pytest.raises(ValueError, match="cannot be empty"):
            await journal.open_purchase(" ", request())


async def test_a_purchase_of_an_earlier_opening_frees_nothing_of_this_one(place: Place) -> None:
    journal: Any = place.journal()
    async with journal:
        old = await journal.open_purchase("run", request(key="k"))
    async with journal:
        new = await journal.open_purchase("run", request(key="k"))
        old.close()
        with pytest.raises(JournalError, match="another client"):
            await journal.open_purchase("run", request(key="k"))
        new.close()


async def test_a_purchase_by_key_without_a_key_is_the_first_equal_request_of_a_pass(place: Place) -> None:
    async with opened(place) as journal:
        for _ in range(2):
            purchase = await journal.open_purchase("run", request())
            if purchase.match.known is None:
                await journal.intend(job(entry=purchase.match.entry))
            purchase.close()
        run = await journal.open_run("run")
        assert (await run.match(request())).known is not None
        assert (await run.match(request())).known is None


async def test_unusual_texts_are_kept(place: Place) -> None:
    odd = "\ud800\x00\u2028'\"; DROP TABLE jobs; --"
    async with opened(place) as journal:
        entry = await begin(journal, odd, odd, prompt=odd)
        await journal.accepted(of(entry, "task\u2028\ud800"))
        await journal.finished(of(entry), failure("task"))
        await journal.intend(of(entry))
        await journal.unknown(of(entry, error=SubmissionUnknownError(odd)))
        (found,) = await journal.unknowns()
    assert found.key == odd
    assert found.request.input()["prompt"] == odd
    assert found.earlier_task_ids == ("task\u2028\\ud800",)


async def test_an_entry_of_another_journal_is_refused_and_others_are_recorded(place: Place) -> None:
    async with opened(place) as journal:
        for write in (journal.intend, journal.accepted, journal.not_bought, journal.unknown):
            with pytest.raises(TypeError, match="not an entry of this journal"):
                await write(of("elsewhere", "task_1"))
        with pytest.raises(TypeError, match="not an entry of this journal"):
            await journal.finished(of(Match(entry=3), "task_1"), success("task_1"))
        await begin(journal, "k")


# ---- a person's word


async def in_doubt(journal: LastingJournal, key: str | None, run: str = "run", prompt: str = "a cat") -> str:
    entry = await begin(journal, key, run, prompt)
    await journal.unknown(of(entry, error=SubmissionUnknownError("silence")))
    return next(job_.name for job_ in await journal.unknowns(run) if job_.entry == entry)


@pytest.mark.parametrize("key", ["k", None])
async def test_an_unknown_job_is_adopted_with_its_task_id(place: Place, key: str | None) -> None:
    async with opened(place) as journal:
        name = await in_doubt(journal, key)
        adopted = await journal.adopt(name, "task_9")
        assert (adopted.state, adopted.task_id, adopted.name) == (JobState.ADOPTED, "task_9", name)
        assert adopted.accepted_at is not None
        assert await journal.unknowns() == []
    async with opened(place) as journal:
        assert await known(journal, request(key=key)) == adopted


async def test_an_unknown_job_is_forgotten(place: Place) -> None:
    async with opened(place) as journal:
        await in_doubt(journal, "k")
        forgotten = await journal.forget("k")
        assert (forgotten.state, forgotten.task_id) == (JobState.FORGOTTEN, None)
        assert await known(journal, request(key="k")) == forgotten


async def test_an_adopted_job_can_be_forgotten_and_adopted_again(place: Place) -> None:
    async with opened(place) as journal:
        await in_doubt(journal, "k")
        await journal.adopt("k", "wrong")
        await journal.adopt("k", "task_9")
        await journal.forget("k")
        assert (await journal.adopt("k", "task_9")).task_id == "task_9"


async def test_only_an_unknown_job_can_be_settled(place: Place) -> None:
    async with opened(place) as journal:
        await journal.accepted(of(await begin(journal, "paid"), "task_1"))
        await in_doubt(journal, "k")
        with pytest.raises(JournalError, match="'paid' is not in doubt: it is accepted"):
            await journal.forget("paid")
        with pytest.raises(JournalError, match="no job is called 'nonsense'"):
            await journal.adopt("nonsense", "task_2")
        with pytest.raises(JournalError, match="task_1 already belongs to job 'paid'"):
            await journal.adopt("k", "task_1")
        with pytest.raises(ValueError, match="task_id is empty"):
            await journal.adopt("k", " ")
        assert [job_.name for job_ in await journal.unknowns()] == ["k"]


async def test_a_name_in_two_runs_needs_the_run(place: Place) -> None:
    async with opened(place) as journal:
        for run in ("one", "two"):
            await in_doubt(journal, "k", run)
        with pytest.raises(JournalError, match="2 jobs are called 'k', in 'one', 'two'"):
            await journal.forget("k")
        assert (await journal.forget("k", "two")).run == "two"
        assert [job_.run for job_ in await journal.unknowns()] == ["one"]
        assert (await journal.adopt("k", "task_1")).run == "one"  # only one is still unknown


async def test_equal_requests_get_different_names(place: Place) -> None:
    async with opened(place) as journal:
        for key in ("k", "k", None, None):
            await journal.unknown(of(await journal.intend(job(key))))
        names = [job_.name for job_ in await journal.unknowns()]
        assert len({*names}) == 4
        with pytest.raises(JournalError, match="2 jobs are called 'k', in no run"):
            await journal.adopt("k", "task_0")
        for number, name in enumerate(names[1:], 1):
            assert (await journal.adopt(name, f"task_{number}")).name == name
        assert (await journal.adopt("k", "task_0")).name == "k"


# ---- accounts


async def test_a_journal_belongs_to_one_service_and_one_account(place: Place) -> None:
    async with opened(place) as journal:
        await journal.bind(base_url="https://a.example", api_key=KEY)
        await begin(journal, "bought")
        await journal.unbind()
    async with opened(place) as journal:
        await journal.bind(base_url="https://a.example", api_key=KEY)
        with pytest.raises(JournalMismatchError, match=r"https://a\.example.*https://b\.example") as caught:
            await journal.bind(base_url="https://b.example", api_key=KEY)
        assert "key" not in str(caught.value)  # another one would not help
        with pytest.raises(JournalMismatchError, match=r"fingerprint.*new_key=True.*--new-key") as caught:
            await journal.bind(base_url="https://a.example", api_key="sk-another")
        assert len({word for word in str(caught.value).split() if len(word.strip(",:")) == 16}) >= 2
        assert "canary" not in str(caught.value)
    assert KEY.encode() not in place.bytes()


async def test_a_new_key_of_the_account_is_accepted_with_new_key(place: Place) -> None:
    async with opened(place) as journal:
        await journal.bind(base_url=URL, api_key=KEY)
        await begin(journal, "bought")
    async with place.journal(new_key=True) as journal:
        await journal.bind(base_url=URL, api_key="sk-new")
        with pytest.raises(JournalMismatchError):
            await journal.bind(base_url="https://b.example", api_key="sk-new")
    async with opened(place) as journal:
        await journal.bind(base_url=URL, api_key="sk-new")


async def test_a_journal_in_which_nothing_was_bought_may_go_to_another_account(place: Place) -> None:
    async with opened(place) as journal:
        await journal.bind(base_url="https://a.example", api_key="sk-mistyped")
        await journal.not_bought(of(await begin(journal, "refused")))
        await journal.learn("rates", [1])
        await journal.unbind()
        await journal.bind(base_url="https://a.example", api_key=KEY)
        await journal.unbind()
        assert await journal.learned("rates") is None
    async with opened(place) as journal:
        await journal.bind(base_url="https://b.example", api_key=KEY)


@pytest.mark.parametrize("end", ["accepted", "unknown", "cut off", "failed", "bought again"])
async def test_the_first_job_that_may_have_been_bought_binds_a_journal_for_good(
    place: Place, end: str
) -> None:
    async with opened(place) as journal:
        await journal.bind(base_url=URL, api_key=KEY)
        entry = await begin(journal, "k")
        if end == "unknown":
            await journal.unknown(of(entry))
        elif end != "cut off":
            await journal.accepted(of(entry, "task_1"))
        if end in ("failed", "bought again"):
            await journal.finished(of(entry, "task_1"), failure("task_1"))
        if end == "bought again":
            again = await journal.intend(of(entry))
            await journal.not_bought(of(again))
    async with opened(place) as journal:
        with pytest.raises(JournalMismatchError):
            await journal.bind(base_url=URL, api_key="sk-another")
        await journal.bind(base_url=URL, api_key=KEY)


async def test_an_account_with_an_open_client_keeps_its_journal(place: Place) -> None:
    async with opened(place) as journal:
        await journal.bind(base_url=URL, api_key=KEY)
        for _ in range(2):  # a client that was refused does not count as one at work
            with pytest.raises(JournalMismatchError):
                await journal.bind(base_url=URL, api_key="sk-another")
        await journal.unbind()
        await journal.bind(base_url=URL, api_key="sk-another")


async def test_service_replaces_a_changing_address(place: Place) -> None:
    for port in (1, 2):
        async with place.journal(service="the emulator") as journal:
            await journal.bind(base_url=f"http://localhost:{port}", api_key=KEY)


# ---- what is learned


async def test_learned_values_are_kept(place: Place) -> None:
    async with opened(place) as journal:
        assert await journal.learned("durations") is None
        await journal.learn("durations", {"m": {"mu": 1.0}})
        await journal.learn("durations", {"m": {"mu": 2.0}})
        await journal.learn("rates", [1, None])
    async with opened(place) as journal:
        assert await journal.learned("durations") == {"m": {"mu": 2.0}}
        assert await journal.learned("rates") == [1, None]


# ---- opening and closing


async def test_a_closed_journal_raises(place: Place) -> None:
    journal = place.journal()
    for _ in range(2):
        assert not is_open(journal)
        assert "closed" in repr(journal)
        with pytest.raises(JournalError, match="not open"):
            await journal.intend(job("k"))
        async with journal:
            assert is_open(journal)
            with pytest.raises(RuntimeError, match="open already"):
                await journal.__aenter__()
        await journal.aclose()


async def test_no_thread_outlives_its_journal(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, "k")
        assert len(journal_threads()) == 1
    assert journal_threads() == []
