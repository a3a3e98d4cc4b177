"""One request in progress through httpx2's pool, and whether any byte of it may have been sent.

The pool calls a trace function before it writes the first byte; the class of an exception does not show that.
Until that call the deadline is `Request.connect_timeout`, afterwards `Request.timeout`. The pool's own
timeouts, one for each step, are off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

import anyio
import httpcore2
import httpx2
from anyio.lowlevel import checkpoint_if_cancelled

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import MaybeSentError, TransportError

from ._base import Request, Response
from ._exchange import Exchange, raise_without_context

__all__ = ("Httpx2Exchange",)

#: The phases of the trace in which nothing of a request is written. In all others it counts as sent, also in
#: new ones of later releases: a create that is wrongly taken for unsent is bought twice.
_BEFORE_SENDING: Final = frozenset(
    {"connect_tcp", "connect_unix_socket", "start_tls", "retry", "close", "response_closed"}
)
_HEADERS_FAILED: Final = "http11.send_request_headers.failed"
_ADDRESS: Final = re.compile(r"([^/?#]*//[^/?#]*)([^#]*)", re.DOTALL)


class Httpx2Exchange(Exchange):
    """One request in progress, and the ``with`` block that ends at its deadline and translates its errors."""

    def __init__(self, request: Request, via: str = "") -> None:
        super().__init__(request, via)
        self._sent = False
        self._shut = False
        #: The part of the reply that was read: its head, and the pieces of its body.
        self.reply: Response | None = None
        self.pieces: list[bytes] = []
        #: A connection that was made for this request, until the request is written.
        self._made: httpcore2.AsyncNetworkStream | None = None
        now = anyio.current_time()
        self._ends = now + request.timeout
        self._deadline = now + min(request.timeout, request.connect_timeout)
        self._scope = anyio.CancelScope()

    def __enter__(self) -> Self:
        self._scope = anyio.CancelScope(deadline=self._deadline).__enter__()
        if self._shut:
            self._scope.cancel()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ended = self._scope.__exit__(kind, exc, traceback)
        if exc is None or isinstance(exc, TransportError) or not (ended or isinstance(exc, Exception)):
            return
        raise_without_context(self._translate(exc))

    @property
    def sent(self) -> bool:
        return self._sent

    def shut(self) -> None:
        """Cancel the current wait and all later ones."""
        self._shut = True
        self._scope.cancel()

    async def open(self, pool: httpcore2.AsyncConnectionPool, encoding: str) -> httpcore2.Response:
        """Send the request and return the head of its reply."""
        ours = self.request
        origin, target = _origin_and_target(ours.url)
        headers = [(b"Host", origin.netloc), (b"Accept-Encoding", encoding.encode())]
        if ours.body is not None:
            headers.append((b"Content-Length", b"%d" % len(ours.body)))
        headers += [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in ours.headers.items()
            if name.lower() != "accept-encoding"
        ]
        url = httpcore2.URL(scheme=origin.raw_scheme, host=origin.raw_host, port=origin.port, target=target)
        request = httpcore2.Request(
            ours.method, url, headers=headers, content=ours.body, extensions={"trace": self._trace}
        )
        try:
            return await pool.handle_async_request(request)
        except BaseException:
            if self._made is not None:
                # The pool closes connections that fail, but not those cancelled during the TLS handshake.
                with anyio.CancelScope(shield=True):
                    await self._made.aclose()
            raise

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Update the state of the exchange; the pool awaits this before and after each step."""
        phase, _, step = event.rpartition(".")
        phase = phase.rpartition(".")[2]
        if step == "complete" and phase in ("connect_tcp", "start_tls"):
            self._made = info["return_value"]
            # The next checkpoint of the pool is a lock. A cancellation there would leave the pool with a slot
            # that is never freed. Raised here, it is a failed connection, which the pool handles.
            await checkpoint_if_cancelled()
        elif step == "started" and phase not in _BEFORE_SENDING:
            request = info.get("request")
            if request is None or request.method != b"CONNECT":  # a CONNECT goes to the proxy only
                self._begin()
        elif event == "http11.send_request_body.complete" and self.request.body is not None:
            failpoint("create sent")
        elif event == _HEADERS_FAILED and isinstance(info["exception"], httpcore2.LocalProtocolError):
            self._sent = False  # rejected by the pool before anything was written

    def _begin(self) -> None:
        self._sent = True
        self._made = None
        self._scope.deadline = self._deadline = self._ends

    def _translate(self, exc: BaseException) -> TransportError:
        root = _root(exc)
        if self._shut:
            detail = "the transport was closed meanwhile"
        elif not isinstance(exc, Exception):
            detail = self.timed_out()
        elif isinstance(exc, httpcore2.ProxyError):
            # The rest of the message is the proxy's own text.
            status = re.match(r"[0-9]{3}", str(exc))
            detail = f"the proxy answered HTTP {status[0]}" if status else "the proxy refused to connect"
        else:
            detail = type(exc).__name__ if root is None else f"{type(exc).__name__}: {root}"
        failure = self.failure(detail, root)
        if isinstance(failure, MaybeSentError) and self.reply is not None:
            failure.partial = Response(self.reply.status, self.reply.headers, b"".join(self.pieces))
        return failure

    def _address(self) -> str:
        try:
            origin, target = _origin_and_target(self.request.url)
        except httpx2.InvalidURL as error:
            raise ValueError(str(error)) from None
        return f"{origin.scheme}://{origin.netloc.decode('ascii')}{target.partition(b'?')[0].decode('ascii')}"


def _origin_and_target(url: str) -> tuple[httpx2.URL, bytes]:
    """Split *url* after the host; the rest is sent unchanged."""
    found = _ADDRESS.match(url)
    if found is None:
        raise ValueError("an address without a host")
    target = found[2].encode("ascii")
    return _origin(found[1]), target if target.startswith(b"/") else b"/" + target


@lru_cache(maxsize=64)
def _origin(text: str) -> httpx2.URL:
    url = httpx2.URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("not an http(s) address")
    return url


def _root(exc: BaseException | None) -> OSError | None:
    """Return the OSError under *exc*, else None: other errors may quote URLs and headers."""
    while exc is not None:
        if isinstance(exc, OSError) and not isinstance(exc, TimeoutError):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None
