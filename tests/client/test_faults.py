"""Every fault of the emulator, for creates, queries and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import (
    DownloadError,
    Limits,
    MalformedResponseError,
    NanoBanana,
    SubmissionUnknownError,
    Timeouts,
)
from ruxa_async.emulator import AFTER, BEFORE, Durations, Fault, TokenBucket

CAT = NanoBanana(prompt="a cat", key="cat")

#: What becomes of a create that is struck once: how many are charged, and whether the caller has its task id.
CREATES: dict[str, tuple[int, bool]] = {
    "refused": (1, True),  # no byte left: sent again
    "reset_before": (0, False),
    "stall_before": (0, False),
    "error": (0, False),
    "html": (0, False),
    "redirect": (0, False),  # not followed
    "slow": (1, True),
    "reset_after": (1, False),
    "stall": (1, False),
    "cut": (1, False),
    "drip": (1, True),  # slow, but within the deadline
    "truncated": (1, False),
    "duplicate": (1, True),
    "duplicate_keys": (1, True),
    "error_after": (1, False),
    "garbage": (1, False),
    "empty": (1, False),
    "no_id": (1, False),
    "wrong_types": (1, False),
    "oversized": (1, False),
}


def test_every_fault_is_in_a_table() -> None:
    assert set(CREATES) | {"expired"} == {*BEFORE, *AFTER}


@pytest.mark.parametrize("kind", CREATES)
async def test_a_create_with_a_fault_is_bought_once_at_most(kind: str) -> None:
    charged, known = CREATES[kind]
    service = service_of(faults=(Fault(kind, "create", nth=(1,)),))  # type: ignore[arg-type]
    async with client_of(service) as ruxa:
        if known:
            assert (await ruxa.generate(CAT)).task_id == service.ledger.entries[0].task_id
        else:
            with pytest.raises(SubmissionUnknownError, match="may have been charged"):
                await ruxa.generate(CAT)
        await anyio.sleep(1000)
        assert ruxa.stats().in_flight == 0
    assert service.ledger.charged == charged


async def test_an_unknown_create_says_what_to_do_with_and_without_a_journal() -> None:
    async with client_of(service_of(faults=(Fault("reset_after", "create", nth=(1,)),))) as ruxa:
        with pytest.raises(SubmissionUnknownError) as caught:
            await ruxa.generate(CAT)
    assert "With a journal: `ruxa-async journal FOLDER_OR_FILE`" in str(caught.value)
    assert "Without one: if the task is there, attach() to its id" in str(caught.value)


@pytest.mark.parametrize("kind", sorted({*BEFORE, *AFTER} - {"expired"}))
async def test_a_query_with_a_fault_is_sent_again(kind: str) -> None:
    service = service_of(faults=(Fault(kind, "query", nth=(1, 2, 4)),))  # type: ignore[arg-type]
    async with client_of(service) as ruxa:
        assert (await ruxa.generate(CAT)).urls
    assert service.ledger.charged == 1


@pytest.mark.parametrize(
    "kind",
    ["refused", "reset_before", "error", "html", "redirect", "reset_after", "cut", "error_after"],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_output_with_a_fault_is_fetched_again(kind: Any, tmp_path: Path) -> None:
    service = service_of(image=Durations(0.1, 0.0), faults=(Fault(kind, "file", nth=(1,)),))
    async with client_of(service) as ruxa:
        (path,) = await (await ruxa.generate(CAT)).save(tmp_path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert [each.name for each in tmp_path.iterdir()] == ["cat.png"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_expired_output_says_so_and_leaves_no_file(tmp_path: Path) -> None:
    service = service_of(image=Durations(0.1, 0.0), faults=(Fault("expired", "file"),))
    async with client_of(service) as ruxa:
        generation = await ruxa.generate(CAT)
        with pytest.raises(DownloadError, match="expired"):
            await generation.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_success_without_outputs_keeps_the_id() -> None:
    service = service_of(outputs=0)
    async with client_of(service) as ruxa:
        with pytest.raises(MalformedResponseError) as caught:
            await ruxa.generate(CAT)
    assert caught.value.task_id == service.ledger.entries[0].task_id


async def test_a_stall_ends_at_its_deadline() -> None:
    service = service_of(faults=(Fault("stall", "create"),))
    async with client_of(service, timeouts=Timeouts(create=7)) as ruxa:
        start = anyio.current_time()
        with pytest.raises(SubmissionUnknownError, match="within 7 s"):
            await ruxa.submit(CAT)
        assert anyio.current_time() - start == pytest.approx(7)


async def test_a_drip_ends_at_its_deadline() -> None:
    service = service_of(faults=(Fault("drip", "create", seconds=50),))
    async with client_of(service, timeouts=Timeouts(create=7)) as ruxa:
        start = anyio.current_time()
        with pytest.raises(SubmissionUnknownError, match="within 7 s"):
            await ruxa.submit(CAT)
        assert anyio.current_time() - start == pytest.approx(7)


@pytest.mark.long
async def test_a_storm_of_faults_loses_nothing_and_buys_nothing_twice() -> None:
    kinds: Any = [kind for kind in CREATES if kind not in ("stall", "stall_before")]
    faults = [Fault(kind, "create", share=0.03) for kind in kinds]
    faults += [Fault(kind, "query", share=0.03) for kind in kinds]
    service = service_of(
        faults=tuple(faults),
        creates=TokenBucket(rate=20, burst=20),
        queries=TokenBucket(rate=100, burst=50),
        retry_after="ms",
    )
    delivered: set[str] = set()
    unknown = 0
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(400)) as completed:
        async for outcome in completed:
            if outcome.ok:
                delivered.add(outcome.task_id or "")
            else:
                assert isinstance(outcome.error, SubmissionUnknownError)
                unknown += 1
    assert service.ledger.duplicates() == []
    assert len(delivered) + unknown == 400
    lost = service.ledger.missing(delivered)
    assert len(lost) <= unknown == len(completed.unknown)


# ---- the limits that the sibling service has


async def test_sixty_prompts_complete_under_the_siblings_limits() -> None:
    service = service_of(
        image=Durations(10.0, 0.4),
        creates=TokenBucket(rate=2.0, burst=20),
        queries=TokenBucket(rate=10.0, burst=10),
        max_running=100,
    )
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(60)) as completed:
        assert all([outcome.ok async for outcome in completed])
    assert service.ledger.charged == 60


@pytest.mark.long
@pytest.mark.alternate_backends
@pytest.mark.timeout(600)  # under coverage, on a busy machine
async def test_ten_thousand_tasks_in_flight_fail_nothing() -> None:
    service = service_of(image=Durations(20.0, 0.1))
    peak = 0
    async with (
        client_of(service, limits=Limits(max_in_flight=10_000)) as ruxa,
        ruxa.as_completed(prompts(10_000)) as completed,
    ):
        async for outcome in completed:
            assert outcome.ok
            peak = max(peak, ruxa.stats().in_flight)
    assert peak >= 9_990
    assert service.ledger.charged == 10_000


@pytest.mark.parametrize("nth", [1, 5, 20])
async def test_a_create_that_is_never_answered_does_not_hold_back_the_others(nth: int) -> None:
    """All others end in a tenth of its timeout, however much is known of the rate limit by then."""
    service = service_of(
        image=Durations(2.0, 0.0), creates=TokenBucket(20, 10), faults=(Fault("stall", "create", nth=(nth,)),)
    )
    ended: list[float] = []
    async with client_of(service) as ruxa, ruxa.as_completed(prompts(160)) as outcomes:
        began = anyio.current_time()
        async for outcome in outcomes:
            ended.append(anyio.current_time() - began)
            assert outcome.ok or isinstance(outcome.error, SubmissionUnknownError)
    assert len(ended) == 160
    assert ended[-2] < 16
    assert 120 <= ended[-1] < 121  # `Timeouts.create`, from when it left
