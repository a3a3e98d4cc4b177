"""What the integrations share: the purchase of a shard of requests, and the processing of its generations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any, Generic, TypeAlias, TypeVar, cast

import anyio
from attrs import evolve, field, frozen

from ruxa_async import RuxaClient
from ruxa_async._portable import portable
from ruxa_async.downloads import OutputDownloader
from ruxa_async.errors import (
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    InsufficientCreditsError,
    JournalError,
    NotSentError,
    RuxaError,
)
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation
from ruxa_async.settings import Downloads

__all__ = ("HALTING", "Bought", "PostProcess", "Processed", "buy", "process")

T = TypeVar("T")
#: A plain or async function of a generation.
PostProcess: TypeAlias = Callable[[Generation], Any]
#: Errors after which every further create would fail too.
HALTING = (AuthenticationError, BudgetExceededError, InsufficientCreditsError, NotSentError)


@frozen(kw_only=True)
class Processed(Generic[T]):
    """One request and its end.

    *value* is what your function returned for the generation, without a function the `Generation`. *error* is
    why there is none: the failure of the request, or what your function raised.
    """

    request: GenerationRequest
    value: T | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def unwrap(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


@frozen
class Bought:
    """The generations of a shard; *here* is the address of a service on this machine, else ""."""

    results: list[Processed[Generation]]
    here: str


async def buy(ruxa: RuxaClient, requests: Sequence[GenerationRequest], run: str, *, renew: bool) -> Bought:
    """Buy the *requests* that *run* has not bought, and wait for the end of all. *renew* queries new links.

    Requests that were not sent when the account could not go on are left out. Raises `ClientClosedError` or
    `JournalError` if the client cannot go on.
    """
    purchase = _Purchase(ruxa, run, renew)
    async with anyio.create_task_group() as tg:
        for number, request in enumerate(requests):
            tg.start_soon(purchase.run_one, number, request)
    results = [purchase.results[number] for number in sorted(purchase.results)]
    for result in results:
        if isinstance(result.error, (ClientClosedError, JournalError)):
            raise result.error
    return Bought(results, purchase.here)


@frozen
class _Purchase:
    ruxa: RuxaClient
    run: str
    renew: bool
    results: dict[int, Processed[Generation]] = field(factory=dict)
    #: the requests that wait for their creates
    _submitting: set[anyio.CancelScope] = field(factory=set)

    @property
    def here(self) -> str:
        made = [result.value for result in self.results.values() if result.value is not None]
        return next((one._media.here for one in made if one._media is not None), "")  # noqa: SLF001

    async def run_one(self, number: int, request: GenerationRequest) -> None:
        try:
            generation = await self._generate(request)
        except RuxaError as error:
            self.results[number] = Processed(request=request, error=error)
            if isinstance(error, HALTING):
                for scope in self._submitting:
                    scope.cancel()
        else:
            if generation is not None:
                self.results[number] = Processed(request=request, value=generation)

    async def _generate(self, request: GenerationRequest) -> Generation | None:
        with anyio.CancelScope() as scope:
            self._submitting.add(scope)
            try:
                task = await self.ruxa.submit(request, run=self.run)
            finally:
                self._submitting.discard(scope)
        if scope.cancelled_caught:
            return None
        generation = await task.result()
        if self.renew and generation.task_id:
            status = await self.ruxa.status(generation.task_id)
            generation = evolve(generation, urls=status.urls or generation.urls)
        return generation


async def process(bought: Bought, function: PostProcess, downloads: Downloads) -> list[Processed[Any]]:
    """Call *function* for every generation of a shard, ``downloads.max_concurrent`` at once."""
    results: dict[int, Processed[Any]] = {}
    slots = anyio.CapacityLimiter(downloads.max_concurrent)
    media = OutputDownloader(downloads=downloads, base_url=bought.here)

    async def one(number: int, result: Processed[Generation]) -> None:
        if result.value is None:
            results[number] = result
            return
        async with slots:
            try:
                value = function(evolve(result.value, _media=media))
                value = await value if isawaitable(value) else value
            except Exception as error:  # noqa: BLE001 - returned: the others must not stop
                results[number] = Processed(request=result.request, error=portable(error))
            else:
                results[number] = Processed(request=result.request, value=value)

    async with media, anyio.create_task_group() as tg:
        for number, result in enumerate(bought.results):
            tg.start_soon(one, number, result)
    return [results[number] for number in sorted(results)]
