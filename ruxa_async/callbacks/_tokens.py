"""The token at the end of a callback URL: the job id, its time of issue, and an HMAC over both. Pure.

The service documents no signature, so the secret URL, which only the service gets, authenticates a callback.
The token is in the path, because the service may drop query strings.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from attrs import frozen

__all__ = ("ID_SIZE", "SHORTEST_SECRET", "Token", "Tokens", "looks_like_token")

#: bytes of a random job id; enough for many processes that share a secret to never collide
ID_SIZE = 12
#: bytes; a shorter secret could be guessed
SHORTEST_SECRET = 16
#: seconds that a token may lie in the future, because the clocks of hosts differ
_CLOCK_SKEW = 300.0
_MAC_SIZE = 16
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


class Tokens:
    """Issues tokens signed with the first of *secrets*, and accepts those of any, for *max_age* seconds."""

    def __init__(self, secrets: Sequence[bytes], max_age: float) -> None:
        self._secrets = tuple(secrets)
        self._max_age = max_age

    def __repr__(self) -> str:
        return f"<Tokens of {len(self._secrets)} secrets, valid for {self._max_age:g} s>"

    def issue(self, job: bytes, wall_now: float) -> str:
        """Return a token for *job*, an id of `ID_SIZE` bytes."""
        said = job + struct.pack(">I", int(wall_now))
        return urlsafe_b64encode(said + _mac(self._secrets[0], said)).decode().rstrip("=")

    def read(self, text: str, wall_now: float) -> Token | None:
        """Return the token in *text*, None if it is not authentic or too old."""
        if not looks_like_token(text):
            return None
        raw = urlsafe_b64decode(text + "=")
        said, mac = raw[:-_MAC_SIZE], raw[-_MAC_SIZE:]
        # Every secret is tried, so that the time taken does not reveal which one matches.
        matches = [hmac.compare_digest(mac, _mac(secret, said)) for secret in self._secrets]
        issued_at = float(struct.unpack(">I", said[ID_SIZE:])[0])
        if not any(matches) or not -_CLOCK_SKEW <= wall_now - issued_at <= self._max_age:
            return None
        return Token(said[:ID_SIZE], issued_at)


def _mac(secret: bytes, said: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + said, hashlib.sha256)[:_MAC_SIZE]
