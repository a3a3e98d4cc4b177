"""Proofs that a callback comes from the service: the token in its URL, and an optional signature. Pure.

The service documents no signature, so the secret URL, which only the service gets, authenticates a callback.
The token is in the path, because the service may drop query strings. It holds the job id, the time of issue,
and an HMAC over both.

A similar service documents a signature: ``X-Webhook-Signature`` is the Base64 of HMAC-SHA256 over the task
id, a dot and ``X-Webhook-Timestamp`` (Unix seconds); the body is not signed. The documentation writes both
``taskId`` and ``task_id``, so both are tried.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from ruxa_async._api.reply import decode

__all__ = ("ID_SIZE", "SHORTEST_SECRET", "Token", "Tokens", "looks_like_token", "sign", "verify")

#: bytes of a random job id; enough for many processes that share a secret to never collide
ID_SIZE = 12
#: bytes; a shorter secret could be guessed
SHORTEST_SECRET = 16
#: seconds that a token may lie in the future, because the clocks of hosts differ
_CLOCK_SKEW = 300.0
#: seconds that a signature may lie in the past or future; the value of Standard Webhooks
_TOLERANCE = 300.0
#: bytes of the HMAC that a token holds
_MAC_SIZE = 16
#: Precedes the signed bytes, so that the same secret signs nothing else with the same HMAC.
_PURPOSE = b"ruxa_async callback 1\0"
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@frozen
class Token:
    """A valid token: its job id, and its time of issue in seconds since the epoch."""

    job: bytes
    issued_at: float


def looks_like_token(text: str) -> bool:
    """Return whether *text* has the format of a token, valid or not."""
    return _SHAPE.fullmatch(text) is not None


@frozen
class Tokens:
    """Issues tokens signed with the first of *secrets*, and accepts those of any, for *max_age* seconds."""

    _secrets: Sequence[bytes] = field(repr=False)
    _max_age: float

    def issue(self, job: bytes, wall_now: float) -> str:
        """Return a token for *job*, an id of `ID_SIZE` bytes."""
        content = job + struct.pack(">I", int(wall_now))
        return urlsafe_b64encode(content + _mac(self._secrets[0], content)).decode().rstrip("=")

    def read(self, text: str, wall_now: float) -> Token | None:
        """Return the token in *text*, None if it is not authentic or too old."""
        if not looks_like_token(text):
            return None
        raw = urlsafe_b64decode(text + "=")
        content, mac = raw[:-_MAC_SIZE], raw[-_MAC_SIZE:]
        # Every secret is tried, so that the time taken does not reveal which one matches.
        matches = [hmac.compare_digest(mac, _mac(secret, content)) for secret in self._secrets]
        issued_at = float(struct.unpack(">I", content[ID_SIZE:])[0])
        if not any(matches) or not -_CLOCK_SKEW <= wall_now - issued_at <= self._max_age:
            return None
        return Token(content[:ID_SIZE], issued_at)


def _mac(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + content, hashlib.sha256)[:_MAC_SIZE]


def sign(key: bytes, task_id: str, timestamp: str) -> str:
    """Return the signature of *task_id* at *timestamp*."""
    content = f"{task_id}.{timestamp}".encode(errors="surrogatepass")
    return b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def verify(key: bytes, headers: Mapping[str, str], body: bytes, wall_now: float) -> bool:
    """Return whether *headers*, by lower-case name, hold a recent signature of the task in *body*."""
    timestamp, given = headers.get("x-webhook-timestamp", ""), headers.get("x-webhook-signature", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(wall_now - int(timestamp)) > _TOLERANCE:
        return False
    signed = given.strip().encode(errors="surrogateescape")
    return any(
        hmac.compare_digest(signed, sign(key, task_id, timestamp).encode()) for task_id in _ids(decode(body))
    )


def _ids(root: dict[str, Any] | None) -> Iterator[str]:
    """Yield the task ids in a body, under each name and at each place that the documentation gives."""
    if root is None:
        return
    for place in (root.get("data"), root):
        if isinstance(place, dict):
            for name in ("task_id", "taskId"):
                if isinstance(place.get(name), str) and place[name]:
                    yield place[name]
