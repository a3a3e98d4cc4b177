"""The package is silent until somebody asks, except for paid orphans. No line holds the key or a prompt."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from ruxa_async import Limits, NanoBanana, RateLimit, RuxaClient, events
from ruxa_async._client.log import ClientLog, LoggedTransport, add_logging
from ruxa_async._logging import OrphanNotice, asked_level, logger, report_orphans
from ruxa_async.emulator import Durations, EmulatorSettings, Service, TokenBucket, parse_fault
from ruxa_async.results import JobRecord
from ruxa_async.transports import MemoryTransport

PROMPT = "a very secret cat"
KEY = "sk-canary-0123456789"


def client(
    on_event: events.EventHook | None = None, limits: Limits | None = None, **settings: Any
) -> RuxaClient:
    settings.setdefault("image", Durations(2.0))
    service = Service(EmulatorSettings(key=KEY, epoch=0.0, public_url="http://emulator", **settings))
    return RuxaClient(
        api_key=KEY,
        base_url="https://emulator",
        transport=MemoryTransport(service),
        limits=limits or Limits(),
        on_event=on_event,
    )


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@contextmanager
def alone() -> Iterator[None]:
    """Leave the logger as it is where nothing is configured; pytest adds handlers of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "propagate", False)
        patch.setattr(
            logger, "handlers", [each for each in logger.handlers if isinstance(each, OrphanNotice)]
        )
        yield


def test_the_package_has_a_null_handler() -> None:
    assert any(
        isinstance(handler, logging.NullHandler) for handler in logging.getLogger("ruxa_async").handlers
    )


async def test_a_request_is_one_line_with_method_path_status_time_and_attempt(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, logger="ruxa_async")
    limit = TokenBucket(1.0, burst=1)
    async with client(creates=limit, retry_after="seconds", latency=0.25) as ruxa:
        async with ruxa.as_completed(
            [NanoBanana(prompt=f"{PROMPT} {n}", key=f"k{n}") for n in range(2)]
        ) as outcomes:
            ids = {outcome.task_id async for outcome in outcomes}
        generation = await ruxa.generate(NanoBanana(prompt=PROMPT))
        await generation.save(tmp_path)
    said = lines(caplog, logging.DEBUG)
    assert "POST /api/v1/tasks/create 200 in 250 ms (attempt 1)" in said
    assert "POST /api/v1/tasks/create 429 in 250 ms (attempt 1)" in said
    assert "POST /api/v1/tasks/create 200 in 250 ms (attempt 2)" in said
    for task_id in ids:
        assert f"GET /api/v1/tasks/query/{task_id} 200 in 250 ms (attempt 1)" in said
    assert any(line.startswith("GET emulator/files/") and line.endswith(" ms") for line in said)
    assert any(line.startswith("create throttled 'k") and "retry_after=" in line for line in said)
    whole = caplog.text
    assert PROMPT not in whole
    assert KEY not in whole


async def test_decisions_about_money_are_lines_of_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ruxa_async")
    seen: list[object] = []
    async with (
        client(seen.append, fail_share=1.0, fail_message="no " * 200) as ruxa,
        ruxa.as_completed([NanoBanana(prompt=PROMPT, key="cat")]) as outcomes,
    ):
        (outcome,) = [outcome async for outcome in outcomes]
    accepted, ended = lines(caplog, logging.INFO)
    assert accepted == f"task accepted {outcome.task_id} (google/nano-banana)"
    assert ended.startswith(
        f"task ended {outcome.task_id} (google/nano-banana) status=fail error='TaskFailedError: "
    )
    assert len(ended) < 450
    assert lines(caplog, logging.DEBUG) == []
    assert any(isinstance(event, events.TaskEnded) for event in seen)


async def test_a_request_that_fails_is_a_line_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="ruxa_async")
    faults = (parse_fault("refused:create:nth=1"), parse_fault("reset_after:query:nth=1"))
    async with client(faults=faults) as ruxa:
        await ruxa.generate(NanoBanana(prompt=PROMPT))
    said = lines(caplog, logging.DEBUG)
    assert any(
        line.startswith("POST /api/v1/tasks/create failed in ") and "NotSentError: " in line for line in said
    )
    assert any(
        line.startswith("GET /api/v1/tasks/query/") and "(attempt 1): MaybeSentError: " in line
        for line in said
    )
    assert any(
        line.startswith("GET /api/v1/tasks/query/") and "200 in" in line and "(attempt 2)" in line
        for line in said
    )


def test_logging_that_is_off_is_not_wired_in(caplog: pytest.LogCaptureFixture) -> None:
    hook, transport = print, MemoryTransport(Service(EmulatorSettings()))
    caplog.set_level(logging.WARNING, logger="ruxa_async")
    assert add_logging(hook, transport) == (hook, transport)
    caplog.set_level(logging.INFO, logger="ruxa_async")
    assert add_logging(None, transport)[1] is transport
    caplog.set_level(logging.DEBUG, logger="ruxa_async")
    assert isinstance(add_logging(None, transport)[1], LoggedTransport)


def test_attempts_are_counted_for_what_is_open_only() -> None:
    log, job = ClientLog(), JobRecord(request=NanoBanana(prompt="x"), index=3)
    for attempt in (1, 2):
        log.on_event(events.CreateSent(0.0, job))
        assert log.attempt == attempt
    log.on_event(events.JobWithdrawn(0.0, job))
    log.on_event(events.ScopePaused(0.0, "create", 1.0))
    assert not log._attempts


async def orphan(count: int) -> int:
    """Leave *count* creates while they are on the wire; return how many orphans the client lists."""
    at_once = Limits(create_rate=RateLimit(100, per=1.0, burst=100))
    async with client(limits=at_once, latency=1.0) as ruxa:
        with anyio.move_on_after(0.5):
            async with anyio.create_task_group() as tg:
                for n in range(count):
                    tg.start_soon(ruxa.submit, NanoBanana(prompt=f"{PROMPT} {n}"))
        await anyio.sleep(2)
        return len(ruxa.orphans)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (5, 5), (12, 6)])
async def test_paid_orphans_are_named_without_being_asked_and_folded_when_they_are_many(
    count: int, shown: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone():
        assert await orphan(count) == count
    said = capsys.readouterr().err.splitlines()
    assert len(said) == shown
    assert all(line.startswith("ruxa_async: task task_") for line in said[:5])
    if shown > 5:
        assert said[5].startswith(f"ruxa_async: {count} tasks were paid for")


def test_nothing_else_is_said_without_being_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with alone():
        logger.warning("not sent; it is tried again")
        logger.error("crashed")
        report_orphans(5)
    assert capsys.readouterr().err == ""


async def test_orphans_are_not_said_twice_where_logging_is_configured(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    await orphan(12)
    assert capsys.readouterr().err == ""
    assert len(lines(caplog, logging.WARNING)) == 13


@pytest.mark.parametrize(("value", "level"), [("info", 20), (" DEBUG ", 10), ("", None), ("loud", None)])
def test_ruxa_log_names_a_level(value: str, level: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUXA_LOG", value)
    assert asked_level() == level
    monkeypatch.delenv("RUXA_LOG")
    assert asked_level() is None


PROGRAM = (
    "import ruxa_async, logging; log = logging.getLogger('ruxa_async'); log.info('one'); log.debug('two')"
)


@pytest.mark.parametrize(("value", "said"), [(None, []), ("info", ["one"]), ("debug", ["one", "two"])])
def test_ruxa_log_writes_to_standard_error(value: str | None, said: list[str]) -> None:
    environment = {name: each for name, each in os.environ.items() if name != "RUXA_LOG"}
    environment |= {} if value is None else {"RUXA_LOG": value}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    assert [line.rpartition(": ")[2] for line in ran.stderr.splitlines()] == said


def test_the_command_line_writes_each_line_once(tmp_path: Path) -> None:
    environment = {**os.environ, "RUXA_LOG": "debug"}
    command = [sys.executable, "-m", "ruxa_async", "generate", PROMPT, "--emulator", "--speed", "100"]
    ran = subprocess.run(
        [*command, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    assert ran.stderr.count("POST /api/v1/tasks/create 200") == 1
    assert ran.stderr.count("task accepted") == 1
    assert PROMPT not in ran.stderr
