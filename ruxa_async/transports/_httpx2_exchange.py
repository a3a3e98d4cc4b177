"""One request on its way through httpx2's pool, and whether any of it can have left.

That is told by the pool's tracing, never by the class of an exception: the pool names the moment before the first
byte of a request is written. Until then one deadline runs, `Request.connect_timeout`, and from then on
`Request.timeout`; the pool's own time-outs, one for each step, stay off.
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

from ._base import MaybeSentError, NotSentError, Request, Response, TransportError

__all__ = ("Exchange",)

#: What the pool does while nothing of a request is written. Every other phase counts as sent, one that a later
#: release may add or rename too: a create that is taken for unsent is bought twice.
_BEFORE_SENDING: Final = frozenset(
    {"connect_tcp", "connect_unix_socket", "start_tls", "retry", "close", "response_closed"}
)
_HEADERS_FAILED: Final = "http11.send_request_headers.failed"
_ADDRESS: Final = re.compile(r"([^/?#]*//[^/?#]*)([^#]*)", re.DOTALL)


class Exchange:
    """One request on its way: a block that ends at its deadline and translates errors, and how far it got."""

    def __init__(self, asked: Request, via: str = "") -> None:
        self._asked = asked
        #: The proxy that the request goes through, without its credentials.
        self._via = via
        self._sent = False
        self._shut = False
        #: The reply as far as it was read: its head, and the pieces of its body.
        self.reply: Response | None = None
        self.pieces: list[bytes] = []
        #: A connection that was made for this request and does not carry it yet.
        self._made: httpcore2.AsyncNetworkStream | None = None
        now = anyio.current_time()
        self._ends = now + asked.timeout
        self._deadline = now + min(asked.timeout, asked.connect_timeout)
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
        failure = self._translated(exc)
        try:
            raise failure
        finally:
            # What is being handled may quote a header with the key in it; only what `_root` lets through is chained.
            failure.__context__ = None

    def shut(self) -> None:
        """End whatever is awaited now, and all that is awaited later."""
        self._shut = True
        self._scope.cancel()

    async def open(self, pool: httpcore2.AsyncConnectionPool, encoding: str) -> httpcore2.Response:
        """Send the request and return the head of its reply."""
        asked = self._asked
        origin, target = _origin_and_target(asked.url)
        headers = [(b"Host", origin.netloc), (b"Accept-Encoding", encoding.encode())]
        if asked.body is not None:
            headers.append((b"Content-Length", b"%d" % len(asked.body)))
        headers += [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in asked.headers.items()
            if name.lower() != "accept-encoding"
        ]
        url = httpcore2.URL(scheme=origin.raw_scheme, host=origin.raw_host, port=origin.port, target=target)
        request = httpcore2.Request(
            asked.method, url, headers=headers, content=asked.body, extensions={"trace": self._trace}
        )
        try:
            return await pool.handle_async_request(request)
        except BaseException:
            if self._made is not None:
                # The pool closes what fails, but not what is cancelled while it greets (TLS).
                with anyio.CancelScope(shield=True):
                    await self._made.aclose()
            raise

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note how far the pool got; it awaits this at every step."""
        phase, _, step = event.rpartition(".")
        phase = phase.rpartition(".")[2]
        if step == "complete" and phase in ("connect_tcp", "start_tls"):
            self._made = info["return_value"]
            # The pool's next step is a lock, and a cancel that came with the end of the handshake would strike there: the
            # pool would keep a place for a connection that nobody may use. Struck here, it has failed to connect.
            await checkpoint_if_cancelled()
        elif step == "started" and phase not in _BEFORE_SENDING:
            asking = info.get("request")
            if asking is None or asking.method != b"CONNECT":  # which is between the pool and a proxy
                self._begin()
        elif event == "http11.send_request_body.complete" and self._asked.body is not None:
            failpoint("create sent")
        elif event == _HEADERS_FAILED and isinstance(info["exception"], httpcore2.LocalProtocolError):
            self._sent = False  # refused here, before anything was written

    def _begin(self) -> None:
        self._sent = True
        self._made = None
        self._scope.deadline = self._deadline = self._ends

    def too_large(self, limit: int) -> MaybeSentError:
        return self.maybe_sent(f"the reply is larger than max_body={limit} bytes")

    def maybe_sent(self, what: str) -> MaybeSentError:
        return MaybeSentError(f"{self._label()}: {what}")

    def _translated(self, exc: BaseException) -> TransportError:
        root = _root(exc)
        if self._shut:
            detail = "the transport was closed meanwhile"
        elif not isinstance(exc, Exception):
            asked = self._asked
            detail = f"timed out (timeout={asked.timeout:g} s, connect_timeout={asked.connect_timeout:g} s)"
        elif isinstance(exc, httpcore2.ProxyError):
            # What else it says is the proxy's own text.
            status = re.match(r"[0-9]{3}", str(exc))
            detail = f"the proxy answered HTTP {status[0]}" if status else "the proxy refused to connect"
        else:
            detail = type(exc).__name__ if root is None else f"{type(exc).__name__}: {root}"
        failure: MaybeSentError | NotSentError
        if self._sent:
            failure = self.maybe_sent(f"sent, but no whole answer came: {detail}")
            if self.reply is not None:
                failure.partial = Response(self.reply.status, self.reply.headers, b"".join(self.pieces))
        else:
            failure = NotSentError(f"{self._label()}: nothing was sent: {detail}")
        failure.__cause__ = root
        return failure

    def _label(self) -> str:
        """Return the method, the host and the path: a query may be a signature, and user info a password."""
        try:
            origin, target = _origin_and_target(self._asked.url)
        except (ValueError, httpx2.InvalidURL):
            return f"{self._asked.method} (a URL that cannot be read)"
        path = target.partition(b"?")[0].decode("ascii")
        via = f" through the proxy {self._via}" if self._via else ""
        return f"{self._asked.method} {origin.scheme}://{origin.netloc.decode('ascii')}{path}{via}"


def _origin_and_target(url: str) -> tuple[httpx2.URL, bytes]:
    """Split *url*; what comes after the host goes out as it is."""
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
    """Return the error of the operating system under *exc*: all others may quote addresses and headers."""
    while exc is not None:
        if isinstance(exc, OSError) and not isinstance(exc, TimeoutError):
            return exc
        exc = exc.__cause__ or exc.__context__
    return None
