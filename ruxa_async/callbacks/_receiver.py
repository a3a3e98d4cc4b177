"""`CallbackReceiver`: takes the service's posts, and lets in those that it can believe.

`admit` looks at the address, `take` at headers and body; both are told everything and wait for nothing. The faces
(`aiohttp`, `asgi`) carry the bytes: they ask `admit` before they read a body, so that a stranger's body is never read.
"""

from __future__ import annotations

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

from ruxa_async._logging import logger
from ruxa_async.errors import ConfigurationError

from ._answers import FULL, NO_METHOD, NO_PATH, NO_TOKEN, TAKEN, TOO_LARGE, Answer
from ._bodies import Callback, read_body
from ._signatures import verify
from ._tokens import SHORTEST_SECRET, Token, Tokens, looks_like_token

if TYPE_CHECKING:
    from aiohttp import web
    from starlette.applications import Starlette

__all__ = ("CallbackReceiver", "Listener", "Secret")


Secret: TypeAlias = str | bytes

#: How many jobs are remembered for telling a second post of the same news from the first.
_REMEMBERED = 65_536
#: How often a job may make news: each time costs a query.
_NEWS_OF_A_JOB = 4
#: How much may wait for somebody to look at it: posts that no running job claims.
_MOST_WAITING = 1_000
_MOST_WAITING_BYTES = 16 * 2**20


class Listener(Protocol):
    """A client, as far as a receiver knows of it."""

    def claim(self, callback: Callback) -> bool:
        """Act on *callback* if it is about a job of this client's; tell whether it is. Called in the event loop."""
        ...

    async def keep(self, callback: Callback) -> object:
        """Write down a *callback* that nobody claimed."""
        ...


class CallbackReceiver:
    """Where the service posts to when a task ends. Give it to ``RuxaClient(callbacks=receiver)``, and serve it.

    *public_url* is the address under which the service reaches one of the faces: `serve` listens by itself,
    `aiohttp_app` and `asgi_app` are mounted in an application. Every create gets a URL of its own below it, with the
    job's id and an HMAC by *secret*: at least 16 bytes that nobody knows, a text or bytes, or several, of which the
    first signs and all are believed, so that a secret can be replaced. It must be the same after a restart for
    callbacks to be believed then; None takes RUXA_CALLBACK_SECRET, else one for this object alone. A URL is valid for
    *max_age* seconds: 3 days, as long as senders elsewhere try again.

    *field* is the name under which a create carries the URL: the service's pages write both ``callback_url`` and
    ``callBackUrl``. With *signing_key* a post must be signed as the service's sibling does it, too. *on_unclaimed* is
    called with each `Callback` for a job that no client here waits for, such as one of another process: a plain
    function or an async one, called while a client is open. *max_body* bounds a body in bytes (1 MiB), *body_timeout*
    the seconds that it may take (10). Raises `ConfigurationError`.
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
        max_body: int = 2**20,
        body_timeout: float = 10.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if field not in ("callback_url", "callBackUrl"):
            raise ConfigurationError(f"field={field!r} is not valid: callback_url or callBackUrl is needed")
        for name, value in (("max_age", max_age), ("max_body", max_body), ("body_timeout", body_timeout)):
            if not 0 < value < float("inf"):
                raise ConfigurationError(f"{name}={value!r} is not valid: a finite number above 0 is needed")
        self.public_url = _checked_url(public_url)
        self.field = field
        self.max_age = max_age
        self.max_body = max_body
        self.body_timeout = body_timeout
        self.wall = wall
        self._tokens = Tokens(_all_secrets(secret), max_age)
        #: How many posts were believed so far, those about other processes' jobs and repeated ones too.
        self.taken = 0
        self._signing_key = None if signing_key is None else _as_bytes(signing_key)
        self._on_unclaimed = on_unclaimed
        self._listeners: list[Listener] = []
        self._seen: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        self._waiting: deque[Callback] = deque()
        self._waiting_bytes = 0
        self._news = anyio.Event()

    def __repr__(self) -> str:
        return f"<CallbackReceiver {self.public_url}>"

    # ---- addresses

    def url(self, job: bytes) -> str:
        """Return the address for the job with this id of 12 bytes. Whoever has it can post: it belongs into no log."""
        return f"{self.public_url}/{self._tokens.issue(job, self.wall())}"

    # ---- posts

    def admit(self, method: str, path: str) -> Token | Answer:
        """Return what the token at the end of *path* says, or the answer to a request that needs no reading.

        What stands before the token does not matter, since a proxy or a mount may add or take away a prefix; nor does
        one slash behind it, which Litestar adds.
        """
        text = path.removesuffix("/").rpartition("/")[2]
        if not looks_like_token(text):
            return NO_PATH
        if method != "POST":
            return NO_METHOD
        return self._tokens.read(text, self.wall()) or NO_TOKEN

    def take(self, token: Token, headers: Mapping[str, str], body: bytes) -> Answer:
        """Act on a whole post; *headers* are looked up by lower-case names. Every answer is at once."""
        if len(body) > self.max_body:
            return TOO_LARGE
        if self._signing_key is not None and not verify(self._signing_key, headers, body, self.wall()):
            return NO_TOKEN
        self.taken += 1
        task_id, status = read_body(body)
        callback = Callback(
            job=token.job, issued_at=token.issued_at, task_id=task_id, status=status, size=len(body)
        )
        said = None if status is None else (status.state, status.urls)
        news = hash((task_id, said))
        known = self._seen.get(token.job, ())
        if news in known or len(known) >= _NEWS_OF_A_JOB:
            return TAKEN
        if not any(listener.claim(callback) for listener in self._listeners) and not self._put_by(callback):
            return FULL
        self._seen[token.job] = (*known, news)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return TAKEN

    def _put_by(self, callback: Callback) -> bool:
        """Keep *callback* until somebody looks at it; tell whether there was room."""
        if len(self._waiting) >= _MOST_WAITING or self._waiting_bytes + callback.size > _MOST_WAITING_BYTES:
            return False
        self._waiting.append(callback)
        self._waiting_bytes += callback.size
        self._news.set()
        return True

    # ---- what a client does with it

    def attach(self, listener: Listener) -> None:
        """Ask *listener* about every callback from now on."""
        self._listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        """Ask *listener* no longer."""
        self._listeners.remove(listener)

    async def hand_over_unclaimed(self) -> None:
        """See to what nobody claims, for as long as this runs: listeners keep it, then *on_unclaimed* gets it."""
        while True:
            while self._waiting:
                callback = self._waiting.popleft()
                try:
                    await self._hand_over(callback)
                except BaseException:
                    self._waiting.appendleft(callback)
                    raise
                self._waiting_bytes -= callback.size
            self._news = anyio.Event() if self._news.is_set() else self._news
            await self._news.wait()

    async def _hand_over(self, callback: Callback) -> None:
        for listener in tuple(self._listeners):
            await listener.keep(callback)
        if self._on_unclaimed is None:
            return
        try:
            answer = self._on_unclaimed(callback)
            if inspect.isawaitable(answer):
                await answer
        except Exception:  # noqa: BLE001 - it is logged with its traceback
            logger.exception("on_unclaimed raised on a callback of job %s", callback.job.hex())

    # ---- faces

    def aiohttp_app(self) -> web.Application:
        """Return an application for aiohttp.web; run it, or mount it with ``app.add_subapp("/prefix", ...)``.

        Requests are answered in the event loop of the client. Give the server that runs it a small
        ``keepalive_timeout``: aiohttp's default leaves a connection that sends half a header open for an hour.
        """
        from ._aiohttp import make_app  # noqa: PLC0415 - it takes 0.2 s to import

        return make_app(self)

    def serve(
        self, host: str, port: int, *, header_timeout: float = 10.0
    ) -> AbstractAsyncContextManager[tuple[str, int]]:
        """Listen on *host* and *port* for the length of an ``async with``, which gives the address; asyncio only.

        Port 0 takes a free one. A connection may take *header_timeout* seconds to send a request's header. Raises
        OSError if the address cannot be had.
        """
        from ._aiohttp import serve  # noqa: PLC0415

        return serve(self, host, port, header_timeout=header_timeout)

    def asgi_app(self) -> Starlette:
        """Return an ASGI application; mount it in FastAPI, Starlette, Litestar or Quart.

        Requests are answered in the event loop of the client. Raises `MissingExtraError` without the extra ``asgi``.
        """
        from ._asgi import make_app  # noqa: PLC0415 - an extra

        return make_app(self)


def _checked_url(url: str) -> str:
    if any(mark in url for mark in "@?#"):  # checked first: no message may show credentials
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
            f"a callback secret of at least {SHORTEST_SECRET} bytes is needed, such as secrets.token_urlsafe(32) gives: "
            "pass secret=, or set RUXA_CALLBACK_SECRET"
        )
    return secrets


def _as_bytes(secret: Secret) -> bytes:
    return secret.encode() if isinstance(secret, str) else bytes(secret)
