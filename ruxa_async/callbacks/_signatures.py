"""The optional signature of callbacks, as a similar service documents it. Pure.

``X-Webhook-Signature`` is the Base64 of HMAC-SHA256 over the task id, a dot and ``X-Webhook-Timestamp`` (Unix
seconds); the body is not signed. The documentation writes both ``taskId`` and ``task_id``, so both are tried.
It names no replay window; five minutes follow Standard Webhooks.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from ruxa_async._api.reply import decode

__all__ = ("sign", "verify")

#: seconds
_TOLERANCE = 300.0


def sign(key: bytes, task_id: str, timestamp: str) -> str:
    """Return the signature of *task_id* at *timestamp*."""
    said = f"{task_id}.{timestamp}".encode(errors="surrogatepass")
    return b64encode(hmac.digest(key, said, hashlib.sha256)).decode()


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
    if root is None:
        return
    data = root.get("data")
    for place in (data, root):
        if isinstance(place, dict):
            for name in ("task_id", "taskId"):
                if isinstance(place.get(name), str) and place[name]:
                    yield place[name]
