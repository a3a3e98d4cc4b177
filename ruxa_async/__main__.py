"""The entry point of the command line. Each command imports what it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .errors import MissingExtraError

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with *arguments* (default: those of the process) and return the exit code.

    0: all succeeded; 1: some failed; 2: wrong usage or input; 3: halted by the account or the budget; 130:
    interrupted.
    """
    try:
        from .cli._app import run  # noqa: PLC0415 - cyclopts is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cyclopts", "rich"):
            raise
        sys.stderr.write(f"ruxa-async: {MissingExtraError('the command line', 'cli')}\n")
        return 2
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
