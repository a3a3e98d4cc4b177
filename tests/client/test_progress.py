"""`progress` passes outcomes on unchanged, shows how many have come, and removes its display at the end."""

from __future__ import annotations

import gc
import io
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType, SimpleNamespace

import anyio
import pytest
from harness import client_of, prompts, service_of, sync_client_of

from ruxa_async import Budget, Failed, NanoBanana, Outcome, RuxaError, SubmissionHalted, _progress, progress
from ruxa_async.emulator import Durations

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A notebook: the list of what its one output has shown."""
    shown: list[str] = []
    display = ModuleType("IPython.display")

    def show(html: str, *, display_id: bool) -> SimpleNamespace:
        assert display_id
        shown.append(html)
        return SimpleNamespace(update=shown.append)

    display.HTML, display.display = str, show  # type: ignore[attr-defined]
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def failed(index: int, key: str | None, why: str) -> Failed:
    error = RuxaError(why)
    return Failed(
        index=index,
        key=key,
        request=NanoBanana(prompt="x"),
        task_id=None,
        error=error,
        queries=0,
        submitted_at=None,
        finished_at=0.0,
    )


async def source(*outcomes: Outcome, error: Exception | None = None) -> AsyncIterator[Outcome]:
    for outcome in outcomes:
        yield outcome
    if error is not None:
        raise error


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ruxa-progress"]


class Screen:
    """All that was written to standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_outcomes_pass_unchanged_and_a_line_remains(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        client_of(service_of(fail_share=0.5, seed=1)) as ruxa,
        ruxa.as_completed(prompts(8)) as outcomes,
    ):
        seen = [outcome async for outcome in progress(outcomes, total=8)]
    assert sorted(outcome.index for outcome in seen) == list(range(8))
    lost = sum(not outcome.ok for outcome in seen)
    assert 0 < lost < 8
    said = capsys.readouterr()
    assert said.err.startswith(f"ruxa-async: 8 of 8 done, {lost} failed, ")
    assert (said.err.count("\n"), said.out) == (1, "")
    assert threads() == []


def test_outcomes_without_async_pass_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    with sync_client_of(service_of(image=Durations(0.01, 0.0))) as ruxa:
        seen = [outcome.index for outcome in progress(ruxa.as_completed(prompts(3)))]
    assert sorted(seen) == [0, 1, 2]
    assert "ruxa-async: 3 done, 0 failed, " in capsys.readouterr().err


async def test_an_error_passes_and_is_raised_again_without_a_second_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with client_of(service_of(), budget=Budget(max_tasks=2)) as ruxa:
        shown = progress(ruxa.as_completed(prompts(5)), total=5)
        for _ in range(2):
            await anext(shown)
        for _ in range(2):
            with pytest.raises(SubmissionHalted):
                await anext(shown)
    assert capsys.readouterr().err.count("2 of 5 done") == 1


async def test_a_cancelled_step_loses_nothing_and_the_loop_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with client_of(service_of()) as ruxa, ruxa.as_completed(prompts(2)) as outcomes:
        shown = progress(outcomes)
        with anyio.move_on_after(1) as scope:
            await anext(shown)
        assert scope.cancelled_caught
        assert threads() == []
        assert "0 done" in capsys.readouterr().err
        assert len([outcome async for outcome in shown]) == 2
    assert "2 done" in capsys.readouterr().err


async def test_leaving_the_loop_ends_the_display_and_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    service = service_of()
    async with client_of(service) as ruxa:
        async with ruxa.as_completed(prompts(1000)) as outcomes:
            async for _ in progress(outcomes):
                break
            gc.collect()  # other implementations than CPython
            assert threads() == []
            assert "1 done, 0 failed" in capsys.readouterr().err
        assert service.ledger.charged < 1000


def test_nothing_is_shown_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    progress(iter([]))
    assert threads() == []
    assert capsys.readouterr().err == ""


def test_what_is_not_iterable_is_refused() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        progress(5)  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]


def test_lines_come_while_the_source_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress._Lines, "interval", 0.01)
    screen = Screen(capsys)

    def slow() -> Iterator[Outcome]:
        yield failed(0, None, "no")
        wait_until(lambda: "1 done" in screen.text())

    assert len(list(progress(slow()))) == 1


def test_a_closed_standard_error_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress._Lines, "interval", 0.01)
    closed = io.StringIO()
    closed.close()

    def slow() -> Iterator[Outcome]:
        wait_until(lambda: not threads())
        yield failed(0, None, "no")

    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        outcomes = slow() if stream is closed else iter([failed(0, None, "no")])
        assert [outcome.index for outcome in progress(outcomes)] == [0]


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_a_bar_that_is_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress._Bar, "interval", 0.01)
    screen = Screen(capsys)

    def slow() -> Iterator[Outcome]:
        yield failed(0, None, "no")
        wait_until(lambda: "1 of 2 done" in screen.text())
        raise RuxaError("the end")

    with pytest.raises(RuxaError, match="the end"):
        list(progress(slow(), total=2))
    text = screen.text()
    assert "━" in text
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1
    cleared, _, last = text.rpartition(SHOW_CURSOR)[2].partition("ruxa-async: ")
    assert cleared.endswith("\x1b[1A\x1b[2K")
    assert last.startswith("1 of 2 done, 1 failed, ")
    assert threads() == []


@pytest.mark.usefixtures("terminal")
def test_without_rich_a_terminal_shows_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert len(list(progress([failed(0, None, "no")]))) == 1
    assert capsys.readouterr().err.startswith("ruxa-async: 1 done, 1 failed, ")


async def test_a_notebook_shows_the_last_outcomes_escaped(
    cell: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [failed(n, f"<b>{n}</b>" if n else None, "<script>no</script>") for n in range(12)]
    assert [outcome async for outcome in progress(source(*outcomes), total=12)] == outcomes
    assert "0 of 12 done" in cell[0]
    assert "12 of 12 done, 12 failed" in cell[-1]
    assert "<script>" not in cell[-1]
    assert "&lt;script&gt;no" in cell[-1]
    assert [f"&lt;b&gt;{n}&lt;/b&gt;" in cell[-1] for n in (3, 4, 11)] == [False, True, True]
    assert capsys.readouterr().err == ""


async def test_a_notebook_is_updated_while_the_source_waits(
    cell: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress._Table, "interval", 0.01)

    def slow() -> Iterator[Outcome]:
        yield failed(0, None, "no")
        wait_until(lambda: "1 done" in cell[-1])

    assert len(list(progress(slow()))) == 1
    assert "<td" in cell[-1]
