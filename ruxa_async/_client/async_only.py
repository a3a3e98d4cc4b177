"""Messages for code that uses the async client without async: each names the line to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

__all__ = ("AsyncOnly", "awaited_as")

_F = TypeVar("_F", bound=Callable[..., Any])


def awaited_as(line: str) -> Callable[[_F], _F]:
    """Name the coroutines of a function by the *line* that awaits them.

    Python warns with this name: "coroutine 'await ruxa.generate' was never awaited".
    """

    def rename(function: _F) -> _F:
        function.__qualname__ = line
        return function

    return rename


class AsyncOnly:
    """Refuses ``with``, and says what to write. Type checkers report it by themselves."""

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(
                "this RuxaClient is async: write `async with RuxaClient() as ruxa:`, or, in code without "
                "async, `from ruxa_async.sync import RuxaClient`"
            )

        def __exit__(self, *exc: object) -> None: ...
