"""The package's logger: silent until an application configures it, or RUXA_LOG asks for lines.

There is one exception. A task that was paid for and whose caller is gone is named on standard error where no
handler takes its warning, because nothing else may ever name it again.
"""

from __future__ import annotations

import logging
import os
import sys

__all__ = ("FORMAT", "OrphanNotice", "asked_level", "logger", "report_orphans", "set_up", "stderr_handler")

logger = logging.getLogger("ruxa_async")

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS = {"info": logging.INFO, "debug": logging.DEBUG}
#: Lines about orphans of one client on standard error; its last line gives the number of all of them.
_ORPHANS_SHOWN = 5


class OrphanNotice(logging.NullHandler):
    """Writes the first warnings about paid orphans to standard error if no other handler takes them."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write *record* if its ``orphan`` is one of the first of its client, or 0 for a summary of all."""
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


#: Writes what RUXA_LOG asks for; the command line takes its place, to write above its display.
stderr_handler = logging.StreamHandler()
stderr_handler.setFormatter(logging.Formatter(FORMAT))


def asked_level() -> int | None:
    """Return the level that RUXA_LOG names, None if it is not set or names no level."""
    return _LEVELS.get(os.environ.get("RUXA_LOG", "").strip().lower())


def report_orphans(count: int) -> None:
    """Log how many orphans a client had, if not all of them were named on standard error."""
    if count > _ORPHANS_SHOWN:
        logger.warning(
            "%d tasks were paid for, or may have been, whose callers are gone: RuxaClient.orphans lists them",
            count,
            extra={"orphan": 0},
        )


def set_up() -> None:
    """Add the handlers of the package. Called once, when it is imported."""
    logger.addHandler(OrphanNotice())
    level = asked_level()
    if level is not None:
        logger.setLevel(level)
        logger.addHandler(stderr_handler)
