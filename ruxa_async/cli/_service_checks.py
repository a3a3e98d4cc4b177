"""The checks of ``ruxa-async doctor`` that use the network. None of them creates a task."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

import anyio
from attrs import evolve, frozen

from ruxa_async._api.endpoint import USER_AGENT, Endpoint
from ruxa_async._client.config import proxy_of
from ruxa_async.callbacks import CallbackReceiver
from ruxa_async.errors import (
    AuthenticationError,
    PermissionDeniedError,
    RuxaError,
    ServerError,
    TransportError,
)
from ruxa_async.transports import Request, Response, Transport

from ._batch_options import CallbackAddress
from ._findings import Finding

__all__ = ("Service", "check_callbacks")

#: The id of the task that is queried: no service gives it.
_NO_TASK = "ruxa-async-doctor"
_TIMEOUT = 15.0
#: Seconds by which the clock may differ: the Date header has whole seconds; callbacks are signed for 300.
_CLOCK_WARNING = 5.0
_CLOCK_FAILURE = 300.0
_NETWORK = "Check the address (RUXA_BASE_URL), the network, the firewall and the proxy"


@frozen
class Service:
    """The service at *base_url*, asked with *key* if there is one."""

    base_url: str
    key: str | None
    proxy: str | None

    async def address(self) -> Finding:
        """Return whether the name of the service resolves, and whether a proxy is used."""
        parts = urlsplit(self.base_url)
        proxy = proxy_of(self.base_url, self.proxy)
        if proxy is not None:
            origin = "--proxy" if self.proxy is not None else "the environment"
            return Finding("proxy", "ok", f"{self.base_url} is reached through {proxy}, from {origin}")
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            return Finding(
                "address", "failed", f"{host} does not resolve: {error.strerror or error}", _NETWORK
            )
        addresses = ", ".join(sorted({str(each[4][0]) for each in found})[:3])
        return Finding("address", "ok", f"{host} resolves to {addresses}; no proxy is used")

    async def reply(self, transport: Transport) -> list[Finding]:
        """Query a task that does not exist; return what the reply says of the service, key and clock."""
        endpoint = Endpoint(
            self.base_url,
            self.key or "none",
            create_timeout=_TIMEOUT,
            query_timeout=_TIMEOUT,
            connect_timeout=_TIMEOUT,
        )
        request = endpoint.query(_NO_TASK)
        if self.key is None:
            request = evolve(request, headers={"User-Agent": USER_AGENT})
        began, sent_at = anyio.current_time(), time()
        try:
            response = await transport.send(request)
        except TransportError as error:
            return [Finding("reply", "failed", f"{self.base_url} does not reply: {error}", _NETWORK)]
        rtt = anyio.current_time() - began
        return [self._judged(endpoint, response, rtt), _clock(response, sent_at + rtt / 2)]

    def _judged(self, endpoint: Endpoint, response: Response, rtt: float) -> Finding:
        reply = endpoint.read_query(response, task_id=_NO_TASK, wall_now=time())
        error = endpoint.error(reply, _NO_TASK)
        seen = f"{self.base_url} replied in {rtt * 1000:.0f} ms with HTTP {response.status}"
        if 300 <= response.status < 400:
            return Finding("reply", "failed", f"{seen}, a redirect", "Set RUXA_BASE_URL to the final address")
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            if self.key is None:
                return Finding("reply", "ok", f"{seen}, as without a key")
            return Finding("reply", "failed", f"{seen}: {error}")
        if not response.body.lstrip().startswith(b"{"):
            advice = "Check RUXA_BASE_URL, and whether a proxy or a login page answers instead"
            return Finding("reply", "failed", f"{seen}, which is not the service: no JSON", advice)
        if isinstance(error, ServerError):
            return Finding("reply", "failed", f"{seen}: {error}", "Try again later")
        key = "" if self.key is None else "; the key is not refused"
        return Finding("reply", "ok", f"{seen} for a task that does not exist{key}")


def _clock(response: Response, now: float) -> Finding:
    """Compare the clock, which shows *now* in seconds since the epoch, with the Date of *response*."""
    try:
        date: datetime = parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return Finding("clock", "skipped", "the reply has no Date, so the clock was not compared")
    ahead = now - date.timestamp() - 0.5
    if abs(ahead) <= _CLOCK_WARNING:
        return Finding("clock", "ok", "the clock agrees with the service")
    text = f"the clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the service"
    advice = "Set it by NTP: callbacks and certificates depend on it"
    return Finding("clock", "failed" if abs(ahead) > _CLOCK_FAILURE else "warning", text, advice)


async def check_callbacks(address: CallbackAddress, transport: Transport) -> Finding:
    """Listen at *address*, post a callback to its public URL, and return whether it arrived."""
    try:
        receiver = CallbackReceiver(public_url=address.url)
        async with receiver.serve(address.host, address.port):
            return await _posted(receiver, transport)
    except RuxaError as error:
        return Finding("callbacks", "failed", str(error))
    except OSError as error:
        reason = error.strerror or str(error)
        listen = f"{address.host}:{address.port}"
        advice = "Stop the program that uses it, or give another --callback-listen"
        return Finding("callbacks", "failed", f"{listen} cannot be listened on: {reason}", advice)


async def _posted(receiver: CallbackReceiver, transport: Transport) -> Finding:
    request = Request(
        method="POST",
        url=receiver.url(os.urandom(12)),
        headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
        body=b'{"code":200,"data":{}}',
        timeout=_TIMEOUT,
    )
    url = receiver.public_url
    try:
        response = await transport.send(request)
    except TransportError as error:
        reason = str(error).replace(request.url, url)  # the token at its end is a secret
        advice = "Lead it to --callback-listen; a network may not reach its own public address from inside"
        return Finding("callbacks", "failed", f"{url} is not reached from here: {reason}", advice)
    if receiver.taken and response.status == 200:
        return Finding("callbacks", "ok", f"a post to {url} arrived")
    where = "after it arrived" if receiver.taken else "from another server"
    advice = "Lead the path, with all that follows it, to --callback-listen without redirects"
    return Finding("callbacks", "failed", f"{url} answered HTTP {response.status} {where}", advice)
