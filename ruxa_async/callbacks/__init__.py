"""Callbacks: the service posts to a `CallbackReceiver` when a task ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruxa_async._internal.lazy import lazy_names

if TYPE_CHECKING:
    from ._bodies import Callback as Callback
    from ._receiver import CallbackReceiver as CallbackReceiver

__all__ = (
    "Callback",
    "CallbackReceiver",
)

__getattr__ = lazy_names(
    __name__,
    {
        "_bodies": "Callback",
        "_receiver": "CallbackReceiver",
    },
)
