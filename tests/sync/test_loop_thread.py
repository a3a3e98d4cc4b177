"""Where a client without async meets interrupts, event loops, forks, hooks and the end of the interpreter."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from harness import prompts, sync_client_of

from ruxa_async import ClientClosedError, NanoBanana
from ruxa_async.emulator import Service
from ruxa_async.sync import RuxaClient
from ruxa_async.sync._loop_thread import LoopThread, _close_all

ROOT = Path(__file__).parent.parent.parent
CAT = NanoBanana(prompt="a cat")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="os.kill there ends the process")


# ---- interrupts


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread(AsyncExitStack(), lambda: None)
    thread.open()
    yield thread
    thread.close()


@needs_signals
def test_a_result_that_comes_with_the_interrupt_is_given_back(thread: LoopThread) -> None:
    lost: list[object] = []

    async def interrupted(result: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        if isinstance(result, Exception):
            raise result
        return result

    error = ZeroDivisionError()
    for result in ("bought", error):
        with pytest.raises(KeyboardInterrupt):
            thread.call(lambda each=result: interrupted(each), lost.append)  # type: ignore[misc]
    thread.read(lambda: None)  # what was posted before has run
    assert lost == ["bought", error]


@needs_signals
def test_an_interrupt_cancels_the_call(thread: LoopThread) -> None:
    cancelled = threading.Event()
    lost: list[object] = []

    async def wait() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    with pytest.raises(KeyboardInterrupt):
        thread.call(wait, lost.append)
    assert cancelled.wait(30)
    assert lost == []


@needs_signals
def test_a_third_interrupt_ends_the_wait_for_a_client_that_does_not_close() -> None:
    release = threading.Event()
    interrupt = partial(os.kill, os.getpid(), signal.SIGINT)

    class Client:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            interrupt()
            await anyio.to_thread.run_sync(release.wait)

    thread = LoopThread(Client(), interrupt)  # the second one aborts the drain: here it is the third
    thread.open()
    with pytest.raises(KeyboardInterrupt):
        thread.close(interrupted=True)
    release.set()
    thread.close()


# ---- event loops


def test_in_an_event_loop_it_works_and_warns_with_the_async_lines(service: Service) -> None:
    async def main() -> None:
        with (
            pytest.warns(RuntimeWarning, match=r"`async with RuxaClient\(\) as ruxa:`") as warned,
            sync_client_of(service) as ruxa,
        ):
            assert ruxa.generate(CAT).urls
        assert {each.filename for each in warned} >= {__file__}

    asyncio.run(main())


def test_in_a_notebook_whose_cells_run_in_an_event_loop_it_does_not_warn(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    ruxa = sync_client_of(service)
    cells = [
        ruxa.open,
        lambda: ruxa.generate(CAT),
        lambda: len(list(ruxa.as_completed(prompts(3)))),
        ruxa.close,
    ]

    async def run(cell: Callable[[], object]) -> object:
        return cell()

    async def notebook() -> list[object]:
        return [await asyncio.create_task(run(cell)) for cell in cells]

    assert asyncio.run(notebook())[2] == 3


def test_a_call_sees_the_context_variables_of_its_caller(service: Service) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    def on_event(event: object) -> None:
        if type(event).__name__ == "JobQueued":
            seen.append(variable.get())

    with sync_client_of(service, on_event=on_event) as ruxa:
        variable.set("set")
        ruxa.submit(CAT)
    assert seen == ["set"]


def test_it_works_in_a_thread_of_a_trio_program(service: Service) -> None:
    def work() -> tuple[str, ...]:
        with sync_client_of(service) as ruxa:
            return ruxa.generate(CAT).urls

    async def main() -> tuple[str, ...]:
        return await anyio.to_thread.run_sync(work)

    assert anyio.run(main, backend="trio")


# ---- hooks


def test_a_hook_that_calls_the_client_gets_an_error_instead_of_waiting_for_itself(service: Service) -> None:
    errors: list[RuntimeError] = []
    stats: list[int] = []

    def on_event(_event: object) -> None:
        with pytest.raises(RuntimeError, match="would wait for itself") as caught:
            ruxa.generate(CAT)
        errors.append(caught.value)
        with pytest.raises(RuntimeError, match="would wait for itself"):
            ruxa.close()
        stats.append(ruxa.stats().accepted)

    ruxa = sync_client_of(service, on_event=on_event)
    with ruxa:
        assert ruxa.generate(CAT).urls
    assert errors
    assert stats[-1] == 1


# ---- forks and the end of the interpreter


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_gets_an_error_and_does_not_close_the_client_of_its_parent(service: Service) -> None:
    with sync_client_of(service) as ruxa, ruxa.as_completed(prompts(2)) as outcomes:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                ruxa.generate(CAT)
            except RuntimeError as error:
                outcomes.__exit__(None, None, None)
                ruxa.close()
                code = 0 if "open one in each process" in str(error) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert len(list(outcomes)) == 2
        assert ruxa.generate(CAT).urls


FORGOTTEN = """
import atexit
# It runs after the client was closed, because it is registered before.
atexit.register(lambda: print(len(service.ledger.entries), repr(ruxa).split(",")[0], len(ruxa.orphans)))

import threading
from harness import service_of, sync_client_of
from ruxa_async import NanoBanana

service = service_of(latency=0.3)
sent = threading.Event()
ruxa = sync_client_of(service, on_event=lambda event: sent.set() if "CreateSent" in repr(event) else None).open()
threading.Thread(target=lambda: ruxa.submit(NanoBanana(prompt="a cat")), daemon=True).start()
sent.wait(30)
"""


def test_a_client_that_is_open_when_the_interpreter_exits_is_closed_in_order() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORGOTTEN],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    assert ran.stdout.startswith("1 <sync RuxaClient http://localhost closed"), ran


def test_at_exit_a_client_that_cannot_be_closed_is_logged_and_the_others_are_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(AsyncExitStack):
        async def __aexit__(self, *_: object) -> bool:
            raise ZeroDivisionError

    threads = [LoopThread(client, lambda: None) for client in (Broken(), AsyncExitStack(), Broken())]
    for thread in threads:
        thread.open()
    _close_all()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError] * 2
    for thread in threads:
        with pytest.raises(ClientClosedError):
            thread.call(anyio.lowlevel.checkpoint)


def test_a_wait_ends_with_the_thread(thread: LoopThread) -> None:
    thread.close()
    thread._wait(threading.Event())
    with pytest.raises(ClientClosedError):
        thread.call_through_interrupts(anyio.lowlevel.checkpoint, interrupted=False)
    assert thread.read(lambda: 1) == 1
    thread.post(lambda: pytest.fail("the loop has ended"))


def test_a_client_that_is_dropped_while_it_is_open_is_closed_and_warns(service: Service) -> None:
    ruxa = sync_client_of(service).open()
    thread = ruxa._thread
    with pytest.warns(ResourceWarning, match=r"with RuxaClient\(\) as ruxa"):  # noqa: PT031 - it is dropped in one of two lines
        del ruxa
        gc.collect()
    assert thread._ended.wait(30)


def test_a_task_and_outcomes_keep_their_client_open(service: Service) -> None:
    def task() -> Any:
        return sync_client_of(service).open().submit(CAT)

    def outcomes() -> Any:
        return sync_client_of(service).open().as_completed(prompts(2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # dropped at the end
        assert task().result().urls
        assert len(list(outcomes())) == 2
        gc.collect()


def test_a_thread_that_crashed_fails_the_calls_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ruxa_async.sync._loop_thread._LOOK_EVERY", 0.01)
    thread = LoopThread(AsyncExitStack(), lambda: None)
    thread.open()

    async def crash() -> None:
        asyncio.get_running_loop().stop()
        await anyio.sleep_forever()

    with pytest.raises(ClientClosedError):
        thread.call(crash)
    with pytest.raises(RuntimeError):
        thread.close()


# ---- misuse


async def test_async_with_and_async_for_name_the_lines_to_write(service: Service) -> None:
    with pytest.raises(TypeError, match=r"write `with RuxaClient\(\) as ruxa:`"):
        async with sync_client_of(service):  # type: ignore[attr-defined]
            pass


def test_async_for_over_its_outcomes_names_the_line_to_write(ruxa: RuxaClient) -> None:
    async def main() -> None:
        async for _ in outcomes:  # type: ignore[attr-defined]
            pass

    outcomes = ruxa.as_completed([])
    with pytest.raises(TypeError, match=r"write `for outcome in ruxa\.as_completed"):
        asyncio.run(main())


async def source() -> Any:
    yield CAT


def test_async_iterables_of_requests_need_the_async_client(ruxa: RuxaClient) -> None:
    with pytest.raises(TypeError, match="from ruxa_async import RuxaClient"):
        ruxa.as_completed(source())


def test_its_generation_names_the_line_that_saves_it(ruxa: RuxaClient, tmp_path: Path) -> None:
    picture = ruxa.generate(CAT)
    with pytest.warns(RuntimeWarning, match=r"ruxa\.save' was never awaited"):  # noqa: PT031 - likewise
        picture.save(tmp_path)  # type: ignore[unused-coroutine]
        gc.collect()
    with pytest.raises(RuntimeError, match=r"`ruxa\.save\(generation, folder\)`"):
        asyncio.run(picture.save(tmp_path))
