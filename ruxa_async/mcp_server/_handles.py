"""The name of a purchase: a hash of the call, so that a call that is repeated is the same purchase."""

from __future__ import annotations

import hashlib
import json
import re

from ruxa_async.requests import GenerationRequest

__all__ = ("handle_of",)

#: Hexadecimal digits of a SHA-256: 64 bits. Of two calls with one hash, the journal refuses the second.
_DIGITS = 16


def handle_of(request: GenerationRequest, variant: int) -> str:
    """Return the handle of *request*, such as ``nano-banana-9f86d081884c7d65``; ``-v2`` for variant 2.

    It is the key of the purchase, and the name of its files. The order of the input's fields does not count.
    """
    called = json.dumps({"model": request.model, "input": request.input()}, sort_keys=True)
    digest = hashlib.sha256(called.encode()).hexdigest()[:_DIGITS]
    model = re.sub(r"[^a-z0-9.]+", "-", request.model.rpartition("/")[2].lower()).strip("-.")[:40]
    handle = f"{model or 'model'}-{digest}"
    return handle if variant == 1 else f"{handle}-v{variant}"
