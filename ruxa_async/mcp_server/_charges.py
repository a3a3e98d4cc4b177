"""Whether a purchase was charged, in words."""

from __future__ import annotations

import enum

from ruxa_async.errors import (
    APIError,
    BudgetExceededError,
    ConfigurationError,
    KeyConflictError,
    NotSentError,
    RequestValidationError,
    RunInUseError,
)

__all__ = ("Charged", "sentence_of", "was_not_sent")

#: The errors after which certainly nothing was bought. After any other one, something may have been.
_NOTHING_BOUGHT = (
    APIError,
    BudgetExceededError,
    ConfigurationError,
    KeyConflictError,
    NotSentError,
    RequestValidationError,
    RunInUseError,
)


class Charged(enum.Enum):
    """Whether a purchase was charged."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"


_SENTENCES = {
    Charged.NO: "Nothing was charged.",
    Charged.YES: "It was charged.",
    Charged.MAYBE: "It may have been charged.",
}


def was_not_sent(error: Exception) -> bool:
    """Return whether *error*, raised before a task was accepted, means that nothing was bought."""
    return isinstance(error, _NOTHING_BOUGHT)


def sentence_of(charged: Charged, credits_: float | None) -> str:
    """Return a sentence that says whether something was charged, with the reported credits."""
    if charged is Charged.YES and credits_ is not None:
        return f"It was charged: {credits_:g} credits."
    return _SENTENCES[charged]
