"""A service that was never reached: a batch halts with an error that says what to check."""

from __future__ import annotations

import anyio
import pytest
from harness import client_of, prompts, service_of

from ruxa_async import Failed, NotSentError, Outcome, Retries, RuxaClient, SubmissionHalted
from ruxa_async.emulator import Durations, Fault

RETRIES = Retries(unreachable_timeout=30)


async def collect(ruxa: RuxaClient, outcomes: list[Outcome]) -> None:
    async with ruxa.as_completed(prompts(1000)) as completed:
        async for outcome in completed:
            outcomes.append(outcome)


async def test_a_batch_halts_when_the_service_was_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    service = service_of(faults=(Fault("refused"),))
    began = anyio.current_time()
    outcomes: list[Outcome] = []
    async with client_of(service, retries=RETRIES) as ruxa:
        with pytest.raises(SubmissionHalted) as caught:
            await collect(ruxa, outcomes)
    assert 30 <= anyio.current_time() - began <= 65
    assert isinstance(caught.value.cause, NotSentError)
    for part in (
        "never reached",
        "RUXA_BASE_URL",
        "DNS",
        "HTTPS_PROXY set",
        "connection was refused",
        "localhost",
    ):
        assert part in str(caught.value.cause)
    assert "secret" not in str(caught.value)
    assert outcomes
    assert all(
        isinstance(outcome, Failed) and isinstance(outcome.error, NotSentError) for outcome in outcomes
    )
    assert caught.value.unknown == ()
    assert service.ledger.charged == 0


async def test_a_single_request_raises_when_the_service_was_never_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with client_of(service_of(faults=(Fault("refused"),)), retries=RETRIES) as ruxa:
        with pytest.raises(NotSentError, match="no proxy variable is set"):
            await ruxa.submit(next(iter(prompts(1))))


async def test_a_service_that_answered_once_is_waited_for_until_throttled_timeout() -> None:
    service = service_of(image=Durations(1.0), faults=(Fault("refused", during=(5.0, 300.0)),))
    async with client_of(service, retries=RETRIES) as ruxa:
        for request in prompts(2):
            assert (await ruxa.generate(request)).urls
            await anyio.sleep(10)
    assert service.ledger.charged == 2
