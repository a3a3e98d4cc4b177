"""The package's logger: silent until the application configures logging or RUXA_LOG is set.

Until then, only warnings about orphans are written, to standard error: no other output may name these paid
tasks.
"""

from __future__ import annotations

import logging
import os
import sys

__all__ = ("FORMAT", "OrphanNotice", "asked_level", "logger", "report_orphans", "set_up", "stderr_handler")

logger = logging.getLogger("ruxa_async")

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS = {"info": logging.INFO, "debug": logging.DEBUG}
#: orphans of one client that are named on standard error, at most; a last line gives their number
_ORPHANS_SHOWN = 5


class OrphanNotice(logging.NullHandler):
    """Writes warnings about the first orphans to standard error, unless the application has a handler."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write *record* if its ``orphan``, the number of an orphan, is at most 5; 0 marks the last line."""
        number = getattr(record, "orphan", None)
        if number is not None and number <= _ORPHANS_SHOWN and not self._is_configured():
            sys.stderr.write(f"ruxa_async: {record.getMessage()}\n")
        return True

    def _is_configured(self) -> bool:
        current: logging.Logger | None = logger
        while current is not None:
            if any(handler is not self for handler in current.handlers):
                return True
            current = current.parent if current.propagate else None
        return False


#: Writes the lines that RUXA_LOG asks for. The command line replaces it to write above its display.
stderr_handler = logging.StreamHandler()
stderr_handler.setFormatter(logging.Formatter(FORMAT))


def asked_level() -> int | None:
    """Return the level in RUXA_LOG, None if it is unset or unknown."""
    return _LEVELS.get(os.environ.get("RUXA_LOG", "").strip().lower())


def report_orphans(count: int) -> None:
    """Log the number of orphans of a client, unless all of them were named on standard error."""
    if count > _ORPHANS_SHOWN:
        logger.warning(
            "%d tasks were paid for, or may have been, whose callers are gone: RuxaClient.orphans lists them",
            count,
            extra={"orphan": 0},
        )


def set_up() -> None:
    """Add the package's handlers. Called once, on import."""
    logger.addHandler(OrphanNotice())
    level = asked_level()
    if level is not None:
        logger.setLevel(level)
        logger.addHandler(stderr_handler)
