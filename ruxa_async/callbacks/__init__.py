"""Callbacks: the service posts to a `CallbackReceiver` when a task ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._messages import Callback
    from ._receiver import CallbackReceiver

__all__ = (
    "Callback",
    "CallbackReceiver",
)

__getattr__: Callable[[str], object] = lazy_names(
    __name__,
    {
        "_messages": "Callback",
        "_receiver": "CallbackReceiver",
    },
)
