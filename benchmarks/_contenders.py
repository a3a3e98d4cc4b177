"""The client process of the benchmarks of limits: read a job, prepare, and buy when the next line arrives.

A contender is what a person would write with that library, from its own examples and with its own defaults:
all tasks at once, or what the library does instead. If a library has no polling loop, the state is requested
once a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from benchmarks._gathered import KEY, Contender, Done, Job, gathered, named, prompts
from benchmarks._peers import PEERS

_MODEL = "google/nano-banana"
_POLLED_EVERY = 1.0
_TRIES = 6


# ---- this library


async def ours(job: Job, done: Done) -> list[str]:
    """Buy with `as_completed` and default settings; a job may configure limits."""
    from ruxa_async import Limits, NanoBanana, RateLimit, RuxaClient

    limits: dict[str, Any] = {
        name: RateLimit(**value) if isinstance(value, dict) else value
        for name, value in job.get("limits", {}).items()
    }
    failures = []
    requests = (NanoBanana(prompt=text, key=text) for text in prompts(job))
    client = RuxaClient(api_key=KEY, base_url=job["url"], limits=Limits(**limits))
    async with client as ruxa, ruxa.as_completed(requests) as outcomes:
        try:
            async for outcome in outcomes:
                if outcome.ok:
                    done(str(outcome.key))
                else:
                    failures.append(named(outcome.error))
        finally:
            job["throttled"] = dict(ruxa.stats().throttled)
    return failures


# ---- what people write over aiohttp


class _ThrottledError(Exception):
    """A 429, with its wait in seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Plain:
    """The two calls of the API, without any retry."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def create(self, text: str) -> str:
        body = {"model": _MODEL, "input": {"prompt": text}}
        async with self._session.post("/api/v1/tasks/create", json=body) as response:
            task_id: str = (await self._read(response))["taskId"]
            return task_id

    async def state(self, task_id: str) -> str:
        async with self._session.get(f"/api/v1/tasks/query/{task_id}") as response:
            state: str = (await self._read(response))["state"]
            return state

    @staticmethod
    async def _read(response: Any) -> dict[str, Any]:
        if response.status == 429:
            raise _ThrottledError(float(response.headers.get("Retry-After", 1)))
        response.raise_for_status()
        data: dict[str, Any] = (await response.json())["data"]
        return data


_Call: TypeAlias = Callable[[str], Awaitable[str]]


async def _over_aiohttp(job: Job, done: Done, retrying: Callable[[_Call], _Call]) -> list[str]:
    import aiohttp

    in_flight = asyncio.Semaphore(job["tasks"])
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(job["url"], headers=headers) as session:
        plain = _Plain(session)
        create, state = retrying(plain.create), retrying(plain.state)

        async def buy(text: str) -> None:
            async with in_flight:
                await _bought(create, state, text)

        return await gathered(job, done, buy)


async def _bought(create: _Call, state: _Call, text: str) -> None:
    task_id = await create(text)
    while await state(task_id) != "success":  # noqa: ASYNC110 - the condition is another process
        await asyncio.sleep(_POLLED_EVERY)


def _backing_off(call: _Call) -> _Call:
    """Try again after 1, 2, 4 ... seconds, six times in all."""

    async def tried(given: str) -> str:
        for attempt in range(_TRIES - 1):
            try:
                return await call(given)
            except _ThrottledError:
                await asyncio.sleep(2**attempt)
        return await call(given)

    return tried


def _obeying(call: _Call) -> _Call:
    """Wait for Retry-After, without a limit of attempts."""

    async def tried(given: str) -> str:
        while True:
            try:
                return await call(given)
            except _ThrottledError as refusal:
                await asyncio.sleep(refusal.seconds)

    return tried


async def gather(job: Job, done: Done) -> list[str]:
    """Buy with gather, a semaphore and six tries with a doubling pause."""
    return await _over_aiohttp(job, done, _backing_off)


async def gather_obeying(job: Job, done: Done) -> list[str]:
    """Buy with gather, a semaphore, and Retry-After obeyed without end."""
    return await _over_aiohttp(job, done, _obeying)


async def tenacity(job: Job, done: Done) -> list[str]:
    """Buy with the retry of tenacity's pages: random exponential waits of up to 60 s, six attempts."""
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    def retrying(call: _Call) -> _Call:
        decorate = retry(
            retry=retry_if_exception_type(_ThrottledError),
            wait=wait_random_exponential(min=1, max=60),
            stop=stop_after_attempt(_TRIES),
        )
        decorated: _Call = decorate(call)
        return decorated

    return await _over_aiohttp(job, done, retrying)


async def aiometer(job: Job, done: Done) -> list[str]:
    """Buy with aiometer at the configured rate, and six tries with a doubling pause."""
    import aiohttp
    import aiometer as library

    failures: list[str] = []
    async with aiohttp.ClientSession(job["url"], headers={"Authorization": f"Bearer {KEY}"}) as session:
        plain = _Plain(session)

        async def one(text: str) -> None:
            try:
                await _bought(_backing_off(plain.create), _backing_off(plain.state), text)
                done(text)
            except _ThrottledError as error:  # otherwise it would end all the others
                failures.append(named(error))

        await library.run_on_each(one, prompts(job), max_at_once=job["tasks"], max_per_second=10)
    return failures


CONTENDERS: Mapping[str, Contender] = {
    **{each.__name__: each for each in (ours, gather, gather_obeying, aiometer, tenacity)},
    **PEERS,
}
#: The package that each needs beside this library.
NEEDED: Mapping[str, str] = {
    "aiometer": "aiometer",
    "tenacity": "tenacity",
    "fal": "fal_client",
    "replicate": "replicate",
    "replicate_polling": "replicate",
    "openai": "openai",
    "runwayml": "runwayml",
}


async def _run(job: Job) -> dict[str, Any]:
    start = time.monotonic()
    finished: list[tuple[float, str]] = []
    failures: list[str] = []
    try:
        async with asyncio.timeout(job["limit"]):
            failures = await CONTENDERS[job["contender"]](
                job, lambda text: finished.append((time.monotonic() - start, text))
            )
    except TimeoutError:
        failures = [f"cut off after {job['limit']} s"]
    report = {"start": start, "finished": finished, "failures": dict(Counter(failures))}
    return {**report, "throttled": job.get("throttled"), "wall": time.monotonic() - start}


def main() -> None:
    """Do one job: report whether its library is installed, and buy when the next line arrives."""
    warnings.simplefilter("ignore")  # warnings of other libraries
    job: Job = json.loads(sys.stdin.readline())
    try:
        __import__(NEEDED.get(job["contender"], "ruxa_async"))
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps({"missing": None}), flush=True)
    if sys.stdin.readline():
        print(json.dumps(asyncio.run(_run(job))), flush=True)


if __name__ == "__main__":
    main()
