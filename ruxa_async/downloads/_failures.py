"""What can go wrong with an attempt and go right with the next."""

from __future__ import annotations

__all__ = ("PassingError", "TooSlowError")


class PassingError(Exception):
    """What went wrong may go right in a moment, or in *wait* seconds if the server said so."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class TooSlowError(PassingError):
    """Less came than is worth waiting for."""
