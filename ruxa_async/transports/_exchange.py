"""One request in progress, and the errors that every socket transport reports in the same words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn

from ._base import MaybeSentError, NotSentError, Request

__all__ = ("Exchange", "raise_without_context")


class Exchange(ABC):
    """One request in progress. *via* is the address of its proxy, without credentials, "" without one."""

    __slots__ = ("request", "via")

    def __init__(self, request: Request, via: str = "") -> None:
        self.request = request
        self.via = via

    @property
    @abstractmethod
    def sent(self) -> bool:
        """Whether a byte of the request may have been handed to the socket."""
        ...

    @abstractmethod
    def _address(self) -> str:
        """Return scheme, host and path of the URL. Raises ValueError."""
        ...

    def failure(self, detail: str, cause: BaseException | None) -> MaybeSentError | NotSentError:
        """Return the error of an exchange that failed as *detail* says; *cause* must hold no secrets."""
        error: MaybeSentError | NotSentError
        if self.sent:
            error = self.maybe_sent(f"sent, but no whole answer came: {detail}")
        else:
            error = NotSentError(f"{self._label()}: nothing was sent: {detail}")
        error.__cause__ = cause
        return error

    def maybe_sent(self, detail: str) -> MaybeSentError:
        return MaybeSentError(f"{self._label()}: {detail}")

    def too_large(self, limit: int) -> MaybeSentError:
        return self.maybe_sent(f"the reply is larger than max_body={limit} bytes")

    def timed_out(self) -> str:
        request = self.request
        return f"timed out (timeout={request.timeout:g} s, connect_timeout={request.connect_timeout:g} s)"

    def _label(self) -> str:
        """Return method, host and path; a query may be a signature, and user info a password."""
        try:
            address = self._address()
        except ValueError:
            return f"{self.request.method} (a URL that cannot be read)"
        via = f" through the proxy {self.via}" if self.via else ""
        return f"{self.request.method} {address}{via}"


def raise_without_context(error: BaseException) -> NoReturn:
    """Raise *error* without the error that is being handled, which may quote the API key or a signed URL."""
    try:
        raise error
    finally:
        error.__context__ = None
