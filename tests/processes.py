"""What tests of several processes share."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from typing import Any

import pytest

__all__ = ("fork_context", "free_port", "until")


def fork_context(program: str) -> Any:
    """Return what forks processes from one that has imported the module *program*, which takes seconds."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["pytest", "aiohttp", "psycopg", program])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # or it passes over what it cannot import
        forkserver.ensure_running()
    return context


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for *condition*, and return its value. Fails after *seconds*."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return value
