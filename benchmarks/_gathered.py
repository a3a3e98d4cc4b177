"""Shared by all contenders: the type of a job, and how to buy all of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from benchmarks._clients import prompt

__all__ = ("KEY", "Contender", "Done", "Job", "gathered", "named", "prompts")

Job: TypeAlias = dict[str, Any]
#: Receives the prompt of each task whose result is there.
Done: TypeAlias = Callable[[str], None]
#: Buys the prompts of a job; returns failures as texts.
Contender: TypeAlias = Callable[[Job, Done], Awaitable[list[str]]]

KEY = "sk-emulated"


def prompts(job: Job) -> list[str]:
    """Return the prompts to buy, each once."""
    return [prompt(place) for place in range(job["tasks"])]


async def gathered(job: Job, done: Done, buy: Callable[[str], Awaitable[object]]) -> list[str]:
    """Buy everything at once; a failure does not stop the others."""

    async def one(text: str) -> None:
        await buy(text)
        done(text)

    ends = await asyncio.gather(*map(one, prompts(job)), return_exceptions=True)
    return [named(end) for end in ends if isinstance(end, BaseException)]


def named(error: BaseException) -> str:
    """Return the name of the failure *error* for a report."""
    status = getattr(error, "status_code", None) or getattr(error, "status", None)
    return type(error).__name__ + (f" {status}" if isinstance(status, int) else "")
