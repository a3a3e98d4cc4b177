"""`CallbackReceiver`: accepts authentic callbacks and passes them to clients.

`admit` checks the URL, `take` the headers and the body. The applications (`_aiohttp`, `_asgi`) call `admit`
before they read the body, so that the body of an unauthenticated request is never read.

A service sends a callback until it gets a success, and never again. So the response waits until a callback
that may be the only proof of a purchase is in the journal.
"""

from __future__ import annotations

import enum
import inspect
import os
import secrets as chance
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import anyio
from attrs import frozen

from ruxa_async._logging import logger
from ruxa_async.errors import ConfigurationError, JournalError

from ._authentication import SHORTEST_SECRET, Token, Tokens, looks_like_token, verify
from ._messages import FULL, NO_METHOD, NO_PATH, NO_TOKEN, TAKEN, TOO_LARGE, Answer, Callback, read_body

if TYPE_CHECKING:
    from aiohttp import web
    from starlette.applications import Starlette

    from ruxa_async.journal import LastingJournal

__all__ = ("CallbackReceiver", "Claim", "Listener", "Secret")

Secret: TypeAlias = str | bytes

#: jobs whose callbacks are remembered, to recognize repeated ones
_JOBS_KEPT = 65_536
#: different callbacks that are processed for one job, at most, because each costs a query
_CALLBACKS_PER_JOB = 4
#: unclaimed callbacks in the queue, at most: their number, and the bytes of their bodies
_MOST_WAITING = 1_000
_MOST_WAITING_BYTES = 16 * 2**20


class Claim(enum.Enum):
    """What a callback means to a listener."""

    #: It is about no job of this client.
    NONE = enum.auto()
    #: It is about a task that the journal knows as bought.
    KNOWN = enum.auto()
    #: It may be the only proof that a job was bought.
    PROOF = enum.auto()


class Listener(Protocol):
    """Receives callbacks; a client is one."""

    def claim(self, callback: Callback) -> Claim:
        """Act on *callback* if it belongs to a job of this client; return what it means."""

    async def keep(self, callback: Callback) -> object:
        """Record *callback*; return when that is durable. Raises `JournalError`."""


class CallbackReceiver:
    """Receives the service's callbacks. Pass it to ``RuxaClient(callbacks=receiver)`` and serve it.

    *public_url* is the URL at which the service reaches it: use `serve` to listen on a port, or mount
    `aiohttp_app` or `asgi_app` in an application. Every create gets its own URL below it, with the job id and
    an HMAC under *secret*: at least 16 secret bytes, as text or bytes. Several secrets can be given, to
    replace one: the first signs, and all are accepted. Use the same secret after a restart, or earlier URLs
    become invalid. None, the default, takes RUXA_CALLBACK_SECRET, else a random one. A URL is valid for
    *max_age* seconds (3 days).

    *field* is the name of the URL in a create: ``callback_url`` (default) or ``callBackUrl``. With
    *signing_key*, callbacks must also have the signature of the similar service. *on_unclaimed*, a plain or
    async function, is called with each `Callback` for a job that no open client waits for, such as one of
    another process. With *journal*, an open `LastingJournal` beside its holder, the receiver serves a process
    without a client: each callback is in the journal before it is answered. *max_body* bounds a body in
    bytes (1 MiB), *body_timeout* its transfer in seconds (10).
    Raises `ConfigurationError`.
    """

    def __init__(
        self,
        *,
        public_url: str,
        secret: Secret | Iterable[Secret] | None = None,
        max_age: float = 3 * 86_400.0,
        field: Literal["callback_url", "callBackUrl"] = "callback_url",
        signing_key: Secret | None = None,
        on_unclaimed: Callable[[Callback], Any] | None = None,
        journal: LastingJournal | None = None,
        max_body: int = 2**20,
        body_timeout: float = 10.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if field not in ("callback_url", "callBackUrl"):
            raise ConfigurationError(f"field={field!r} is not valid: callback_url or callBackUrl is needed")
        if journal is not None and on_unclaimed is not None:
            raise ConfigurationError("pass journal= or on_unclaimed=, not both")
        for name, value in (("max_age", max_age), ("max_body", max_body), ("body_timeout", body_timeout)):
            if not 0 < value < float("inf"):
                raise ConfigurationError(f"{name}={value!r} is not valid: a finite number above 0 is needed")
        self.public_url: str = _checked_url(public_url)
        self.field = field
        self.max_age = max_age
        self.max_body = max_body
        self.body_timeout = body_timeout
        self.wall = wall
        self._tokens = Tokens(_all_secrets(secret), max_age)
        #: The number of authentic callbacks so far, including repeated ones and those for other processes.
        self.taken: int = 0
        self._signing_key = None if signing_key is None else _as_bytes(signing_key)
        self._on_unclaimed = on_unclaimed
        self._journal = journal
        self._listeners: list[Listener] = []
        self._processed: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        #: Unclaimed callbacks, and whether they are recorded already.
        self._waiting: deque[tuple[Callback, bool]] = deque()
        self._waiting_bytes = 0
        self._queued = anyio.Event()
        #: Callbacks that no listener claimed, for a job that is read from the journal at this moment.
        self._unclaimed: OrderedDict[bytes, Callback] = OrderedDict()

    def __repr__(self) -> str:
        return f"<CallbackReceiver {self.public_url}>"

    # ---- URLs

    def url(self, job: bytes) -> str:
        """Return the callback URL of *job*, an id of 12 bytes. It is a secret: keep it out of logs."""
        return f"{self.public_url}/{self._tokens.issue(job, self.wall())}"

    # ---- callbacks

    def admit(self, method: str, path: str) -> Token | Answer:
        """Return the token at the end of *path*, or the response to a request that needs no body.

        The prefix before the token is ignored, because proxies and mounts change it; so is one trailing
        slash, which Litestar adds.
        """
        text = path.removesuffix("/").rpartition("/")[2]
        if not looks_like_token(text):
            return NO_PATH
        if method != "POST":
            return NO_METHOD
        return self._tokens.read(text, self.wall()) or NO_TOKEN

    async def take(self, token: Token, headers: Mapping[str, str], body: bytes) -> Answer:
        """Process a complete callback and return the response. *headers* have lower-case names."""
        if len(body) > self.max_body:
            return TOO_LARGE
        if self._signing_key is not None and not verify(self._signing_key, headers, body, self.wall()):
            return NO_TOKEN
        self.taken += 1
        task_id, status = read_body(body)
        callback = Callback(
            job=token.job, issued_at=token.issued_at, task_id=task_id, status=status, size=len(body)
        )
        content = hash((task_id, None if status is None else (status.state, status.urls)))
        known = self._processed.get(token.job, ())
        if content in known or len(known) >= _CALLBACKS_PER_JOB:
            return TAKEN
        if not await self._pass_on(callback):
            return FULL
        self._processed[token.job] = (*known, content)
        if len(self._processed) > _JOBS_KEPT:
            self._processed.popitem(last=False)
        return TAKEN

    async def _pass_on(self, callback: Callback) -> bool:
        """Pass *callback* to the listeners; return whether it needs no repetition."""
        if self._journal is not None:
            return await _is_kept(callback, (_Recorder(self._journal),))
        for listener in tuple(self._listeners):
            claim = listener.claim(callback)
            if claim is not Claim.NONE:
                return claim is Claim.KNOWN or await _is_kept(callback, (listener,))
        self._remember_unclaimed(callback)
        listeners = tuple(self._listeners)
        if (self._on_unclaimed or not listeners) and not self._queue_unclaimed(callback, bool(listeners)):
            return False
        return await _is_kept(callback, listeners)

    def relay(self, callback: Callback) -> None:
        """Pass on *callback*, which another process received and recorded."""
        for listener in tuple(self._listeners):
            if listener.claim(callback) is not Claim.NONE:
                return
        self._remember_unclaimed(callback)

    def _remember_unclaimed(self, callback: Callback) -> None:
        self._unclaimed[callback.job] = callback
        if len(self._unclaimed) > _MOST_WAITING:
            self._unclaimed.popitem(last=False)

    def unclaimed(self, job: bytes) -> Callback | None:
        """Return and forget the last callback for *job* that no listener claimed, None without one."""
        return self._unclaimed.pop(job, None)

    def _queue_unclaimed(self, callback: Callback, kept: bool) -> bool:
        """Queue *callback* for `hand_over_unclaimed`; return whether there was room."""
        if len(self._waiting) >= _MOST_WAITING or self._waiting_bytes + callback.size > _MOST_WAITING_BYTES:
            return False
        self._waiting.append((callback, kept))
        self._waiting_bytes += callback.size
        self._queued.set()
        return True

    # ---- clients

    def ensure_for_client(self) -> None:
        """Raise `ConfigurationError` if this receiver serves a process without a client."""
        if self._journal is not None:
            raise ConfigurationError(
                "a receiver with journal= serves a process without a client: "
                "give the client one without journal=, and the same secret"
            )

    def attach(self, listener: Listener) -> None:
        """Pass every later callback to *listener*."""
        self._listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        """Stop passing callbacks to *listener*."""
        self._listeners.remove(listener)

    async def hand_over_unclaimed(self) -> None:
        """Pass unclaimed callbacks to `Listener.keep` and then to *on_unclaimed*, until cancelled.

        Callbacks that came while no client was open are recorded only here.
        """
        while True:
            while self._waiting:
                callback, kept = self._waiting.popleft()
                try:
                    await self._hand_over(callback, () if kept else tuple(self._listeners))
                except BaseException:
                    self._waiting.appendleft((callback, kept))
                    raise
                self._waiting_bytes -= callback.size
            self._queued = anyio.Event() if self._queued.is_set() else self._queued
            await self._queued.wait()

    async def _hand_over(self, callback: Callback, listeners: tuple[Listener, ...]) -> None:
        for listener in listeners:
            await listener.keep(callback)
        if self._on_unclaimed is None:
            return
        try:
            answer = self._on_unclaimed(callback)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # noqa: BLE001 - logged with its traceback
            logger.exception("on_unclaimed raised on a callback of job %s", callback.job.hex())

    # ---- applications

    def aiohttp_app(self) -> web.Application:
        """Return an application for aiohttp.web; run it, or mount it with ``app.add_subapp("/prefix", ...)``.

        Run it in the event loop of the client. Give its server a small ``keepalive_timeout``: with aiohttp's
        default, a connection that sends half a header stays open for an hour.
        """
        from ._aiohttp import make_app  # noqa: PLC0415 - takes 0.2 s to import

        return make_app(self)

    def serve(
        self, host: str, port: int, *, header_timeout: float = 10.0
    ) -> AbstractAsyncContextManager[tuple[str, int]]:
        """Listen on *host* and *port* during an ``async with``, which gives the bound address. asyncio only.

        Port 0 takes a free port. A request header must arrive within *header_timeout* seconds (10). Raises
        OSError if the address cannot be bound.
        """
        from ._aiohttp import serve  # noqa: PLC0415

        return serve(self, host, port, header_timeout=header_timeout)

    def asgi_app(self) -> Starlette:
        """Return an ASGI application; mount it in FastAPI, Starlette, Litestar or Quart.

        Run it in the event loop of the client. Raises `MissingExtraError` without the extra ``asgi``.
        """
        from ._asgi import make_app  # noqa: PLC0415 - an extra

        return make_app(self)


@frozen
class _Recorder:
    """Records callbacks for the process that holds *journal*."""

    journal: LastingJournal

    async def keep(self, callback: Callback) -> None:
        await self.journal.called_back(callback.job, callback.task_id, callback.status)


class _Keeper(Protocol):
    async def keep(self, callback: Callback) -> object: ...


async def _is_kept(callback: Callback, listeners: Iterable[_Keeper]) -> bool:
    """Return whether *listeners* recorded *callback*. If not, the service has to send it again."""
    try:
        for listener in listeners:
            await listener.keep(callback)
    except JournalError as exc:
        logger.warning("a callback for job %s was not recorded: %s", callback.job.hex(), exc)
        return False
    return True


def _checked_url(url: str) -> str:
    if any(mark in url for mark in "@?#"):  # checked first, because no message may show credentials
        raise ConfigurationError("public_url may hold neither credentials nor a query")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as exc:
        raise ConfigurationError(f"public_url={url!r} is not an address: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ConfigurationError(
            f"public_url={url!r} is not an address: it should look like https://example.org/ruxa"
        )
    return url.rstrip("/")


def _all_secrets(given: Secret | Iterable[Secret] | None) -> list[bytes]:
    if given is None:
        given = os.environ.get("RUXA_CALLBACK_SECRET") or chance.token_bytes(32)
    secrets = [_as_bytes(each) for each in ([given] if isinstance(given, (str, bytes)) else given)]
    if not secrets or any(len(each) < SHORTEST_SECRET for each in secrets):
        raise ConfigurationError(
            f"a callback secret of at least {SHORTEST_SECRET} bytes is needed: pass secret= or set "
            "RUXA_CALLBACK_SECRET, for example to secrets.token_urlsafe(32)"
        )
    return secrets


def _as_bytes(secret: Secret) -> bytes:
    return secret.encode() if isinstance(secret, str) else bytes(secret)
