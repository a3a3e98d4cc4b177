"""Checks of the settings of a client: key, base URL, timeouts, hook, budget."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from ruxa_async._internal.hosts import is_loopback
from ruxa_async._internal.real_requests import refusal_of
from ruxa_async.errors import ConfigurationError, NotSentError
from ruxa_async.settings import Budget

__all__ = (
    "DEFAULT_BASE_URL",
    "check_hook",
    "checked_budget",
    "checked_task_id",
    "checked_timeout",
    "ensure_allowed",
    "never_reached",
    "proxy_of",
    "resolve_base_url",
    "resolve_key",
)

DEFAULT_BASE_URL = "https://api.ruxa.ai"
_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")

#: Characters that stay as they are in a path (RFC 3986, 3.3), and "%" because a path may be encoded already.
_PATH = "/%:@!$&'()*+,;="
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9._:%-]")


def resolve_key(given: str | None) -> str:
    """Return the key: *given*, otherwise RUXA_API_KEY. Raises `ConfigurationError`, which never shows it."""
    key = given if given is not None else os.environ.get("RUXA_API_KEY", "")
    key = key.strip()
    if not key:
        raise ConfigurationError("no API key: set RUXA_API_KEY, or pass api_key=")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("the API key holds characters that no key has: check how it was pasted")
    return key


def resolve_base_url(given: str | None) -> str:
    """Return the base URL: *given*, otherwise RUXA_BASE_URL, otherwise the public one.

    It ends without a slash, and its path is percent-encoded. Raises `ConfigurationError` for an invalid URL,
    and for plain http to a host that is not loopback, which would send the key in the clear.
    """
    url = given if given is not None else os.environ.get("RUXA_BASE_URL") or DEFAULT_BASE_URL
    url = url.strip().rstrip("/")
    # Checked first, because the other messages show the URL: no secret may be in it.
    if any(mark in url for mark in "@?#"):
        raise ConfigurationError("base_url may hold neither credentials nor a query")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 - reading it checks it
    except ValueError as exc:
        raise ConfigurationError(f"base_url={url!r} is not an address: {exc}") from exc
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ConfigurationError(
            f"base_url={url!r} is not an address: it should look like {DEFAULT_BASE_URL}"
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"base_url={url!r} is plain http: the key would be sent unencrypted. "
            "Use https (http is for loopback only)"
        )
    if _NOT_IN_HOST.search(host):  # an encoding is not guessed: the key is sent to that host
        raise ConfigurationError(
            f"base_url={url!r} is not an address: its host holds characters that no host has. "
            "Write an international name in its ASCII form (xn--...)"
        )
    path = quote(_LONE_PERCENT.sub("%25", parts.path), safe=_PATH)
    return url.removesuffix(parts.path) + path


def ensure_allowed(base_url: str) -> None:
    """Raise `ConfigurationError` if RUXA_ALLOW_REQUESTS=0 is set and *base_url* is of another machine.

    The transports check this too. The client checks it before a request exists, so that nothing is recorded
    and nothing is sent again until a timeout.
    """
    refusal = refusal_of(base_url)
    if refusal:
        raise ConfigurationError(refusal)


def checked_timeout(name: str, seconds: object) -> float | None:
    """Return *seconds*, None for no limit. Raises ValueError unless it is a number of at least 0."""
    if seconds is None:
        return None
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds >= 0:
        return seconds
    raise ValueError(
        f"{name}={seconds!r} is not valid: give seconds, at least 0, or None to wait without limit"
    )


def check_hook(on_event: Callable[..., object] | None) -> None:
    """Raise `ConfigurationError` unless *on_event* is None or a plain function."""
    if on_event is None:
        return
    if not callable(on_event):
        raise ConfigurationError(
            f"on_event={on_event!r} is not valid: a function that takes one event is needed"
        )
    function = on_event
    while isinstance(function, functools.partial):
        function = function.func
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004 - an instance may have an async one
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise ConfigurationError(
                f"on_event={on_event!r} is an async function, which is never awaited: pass a plain "
                "function that returns at once, such as the send_nowait of a memory object stream"
            )


def checked_budget(budget: object) -> Budget | None:
    """Return *budget*. Raises `ConfigurationError` unless it is a `Budget` or None."""
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(
            f"budget={budget!r} is not valid: a Budget(max_tasks=, max_credits=) is needed"
        )
    return budget


def checked_task_id(task_id: object) -> str:
    """Return *task_id*. Raises ValueError unless it is a text that is not blank."""
    if not isinstance(task_id, str) or not task_id.strip():
        raise ValueError(f"task_id={task_id!r} is not valid: the id that the service gave is needed")
    return task_id


def never_reached(last: Exception) -> NotSentError:
    """Return the error for a service that never answered: it shows the *last* failure and what to check."""
    proxies = [name for name in _PROXY_VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]
    proxy = f"the proxy ({' and '.join(proxies)} set)" if proxies else "the proxy (no proxy variable is set)"
    error = NotSentError(
        f"the service was never reached, and nothing was charged. Last failure: {last}. Check the address "
        f"(RUXA_BASE_URL), the name in DNS, the network, and {proxy}"
    )
    error.__cause__ = last
    return error


def proxy_of(base_url: str, given: str | None) -> str | None:
    """Return the proxy for *base_url*, without its credentials, None for a direct connection.

    It is *given*, otherwise the one in the environment. Raises `ConfigurationError`.
    """
    from ruxa_async.transports._proxies import Proxies, without_credentials  # noqa: PLC0415 - rarely needed

    proxy = Proxies(given, trust_env=True).route(base_url)
    return None if proxy is None else without_credentials(proxy)
