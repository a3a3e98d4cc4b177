"""Generate on a Dask cluster: one worker sends for the account, and the others process the outputs.

Each shard of requests becomes two Dask tasks. The first buys: it is pinned to the *sending worker*, whose
process holds the `RuxaClient`. The second calls your function for each generation, on another worker if there
is one. Dask may run both again. Nothing is bought twice by that: the journal knows each request by its run
and key. If the sending worker is lost, another worker with the resource opens the journal, and the shards
without results are asked for again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import define, field

from ruxa_async import RuxaClient
from ruxa_async._logging import logger
from ruxa_async.errors import (
    ClientClosedError,
    JournalError,
    JournalMismatchError,
    LinkExpiredError,
    MissingExtraError,
    SubmissionHalted,
)
from ruxa_async.requests import GenerationRequest
from ruxa_async.settings import Downloads

from ._shards import HALTING, Bought, PostProcess, Processed, buy, process

try:
    from dask.bag import Bag
    from distributed import CancelledError, Client, Future, WorkerPlugin, get_client, get_worker, secede, wait
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker
except ImportError as _exc:
    raise MissingExtraError("ruxa_async.integrations.dask", "dask") from _exc

if TYPE_CHECKING:
    from distributed.worker import Worker

__all__ = ("Processed", "generate")

#: seconds between two looks at the list of workers
_LOOK_EVERY = 1.0
#: seconds for which the client stays open without a shard, so that a script that was killed frees the journal
_IDLE = 30.0
#: seconds within which a client must close when its worker does
_CLOSE_WITHIN = 30.0
#: how often one shard is asked for before its error is raised, and the longest pause between, in seconds
_ATTEMPTS, _LONGEST_PAUSE = 10, 10.0
#: seconds within which a finished result must arrive
_FETCH_WITHIN = 30.0
#: Errors of a lost worker, or of a client that cannot go on where it is.
_RETRIED = (ClientClosedError, JournalError, KilledWorker, CancelledError, CommClosedError, TimeoutError)


class _Sender(WorkerPlugin):
    """The client of the sending worker, opened by the first shard there; other workers never open one."""

    def __init__(self, make_client: Callable[[], RuxaClient]) -> None:
        self._make_client = make_client

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._opened: tuple[BlockingPortal, RuxaClient] | None = None
        self._removed = False
        self._users = 0
        self._used_at = 0.0

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        """Close the client, which waits for creates on the wire."""
        self._removed = True
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(self._close), _CLOSE_WITHIN)

    def buy(self, requests: list[GenerationRequest], run: str, renew: bool) -> Bought:
        with self._in_use() as (portal, ruxa):

            async def bought() -> Bought:
                return await buy(ruxa, requests, run, renew=renew)

            return portal.call(bought)

    @contextmanager
    def _in_use(self) -> Generator[tuple[BlockingPortal, RuxaClient]]:
        with self._lock:
            if self._removed:
                raise ClientClosedError("the client of this worker was closed")
            opened = self._opened = self._opened or self._open()
            self._users += 1
        try:
            yield opened
        except (ClientClosedError, JournalError):
            self._close(opened[1])
            raise
        finally:
            with self._lock:
                self._users -= 1
                self._used_at = time.monotonic()

    def _open(self) -> tuple[BlockingPortal, RuxaClient]:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="ruxa"))
            ruxa = portal.call(self._make_client)
            stack.enter_context(portal.wrap_async_context_manager(ruxa))
            self._stack = stack.pop_all()
        self._used_at = time.monotonic()
        threading.Thread(target=self._close_when_idle, args=(ruxa,), daemon=True).start()
        return portal, ruxa

    def _close_when_idle(self, ruxa: RuxaClient) -> None:
        while self._holds(ruxa):
            time.sleep(_LOOK_EVERY)
            if not self._users and time.monotonic() - self._used_at > _IDLE:
                self._close(ruxa, if_unused=True)

    def _holds(self, ruxa: RuxaClient) -> bool:
        return self._opened is not None and self._opened[1] is ruxa

    def _close(self, ruxa: RuxaClient | None = None, *, if_unused: bool = False) -> None:
        """Close the client, only *ruxa* if given. The next shard waits until it is closed."""
        with self._lock:
            if (ruxa is None or self._holds(ruxa)) and not (if_unused and self._users):
                self._opened = None
                try:
                    self._stack.close()
                except Exception:  # noqa: BLE001 - what it holds is closed, and its shards report their errors
                    logger.warning("the client of a Dask worker did not close cleanly", exc_info=True)


def _buy(requests: list[GenerationRequest], name: str, run: str, renew: bool, pause: float) -> Bought:
    """Buy a shard on the sending worker."""
    sender = get_worker().plugins.get(name)
    secede()  # it waits for the service, and this worker's threads are for others
    time.sleep(pause)
    if not isinstance(sender, _Sender):
        raise ClientClosedError("another pass of the run replaced the client of this worker")
    return sender.buy(requests, run, renew)


def _process(bought: Bought, function: PostProcess, downloads: Downloads) -> list[Processed[Any]]:
    """Call *function* for each generation of a shard."""
    return anyio.run(process, bought, function, downloads)


@define(eq=False)
class _Shard:
    requests: list[GenerationRequest] | Future[list[GenerationRequest]]
    attempts: int = 0
    renew: bool = False
    futures: tuple[Future[Any], ...] = ()
    #: the workers that may process it
    workers: AbstractSet[str] = frozenset()


@define(eq=False)
class _Pass:
    """One pass through the requests of a run: at most *window* shards are outstanding."""

    client: Client
    name: str
    run: str
    shards: Iterator[_Shard]
    window: int
    resources: Mapping[str, float]
    timeout: float
    function: PostProcess | None
    downloads: Downloads
    _sender: str = ""
    _others: AbstractSet[str] = frozenset()
    _looked_at: float = 0.0
    _outstanding: list[_Shard] = field(factory=list)
    _halted: Exception | None = None

    def results(self) -> Generator[Processed[Any]]:
        """Yield the results of each shard when it is finished."""
        try:
            while self._fill():
                for shard in self._finished():
                    yield from self._take(shard)
            if self._halted is not None:
                raise SubmissionHalted(self._halted) from self._halted
        finally:
            self._abandon(*self._outstanding)

    def _fill(self) -> bool:
        """Submit shards until the window is full; return whether any is outstanding."""
        self._look_at_workers()
        room = self.window - len(self._outstanding)
        for shard in islice(self.shards, room if self._halted is None else 0):
            self._outstanding.append(shard)
            self._submit(shard)
        return bool(self._outstanding)

    def _finished(self) -> list[_Shard]:
        with suppress(TimeoutError, CancelledError):
            wait([each.futures[-1] for each in self._outstanding], _LOOK_EVERY, "FIRST_COMPLETED")
        return [each for each in self._outstanding if each.futures[-1].done()]

    def _take(self, shard: _Shard) -> list[Processed[Any]]:
        """Return the results of a finished shard, none if it is asked for again."""
        last = shard.futures[-1]
        try:
            got = last.result(timeout=_FETCH_WITHIN)
        except _RETRIED as error:
            self._ask_again(shard, error)
            return []
        results: list[Processed[Any]] = got.results if isinstance(got, Bought) else got
        if not shard.renew and any(isinstance(each.error, LinkExpiredError) for each in results):
            shard.renew = True
            self._submit(shard)
            return []
        self._outstanding.remove(shard)
        halting = (each.error for each in results if isinstance(each.error, HALTING))
        self._halted = self._halted or next(halting, None)
        return results

    def _ask_again(self, shard: _Shard, error: Exception) -> None:
        shard.attempts += 1
        if isinstance(error, JournalMismatchError) or shard.attempts == _ATTEMPTS:
            raise error
        self._submit(shard)

    def _submit(self, shard: _Shard) -> None:
        pause = min(2.0 ** (shard.attempts - 2), _LONGEST_PAUSE) if shard.attempts else 0.0
        # Keys are random: a key made of the arguments would hold their contents as a hash.
        bought = self.client.submit(
            _buy,
            shard.requests,
            self.name,
            self.run,
            shard.renew,
            pause,
            workers=[self._sender],
            pure=False,
        )
        shard.futures, shard.workers = (bought,), {self._sender}
        if self.function is not None:
            # Dask prefers the worker that holds the argument, but that one has to send: a function that takes
            # too much memory must not kill creates on the wire.
            shard.workers = self._others or shard.workers
            done = self.client.submit(
                _process, bought, self.function, self.downloads, workers=list(shard.workers), pure=False
            )
            shard.futures = (bought, done)

    def _look_at_workers(self) -> None:
        """Ensure that there is a sending worker; ask again for the shards whose workers are all lost."""
        if time.monotonic() - self._looked_at < _LOOK_EVERY:
            return
        workers = set(self.client.nthreads())
        is_lost = self._sender not in workers
        if is_lost:
            self._sender = self._elect()
        self._others = workers - {self._sender}
        for shard in self._outstanding:
            if not shard.futures[-1].done() and (is_lost or not shard.workers & workers):
                self._abandon(shard)
                self._ask_again(shard, ClientClosedError("the workers of a shard were lost"))
        self._looked_at = time.monotonic()

    def _elect(self) -> str:
        """Return the address of a worker with the resources. Raises TimeoutError if none comes."""
        end = time.monotonic() + self.timeout
        while True:
            workers: dict[str, Any] = self.client.scheduler_info()["workers"]
            for address, worker in sorted(workers.items()):
                if all(worker["resources"].get(key, 0) >= need for key, need in self.resources.items()):
                    return address
            if time.monotonic() >= end:
                raise TimeoutError(
                    f"no worker with the resources {dict(self.resources)} came within {self.timeout:g} s: "
                    "start one with `dask worker ADDRESS --resources ruxa=1`"
                )
            time.sleep(_LOOK_EVERY)

    def _abandon(self, *shards: _Shard) -> None:
        self.client.cancel([future for shard in shards for future in shard.futures])


def generate(
    requests: Iterable[GenerationRequest] | Bag,
    *,
    make_client: Callable[[], RuxaClient],
    run: str,
    client: Client | None = None,
    post_process: PostProcess | None = None,
    shard: int = 100,
    window: int = 8,
    resources: Mapping[str, float] = MappingProxyType({"ruxa": 1}),
    timeout: float = 60.0,
    downloads: Downloads = Downloads(),  # noqa: B008 - frozen
) -> Generator[Processed[Any]]:
    """Buy every request of *requests* on the cluster of *client*, and yield the results shard by shard.

    *make_client* returns the `RuxaClient` and runs on the sending worker, one that has *resources*. Give it a
    `PostgresJournal`, or a `SqliteJournal` on one machine, and read the API key from the worker's
    environment. A request with a key is bought once for each *run*; without a key, equal requests are one
    purchase. Call this again with the same *run* to continue after a crash.

    *post_process* is called on the workers for each generation, and may be an async function. ``save`` and
    ``read`` of the generation work there without the API key, within the bounds of *downloads*. It may be
    called twice for one generation. Return keys and facts, not bytes.

    A shard has *shard* requests, or is one partition of a bag. At most *window* shards are outstanding.
    *client* is by default the current Dask client. *timeout* is in seconds and bounds the wait for a worker
    with *resources*.

    Leaving the iteration early closes the client on the sending worker. Raises `SubmissionHalted` after the
    last result if the account could not go on; requests that were not sent have no result. Also raises
    TimeoutError if there is no sending worker, what *make_client* raised, and the error of a shard after 10
    attempts.
    """
    client = client or get_client()
    if client.asynchronous:
        raise TypeError("generate needs a synchronous Dask client: Client(asynchronous=False)")
    for name, number in (("shard", shard), ("window", window)):
        if number < 1:
            raise ValueError(f"{name}={number!r} is not valid: at least 1 is needed")
    shards = _shards(client, requests, shard)
    return _run(
        _Pass(client, f"ruxa {run}", run, shards, window, resources, timeout, post_process, downloads),
        make_client,
    )


def _run(each: _Pass, make_client: Callable[[], RuxaClient]) -> Generator[Processed[Any]]:
    # Replaces the client of a script that was killed, and closes it first.
    each.client.register_plugin(_Sender(make_client), each.name)
    try:
        yield from each.results()
    finally:
        each.client.unregister_worker_plugin(each.name)


def _shards(client: Client, requests: Iterable[GenerationRequest] | Bag, size: int) -> Iterator[_Shard]:
    if isinstance(requests, Bag):
        for partition in requests.to_delayed():
            yield _Shard(client.compute(partition))
    else:
        rest = iter(requests)
        while shard := list(islice(rest, size)):
            yield _Shard(shard)
