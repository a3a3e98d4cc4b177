"""The errors of this library, all under `RuxaError`.

::

    RuxaError
    ├── ConfigurationError              the client is set up wrongly (also ValueError)
    ├── RequestValidationError          a request is invalid; nothing was sent (also ValueError)
    ├── APIError                        the service refused a request
    │   ├── AuthenticationError         401
    │   ├── InsufficientCreditsError    402
    │   ├── PermissionDeniedError       403
    │   ├── NotFoundError               404
    │   ├── InvalidRequestError         422, 400
    │   ├── RateLimitedError            429
    │   └── ServerError                 5xx
    ├── TransportError                  no usable response arrived
    │   ├── NotSentError                no byte of the request left this machine: nothing was charged
    │   └── MaybeSentError              some bytes left: the service may have acted on them
    ├── SubmissionUnknownError          a create that may have been charged
    ├── SubmissionHalted                a batch stopped: the account or the budget allows no more
    ├── BudgetExceededError             a request exceeds the client's budget; nothing was sent
    ├── TaskError                       about one paid task; has its task_id
    │   ├── TaskFailedError             the generation failed
    │   ├── TaskTimeout                 the wait ended, the task goes on (also TimeoutError)
    │   ├── PollingStoppedError         the state of the task cannot be queried
    │   └── MalformedResponseError      the task ended, but its result cannot be read
    ├── DownloadError                   an output cannot be downloaded; has its url
    │   └── LinkExpiredError            its link has expired (401, 403, 404, 410)
    ├── UploadError                     a local file cannot be uploaded; nothing was sent
    ├── JournalError                    the journal cannot be read or written; has its path
    │   ├── JournalInUseError           another process has it open
    │   ├── JournalMismatchError        it belongs to another service or account
    │   └── RunInUseError               the run is being used: ask again later
    ├── KeyConflictError                one key for two requests of a run (also ValueError)
    ├── MissingExtraError               an optional dependency is not installed (also ImportError)
    └── ClientClosedError               the client is not open
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ._portable import describe_error, portable, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .results import JobRecord

__all__ = (
    "APIError",
    "AuthenticationError",
    "BudgetExceededError",
    "ClientClosedError",
    "ConfigurationError",
    "DownloadError",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "JournalError",
    "JournalInUseError",
    "JournalMismatchError",
    "KeyConflictError",
    "LinkExpiredError",
    "MalformedResponseError",
    "MaybeSentError",
    "MissingExtraError",
    "NotFoundError",
    "NotSentError",
    "PermissionDeniedError",
    "PollingStoppedError",
    "RateLimitedError",
    "RequestValidationError",
    "RunInUseError",
    "RuxaError",
    "ServerError",
    "SubmissionHalted",
    "SubmissionUnknownError",
    "TaskError",
    "TaskFailedError",
    "TaskTimeout",
    "TransportError",
    "UploadError",
)


_E = TypeVar("_E", bound=BaseException)


class RuxaError(Exception):
    """The base class of all errors of this library.

    They can be pickled and copied, with their causes. Attributes that cannot be pickled are replaced by their
    text.
    """

    def as_dict(self) -> dict[str, Any]:
        """Return the type, message, attributes and cause as a dictionary of JSON values."""
        return describe_error(self)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: portable(value) for name, value in vars(self).items()}
        if self.__cause__ is not None:
            state["__cause__"] = portable(self.__cause__)
        return _rebuilt, (type(self), tuple(map(portable, self.args))), state


def _rebuilt(cls: type[_E], args: tuple[Any, ...]) -> _E:
    """Return an error without calling ``__init__``, whose arguments are not kept."""
    error = cls.__new__(cls)
    error.args = args
    return error


class ConfigurationError(RuxaError, ValueError):
    """A setting of the client is missing or wrong; the message says what to set."""


class RequestValidationError(RuxaError, ValueError):
    """A request is invalid, and nothing was sent.

    *field* is the name of the attribute, *value* its value; *allowed* describes valid values.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}={shortened(value)} is not valid: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class APIError(RuxaError):
    """The service refused a request.

    *status* is the HTTP status, *code* the code in the reply (None without one), *message* the service's
    text. *body* is the reply, decoded, up to 64 KiB, and *headers* its headers by lower-case names.
    *request_id* is the id that the service or a proxy gave the request, None without one. *url* is the
    requested URL. The API key, cookies and credentials are replaced by ``***``.
    """

    #: What to do next; appended to the message.
    advice: str = ""

    def __init__(
        self,
        status: int,
        code: int | None,
        message: str,
        body: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str | None = None,
        url: str = "",
    ) -> None:
        codes = f"HTTP {status}" if code in (None, status) else f"HTTP {status}, code {code}"
        text = f"{message or 'no message'} ({codes})"
        super().__init__(f"{text}. {self.advice}" if self.advice else text)
        self.status = status
        self.code = code
        self.message = message
        self.body = body
        self.headers: dict[str, str] = dict(headers or {})
        self.request_id = request_id
        self.url = url


class AuthenticationError(APIError):
    """The key is missing or wrong (401)."""

    advice = "Check RUXA_API_KEY or the api_key argument"


class InsufficientCreditsError(APIError):
    """The account cannot pay for this (402)."""

    advice = "Nothing was charged; add credits to the account and run again"


class PermissionDeniedError(APIError):
    """The key may not do this (403)."""

    advice = "Check the permissions of the key, and whether a proxy or firewall blocks the request"


class NotFoundError(APIError):
    """The task, the model or the path does not exist (404)."""

    advice = "Check the model name, the task id and the base URL"


class InvalidRequestError(APIError):
    """The service does not accept the content of the request (400, 422)."""

    advice = "Nothing was charged; correct the request"


class RateLimitedError(APIError):
    """The service rejected the request (429), and asked for a longer wait than `Retries` allows.

    *retry_after* is the wait in seconds that it asked for, None if it named none.
    """

    advice = "Nothing was charged; try again later"

    def __init__(
        self,
        status: int,
        code: int | None,
        message: str,
        body: str = "",
        *,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        super().__init__(status, code, message, body, **details)
        self.retry_after = retry_after


class ServerError(APIError):
    """The service failed (5xx)."""


class TransportError(RuxaError):
    """No usable response arrived."""


class NotSentError(TransportError):
    """No byte of the request left this machine, so nothing was charged."""


class MaybeSentError(TransportError):
    """Some bytes of the request left this machine, but no complete response came: the service may have acted.

    *partial* is the part of the response that was read, as a `ruxa_async.transports.Response`, else None.
    """

    partial: Any = None


class SubmissionUnknownError(RuxaError):
    """A create was sent and may have been charged, but no response tells.

    It is not sent again unless ``Retries(resend_unknown=True)`` is set. ``__cause__`` is the error that
    occurred.
    """


class BudgetExceededError(RuxaError):
    """A request exceeds the client's `Budget`, or its price is not known; nothing was sent for it.

    *model* is its model and *price* the credits of one task, None if not known. *price_key* is the key of
    that price in `Budget.prices`: the model, with parameters if prices name them. *tasks* and *credits* are
    what is or may be spent already.
    """

    def __init__(
        self,
        message: str,
        model: str,
        price: float | None,
        tasks: int,
        credits: float,  # noqa: A002 - the service's word
        price_key: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.model = model
        self.price_key: str = model if price_key is None else price_key
        self.price = price
        self.tasks = tasks
        self.credits = credits


class SubmissionHalted(RuxaError):  # noqa: N818 - it reports a stop, and the agreed public name says so
    """A batch stopped submitting. It is raised after all known outcomes were delivered.

    *cause* is the error: a refusal of the account, a `BudgetExceededError`, or a `NotSentError` if the
    service was never reached. *unfinished* are accepted tasks whose end was not seen, *unknown* are creates
    that may have been charged, and *unsubmitted* are requests that were never sent; each is a tuple of
    `JobRecord`.
    """

    def __init__(
        self,
        cause: BaseException,
        unfinished: Sequence[JobRecord] = (),
        unknown: Sequence[JobRecord] = (),
        unsubmitted: Sequence[JobRecord] = (),
    ) -> None:
        counts = f"{len(unfinished)} unfinished, {len(unknown)} unknown, {len(unsubmitted)} unsubmitted"
        super().__init__(f"no more requests are sent: {cause} ({counts})")
        self.cause = cause
        self.unfinished: tuple[JobRecord, ...] = tuple(unfinished)
        self.unknown: tuple[JobRecord, ...] = tuple(unknown)
        self.unsubmitted: tuple[JobRecord, ...] = tuple(unsubmitted)


class TaskError(RuxaError):
    """An error about one paid task; *task_id* is its id, empty if not known."""

    def __init__(self, task_id: str, message: str) -> None:
        super().__init__(f"task {task_id or '(id not known)'}: {message}")
        self.task_id = task_id
        self.message = message


class TaskFailedError(TaskError):
    """The generation failed. *fail_code* and *fail_message* are the service's own words.

    *credits* is what it charged nevertheless, None if it does not say.
    """

    def __init__(
        self,
        task_id: str,
        fail_code: str,
        fail_message: str,
        credits: float | None = None,  # noqa: A002 - the service's word
    ) -> None:
        reason = f"[{fail_code}] {fail_message}".strip() if fail_code else fail_message
        super().__init__(task_id, f"generation failed: {reason or 'the service gave no reason'}")
        self.fail_code = fail_code
        self.fail_message = fail_message
        self.credits = credits


class TaskTimeout(TaskError, TimeoutError):  # noqa: N818 - the agreed public name
    """The wait of *timeout* seconds ended. The task goes on: continue with ``ruxa.attach(error.task_id)``."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(task_id, f"not finished within {timeout:g} s; it goes on, attach to it by its id")
        self.timeout = timeout


class PollingStoppedError(TaskError):
    """The state of the task cannot be queried; ``__cause__`` says why. The task itself may still finish."""


class MalformedResponseError(TaskError):
    """The task ended, but its result cannot be read. *body* is the reply."""

    def __init__(self, task_id: str, message: str, body: str = "") -> None:
        super().__init__(task_id, message)
        self.body = body


class DownloadError(RuxaError):
    """The output at *url* cannot be downloaded. The task stays paid, and its link may still work."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(f"{url}: {message}")
        self.url = url
        self.message = message


class LinkExpiredError(DownloadError):
    """The link of an output has expired. The task stays paid; query its status for a new link."""


class UploadError(RuxaError):
    """A local file could not be uploaded, so the request was not sent, and nothing was bought."""


class JournalError(RuxaError):
    """The journal at *path* cannot be opened, read or written; the message says why and what to do.

    No create is sent unless its intent was written. A write that failed may still be in the file later.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class JournalInUseError(JournalError):
    """Another process has the journal open. *holder* is its process id, host and start, "" if not known."""

    def __init__(self, path: str, holder: str = "") -> None:
        user = holder or "another process"
        super().__init__(path, f"is in use by {user}: wait until it ends, stop it, or use another journal")
        self.holder = holder


class JournalMismatchError(JournalError):
    """The journal belongs to another service or account; the message names both."""


class RunInUseError(JournalError):
    """A pass, another purchase or a change of the same job is under way in the run: ask again after it.

    Nothing was sent. The journal can be used.
    """


class KeyConflictError(RuxaError, ValueError):
    """Two requests of one *run* have the same *key*; nothing was sent for the second."""

    def __init__(self, key: str, run: str, message: str) -> None:
        super().__init__(f"key {shortened(key)} in run {shortened(run)}: {message}")
        self.key = key
        self.run = run
        self.message = message


class MissingExtraError(RuxaError, ImportError):
    """*feature* needs a package that is not installed; *extra* is the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra {extra!r}: pip install 'ruxa-async[{extra}]'")
        self.feature = feature
        self.extra = extra


class ClientClosedError(RuxaError):
    """The client is not open: not entered yet, left, or crashed (then ``__cause__`` says why)."""
