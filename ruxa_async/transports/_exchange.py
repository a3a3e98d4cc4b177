"""The parts that both HTTP transports share: settings, checks, error messages, and streamed replies."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Final, NoReturn, Self

from attrs import frozen

from ruxa_async.errors import MaybeSentError, NotSentError

from ._allowed import check_allowed
from ._base import Request
from ._proxies import Proxies, trusted_by_environment

__all__ = (
    "FRESH_SECONDS",
    "IDLE_SECONDS",
    "Exchange",
    "PooledTransport",
    "Streamed",
    "raise_without_context",
)

#: seconds that a connection for creates may be idle; servers close idle connections later than this
FRESH_SECONDS: Final = 2.0
#: seconds that any other connection may be idle; the default of aiohttp
IDLE_SECONDS: Final = 15.0


class PooledTransport:
    """The settings of a transport that has a connection pool. Raises ValueError or `ConfigurationError`.

    *kinds* are the schemes of proxies that the pool supports.
    """

    def __init__(
        self,
        *,
        pool_size: int,
        max_body: int,
        trust_env: bool,
        proxy: str | None,
        ssl_context: ssl.SSLContext | None,
        kinds: Collection[str] = ("http", "https"),
    ) -> None:
        if pool_size < 1:
            raise ValueError(f"pool_size={pool_size!r} is not valid: at least 1 connection is needed")
        if max_body < 1:
            raise ValueError(f"max_body={max_body!r} is not valid: at least 1 byte is needed")
        self._pool_size = pool_size
        self._max_body = max_body
        self._proxies = Proxies(proxy, trust_env=trust_env, kinds=kinds)
        self._ssl_context = trusted_by_environment() if ssl_context is None and trust_env else ssl_context
        self._loop: object = None
        self._closed = False

    def _check_usable(self, loop: object, request: Request) -> None:
        """Raise RuntimeError if the transport is closed, or belongs to another event loop than *loop*.

        Raises `NotSentError` if *request* is not allowed (see `check_allowed`).
        """
        name = type(self).__name__
        if self._closed:
            raise RuntimeError(f"This {name} is closed; make a new one.")
        if self._loop is None:
            self._loop = loop
        elif loop != self._loop:
            raise RuntimeError(
                f"This {name} belongs to the event loop of its first use, and this is another event loop; "
                "make one for each loop."
            )
        check_allowed(request)


class Exchange(ABC):
    """One request in progress. *via* is the URL of its proxy, without credentials, "" without a proxy."""

    __slots__ = ("request", "via")

    def __init__(self, request: Request, via: str = "") -> None:
        self.request = request
        self.via = via

    @property
    @abstractmethod
    def sent(self) -> bool:
        """Whether a byte of the request may have been handed to the socket."""

    @abstractmethod
    def _address(self) -> str:
        """Return scheme, host and path of the URL. Raises ValueError."""

    def failure(self, detail: str, cause: BaseException | None) -> MaybeSentError | NotSentError:
        """Return the error of an exchange that failed as *detail* says; *cause* must hold no secrets."""
        error: MaybeSentError | NotSentError
        if self.sent:
            error = self.maybe_sent(f"sent, but no whole answer came: {detail}")
        else:
            error = NotSentError(f"{self._label()}: nothing was sent: {detail}")
        error.__cause__ = cause
        return error

    def maybe_sent(self, detail: str) -> MaybeSentError:
        return MaybeSentError(f"{self._label()}: {detail}")

    def too_large(self, limit: int) -> MaybeSentError:
        return self.maybe_sent(f"the reply is larger than max_body={limit} bytes")

    def timed_out(self) -> str:
        request = self.request
        return f"timed out (timeout={request.timeout:g} s, connect_timeout={request.connect_timeout:g} s)"

    def _label(self) -> str:
        """Return method, host and path: the query may hold a signature, and the user info a password."""
        try:
            address = self._address()
        except ValueError:
            return f"{self.request.method} (a URL that cannot be read)"
        via = f" through the proxy {self.via}" if self.via else ""
        return f"{self.request.method} {address}{via}"


@frozen(eq=False)
class Streamed:
    """A reply whose body is still arriving, and the iterator over its pieces.

    *read* returns the next piece, b"" at the end. *exchange* translates its errors.
    """

    status: int
    headers: Mapping[str, str]
    _exchange: AbstractContextManager[object, None]
    _read: Callable[[], Awaitable[bytes]]

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with self._exchange:
            chunk = await self._read()
        if chunk:
            return chunk
        raise StopAsyncIteration


def raise_without_context(error: BaseException) -> NoReturn:
    """Raise *error* without the error that is being handled, which may quote the API key or a signed URL."""
    try:
        raise error
    finally:
        error.__context__ = None
