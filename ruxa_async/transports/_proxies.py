"""Proxies and trusted certificates, from arguments or the environment.

The variables are those of curl, requests and httpx: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in upper
or lower case, SSL_CERT_FILE and SSL_CERT_DIR. A loopback address is never reached through a proxy, for which
it is another machine. The proxy would also see the API key unencrypted.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from ruxa_async._internal.hosts import is_loopback
from ruxa_async.errors import ConfigurationError, NotSentError

from ._addresses import PrivateAddressError, check_host
from ._base import Request

__all__ = ("Proxies", "trusted_by_environment", "without_credentials")

_SCHEMES: Final = ("http", "https")
_ORIGINS_KEPT: Final = 256


class Proxies:
    """Chooses the proxy of each request: *proxy* for all, else, with *trust_env*, the one in the environment.

    *kinds* are the proxy schemes that the transport supports. Raises `ConfigurationError` for another scheme
    or an invalid URL, without showing its credentials.
    """

    def __init__(
        self, proxy: str | None, *, trust_env: bool, kinds: Collection[str] = ("http", "https")
    ) -> None:
        self._kinds = kinds
        self._given = None if proxy is None else self._checked(proxy, "proxy=")
        found = getproxies() if trust_env and proxy is None else {}
        self._found: Mapping[str, str] = {
            scheme: proxy for scheme in (*_SCHEMES, "all") if (proxy := found.get(scheme))
        }
        self._excepted = [entry for entry in re.split(r"[\s,]+", found.get("no", "").lower()) if entry]
        self._routes: dict[str, str | None] = {}

    def route(self, url: str) -> str | None:
        """Return the URL of the proxy for *url*, None to connect directly.

        Raises `ConfigurationError` if the environment names a proxy that cannot be used.
        """
        if self._given is None and not self._found:
            return None
        end = url.find("/", url.find("//") + 2)
        origin = url if end < 0 else url[:end]
        if origin not in self._routes:
            if len(self._routes) >= _ORIGINS_KEPT:
                self._routes.clear()
            self._routes[origin] = self._find(origin)
        return self._routes[origin]

    def route_of(self, request: Request) -> str | None:
        """Return the proxy for *request*. Raises `NotSentError` if the proxy or the host is not allowed.

        A proxy resolves names itself, so with `Request.public_only` only numeric hosts and localhost are
        checked.
        """
        try:
            proxy = self.route(request.url)
        except ConfigurationError as error:
            raise NotSentError(f"{request.method}: nothing was sent: {error}") from None
        if proxy is not None and request.public_only:
            try:
                check_host(urlsplit(request.url).hostname or "")
            except PrivateAddressError as error:
                raise NotSentError(f"{request.method}: nothing was sent: {error}") from error
        return proxy

    def _find(self, origin: str) -> str | None:
        try:
            parts = urlsplit(origin)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return None  # the transport reports the error
        if parts.scheme not in _SCHEMES or not host or is_loopback(host):
            return None
        if self._given is not None:
            return self._given
        port = port or (443 if parts.scheme == "https" else 80)
        if any(_covers(entry, host, port) for entry in self._excepted):
            return None
        for name in (parts.scheme, "all"):
            if proxy := self._found.get(name):
                return self._checked(proxy, f"{name.upper()}_PROXY")
        return None

    def _checked(self, proxy: str, source: str) -> str:
        """Return *proxy* as a URL; *source* names its origin in errors."""
        address = proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"
        try:
            parts = urlsplit(address)
            host = parts.hostname
            parts.port  # noqa: B018 - reading it checks it
        except ValueError:
            host = None
        if not host or re.search(r"[\s\x00-\x1f\x7f]", address):
            raise ConfigurationError(
                f"{source} is not the address of a proxy: it should look like http://host:3128, with special "
                "characters of a user or password percent-encoded"
            )
        if parts.scheme not in self._kinds:
            raise ConfigurationError(
                f"{source} names a proxy of the kind {parts.scheme!r}, which cannot be used here, only "
                f"{' and '.join(self._kinds)}: name another in HTTPS_PROXY or with proxy=, or except the "
                "host in NO_PROXY"
            )
        return address


def without_credentials(proxy: str) -> str:
    """Return the URL of *proxy* without its credentials."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def trusted_by_environment() -> ssl.SSLContext | None:
    """Return an SSL context for the certificates in SSL_CERT_FILE and SSL_CERT_DIR, None if neither is set.

    Raises `ConfigurationError` for a file that cannot be read.
    """
    file, folder = (os.environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    return None if file is None and folder is None else _trusting(file, folder)


@lru_cache(maxsize=8)
def _trusting(file: str | None, folder: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:  # SSLError is a subclass
        raise ConfigurationError(
            f"SSL_CERT_FILE={file!r} cannot be read as certificates: {error.strerror or error}"
        ) from error


def _covers(entry: str, host: str, port: int) -> bool:
    """Return whether *entry* of NO_PROXY, a domain, address or network, covers *host* at *port*."""
    if entry == "*":
        return True
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        pass
    else:
        address = _address(host)
        return address is not None and address in network
    name, colon, only = entry.rpartition(":")
    if colon and only.isdecimal():
        if int(only) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".").rstrip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
