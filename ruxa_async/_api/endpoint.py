"""`Endpoint`: builds HTTP requests, and turns every variant of the service's responses into one `Reply`.

The service's pages contradict each other and the observed responses. Codes stand in the HTTP status or in the
JSON envelope, names are in camel or snake case, results are a JSON text, an object, or flat: see `reply`. Of
a pending reply only the state is read; `task_status` reads a terminal one in full.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from ruxa_async import errors
from ruxa_async._engine.classify import Phrase, Reply
from ruxa_async._version import __version__
from ruxa_async.requests import GenerationRequest, with_links
from ruxa_async.settings import CallbackURL
from ruxa_async.transports import Request, Response

from .rate_limit_headers import read_quota
from .reply import (
    OK_CODES,
    code_of,
    decode,
    documented_id,
    message_of,
    phrase_of,
    read_documented_state,
    request_id_of,
    retry_after_in_body,
    state_of,
    task_id_in_truncated,
    task_id_of,
)
from .retry_after import ServiceClock, retry_after

__all__ = ("USER_AGENT", "Endpoint", "api_error", "body_text", "encode")

USER_AGENT = f"ruxa-async/{__version__} (Python {platform.python_version()})"

#: Headers whose values are credentials.
_SECRET_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api-key",
        "x-auth-token",
        "x-csrf-token",
    }
)
#: Bytes of a reply that an error carries.
_BODY_SHOWN = 64 * 1024
_RATE_CODES = frozenset({429})
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_PLAIN_ID = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*", re.ASCII)
#: Shorter keys, as tests use, are not redacted: they occur in ordinary words of a reply.
_SHORTEST_SECRET = 6


class Endpoint:
    """Build requests to one service with one key, and read its responses. Timeouts are in seconds."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        create_timeout: float,
        query_timeout: float,
        connect_timeout: float,
        callback: CallbackURL | None = None,
    ) -> None:
        self._create_url = f"{base_url}/api/v1/tasks/create"
        self._query_url = f"{base_url}/api/v1/tasks/query/"
        # The key as it is, and as JSON and URLs escape it.
        spellings = {api_key, api_key.replace("/", "\\/"), json.dumps(api_key)[1:-1], quote(api_key, safe="")}
        self._secrets = [secret.encode() for secret in spellings if len(api_key) >= _SHORTEST_SECRET]
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }
        self._create_headers = {**self._headers, "Content-Type": "application/json"}
        self._create_timeout = create_timeout
        self._query_timeout = query_timeout
        self._connect_timeout = connect_timeout
        self._callback = callback
        self._clock = ServiceClock()

    def create(
        self,
        request: GenerationRequest,
        callback: CallbackURL | None = None,
        links: Mapping[str, str] | None = None,
    ) -> Request:
        """Return the HTTP request that creates a task for *request*, with *callback* in its body.

        *links* are the URLs of its local files.
        """
        given = request.input() if links is None else with_links(request.input(), links)
        body: dict[str, Any] = {"model": request.model, "input": given}
        if (callback := callback or self._callback) is not None:
            body[callback.field] = callback.url
        return Request(
            method="POST",
            url=self._create_url,
            headers=self._create_headers,
            body=encode(body),
            timeout=self._create_timeout,
            connect_timeout=self._connect_timeout,
            fresh=True,
        )

    def query(self, task_id: str) -> Request:
        """Return the HTTP request that queries the state of *task_id*."""
        return Request(
            method="GET",
            url=self._query_url + _path_segment(task_id),
            headers=self._headers,
            timeout=self._query_timeout,
            connect_timeout=self._connect_timeout,
        )

    def read_create(self, response: Response, *, wall_now: float) -> Reply:
        """Return the reply to a create; *wall_now* is in seconds since the epoch, by a steady clock."""
        wall_now, estimated = self._clock.read(response.headers, wall_now)
        reply = self._make_reply(response, wall_now, estimated=estimated)
        root = decode(reply.body)
        if root is not None and response.status == 200 and root.get("code") == 200:
            reply.code, reply.task_id = 200, documented_id(root)
            if reply.task_id is not None:
                return reply
        _read_envelope(reply, root, response, wall_now, estimated=estimated)
        if root is not None:
            reply.task_id = task_id_of(root, ok=_is_ok(reply))
        else:
            reply.task_id = task_id_in_truncated(reply.body)
        return reply

    def read_partial_create(self, error: Exception, *, wall_now: float) -> Reply | None:
        """Return the reply that *error* carries in part, None unless it proves that the create was accepted.

        The partial response is removed from *error*, because it may repeat the key.
        """
        if not isinstance(error, errors.MaybeSentError) or error.partial is None:
            return None
        reply = self.read_create(error.partial, wall_now=wall_now)
        error.partial = None
        return None if reply.task_id is None else reply

    def read_query(self, response: Response, *, task_id: str, wall_now: float) -> Reply:
        """Return the reply to a query for *task_id*. If its state is a known one, nothing else is read."""
        wall_now, estimated = self._clock.read(response.headers, wall_now)
        reply = self._make_reply(response, wall_now, estimated=estimated)
        root = decode(reply.body)
        if root is not None and response.status == 200 and read_documented_state(root, reply):
            return reply
        _read_envelope(reply, root, response, wall_now, estimated=estimated)
        if root is not None:
            reply.data, reply.raw_state, reply.state = state_of(root, task_id=task_id, ok=_is_ok(reply))
        return reply

    def _make_reply(self, response: Response, wall_now: float, *, estimated: bool) -> Reply:
        body = response.body
        for secret in self._secrets:
            if secret in body:  # an error page may repeat the key, and errors are logged and saved
                body = body.replace(secret, b"***")
        return Reply(
            status=response.status,
            body=body,
            quota=read_quota(response.headers, wall_now=wall_now, estimated=estimated),
            headers=response.headers,
        )

    def error(self, reply: Reply, task_id: str | None = None) -> errors.APIError:
        """Return the exception for *reply* to a query for *task_id*, or to a create if that is None."""
        url = self._create_url if task_id is None else self._query_url + _path_segment(task_id)
        error = api_error(reply)
        error.url = self._redact(url)
        error.headers = {
            name: "***" if name in _SECRET_HEADERS else self._redact(value)
            for name, value in reply.headers.items()
        }
        error.request_id = request_id_of(error.headers, decode(reply.body) or {})
        return error

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret.decode(), "***")
        return text


def _is_ok(reply: Reply) -> bool:
    return reply.status in OK_CODES and (reply.code is None or reply.code in OK_CODES)


def _read_envelope(
    reply: Reply, root: dict[str, Any] | None, response: Response, wall_now: float, *, estimated: bool
) -> None:
    if root is not None:
        reply.code = code_of(root)
        reply.message = message_of(root)
        reply.phrase = phrase_of(reply.message)
    if not _is_ok(reply) or reply.phrase is not None:
        read = partial(retry_after, response.headers, wall_now=wall_now, estimated=estimated)
        reply.retry_after = read(rate_limit_headers=False)
        if reply.retry_after is None and (reply.says(_RATE_CODES) or reply.phrase is Phrase.RATE):
            reply.retry_after = read()
            reply.by_rate_limit_headers = reply.retry_after is not None
        if reply.retry_after is None and root is not None:
            reply.retry_after = retry_after_in_body(
                root, response.headers, wall_now=wall_now, estimated=estimated
            )


def api_error(reply: Reply) -> errors.APIError:
    """Return the exception for *reply*, without its URL and headers."""
    codes = [code for code in (reply.code, reply.status) if code is not None and code not in OK_CODES]
    body = body_text(reply)
    status, code, message = reply.status, reply.code, reply.message or _reason(reply)
    if reply.phrase is Phrase.CREDITS:
        return errors.InsufficientCreditsError(status, code, message, body)
    if reply.phrase is Phrase.RATE or 429 in codes or (503 in codes and reply.retry_after is not None):
        return errors.RateLimitedError(status, code, message, body, retry_after=reply.retry_after)
    kind = next((_ERRORS[c] for c in codes if c in _ERRORS), None)
    if kind is None and reply.phrase is Phrase.MODEL:
        kind = errors.NotFoundError
    if kind is None:
        kind = errors.ServerError if any(c >= 500 for c in codes) else errors.APIError
    return kind(status, code, message, body)


def body_text(reply: Reply) -> str:
    """Return the first 64 KiB of the body as text."""
    return reply.body[:_BODY_SHOWN].decode(errors="replace")


_ERRORS: dict[int, type[errors.APIError]] = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditsError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    422: errors.InvalidRequestError,
    455: errors.ServerError,
    505: errors.ServerError,
}


def _reason(reply: Reply) -> str:
    if decode(reply.body) is None:
        return "the reply is not a JSON object" if reply.body else "the reply is empty"
    return "the reply names no reason"


def encode(value: object) -> bytes:
    """Return *value* as compact JSON. Raises `RequestValidationError` if JSON cannot hold it."""
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise errors.RequestValidationError("input", value, f"this cannot be sent as JSON ({exc})") from exc


def _path_segment(task_id: str) -> str:
    """Return *task_id* percent-encoded.

    An id of dots only has them encoded too, because "." and ".." in a path would be resolved to another path.
    """
    if _PLAIN_ID.fullmatch(task_id):
        return task_id
    if not task_id.strip("."):
        return task_id.replace(".", "%2E")
    return quote(task_id, safe="", errors="surrogatepass")  # an id from JSON may hold a lone surrogate
