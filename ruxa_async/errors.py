"""Everything that this library raises on purpose.

::

    RuxaError
    ├── ConfigurationError              the client is set up wrongly (also ValueError)
    ├── RequestValidationError          refused here, before anything was sent (also ValueError)
    ├── APIError                        the service answered, and the answer is a refusal
    │   ├── AuthenticationError         401
    │   ├── InsufficientCreditsError    402
    │   ├── PermissionDeniedError       403
    │   ├── NotFoundError               404
    │   ├── InvalidRequestError         422, 400
    │   ├── RateLimitedError            429
    │   └── ServerError                 5xx
    ├── TransportError                  no usable answer arrived
    │   ├── NotSentError                no byte of the request left: nothing can have been charged
    │   └── MaybeSentError              some of it left: the service may have acted on it
    ├── SubmissionUnknownError          a create that may have been charged
    ├── SubmissionHalted                a batch stopped because the account or the budget cannot go on
    ├── BudgetExceededError             refused here: it would pass the client's budget
    ├── TaskError                       about one paid task; carries its task_id
    │   ├── TaskFailedError             the service says that the generation failed
    │   ├── TaskTimeout                 we stopped waiting, the task lives on (also TimeoutError)
    │   ├── PollingStoppedError         its state could not be learned any more
    │   └── MalformedResponseError      it ended, but the answer cannot be read
    ├── DownloadError                   an output could not be brought to disk; carries its url
    │   └── LinkExpiredError            its link is not honoured any more (401, 403, 404, 410)
    ├── JournalError                    the journal cannot be read or written; carries its path
    │   ├── JournalInUseError           another process has it open
    │   └── JournalMismatchError        it belongs to another service or account
    ├── KeyConflictError                one key for two jobs of a run (also ValueError)
    ├── MissingExtraError               an optional dependency is not installed (also ImportError)
    └── ClientClosedError               the client is not open (any more)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ._portable import jsonable, portable, shortened

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
    "RuxaError",
    "ServerError",
    "SubmissionHalted",
    "SubmissionUnknownError",
    "TaskError",
    "TaskFailedError",
    "TaskTimeout",
    "TransportError",
)


_E = TypeVar("_E", bound=BaseException)

#: Causes of causes that are described.
_CAUSES = 8


class RuxaError(Exception):
    """The root of every error that this library raises.

    Every one can be pickled and copied, with its cause. What a pickle cannot carry, such as a connection that a
    foreign exception holds, is replaced by its words.
    """

    def as_dict(self) -> dict[str, Any]:
        """Return its *type*, its whole *message*, its fields and its *cause*, as JSON holds them."""
        return describe_error(self)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: portable(value) for name, value in vars(self).items()}
        if self.__cause__ is not None:
            state["__cause__"] = portable(self.__cause__)
        return _rebuilt, (type(self), tuple(map(portable, self.args))), state


def _rebuilt(cls: type[_E], args: tuple[Any, ...]) -> _E:
    """Return an error without the steps of its ``__init__``, whose arguments are not kept."""
    error = cls.__new__(cls)
    error.args = args
    return error


def describe_error(error: BaseException, causes: int = _CAUSES) -> dict[str, Any]:
    """Return what `RuxaError.as_dict` returns, for any exception."""
    described: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    fields = vars(error) if isinstance(error, RuxaError) else {}
    for name, value in fields.items():
        if name not in described and not name.startswith("_"):
            is_error = isinstance(value, BaseException)
            described[name] = describe_error(value, causes - 1) if is_error else jsonable(value)
    if error.__cause__ is not None and causes:
        described["cause"] = describe_error(error.__cause__, causes - 1)
    return described


class ConfigurationError(RuxaError, ValueError):
    """The client cannot be set up from what it was given; the message says what to set."""


class RequestValidationError(RuxaError, ValueError):
    """A request is wrong in a way that is known without asking the service.

    *field* is the attribute, *value* what it held, *allowed* says what may stand there.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}={shortened(value)} is not valid: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


class APIError(RuxaError):
    """The service refused. *status* is HTTP's, *code* the envelope's (None where there is none).

    *message* is the service's own text, *body* the reply as it came (at most its first 64 KiB, decoded), *headers* its
    headers by lower-case names. *request_id* is what the service or what stands before it calls the exchange, None if it
    has no name; *url* is the address that was asked. The key, cookies and credentials are replaced by ``***``.
    """

    #: What a person can do about it; appended to the message.
    advice = ""

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
        self.headers = dict(headers or {})
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

    advice = "Check what the key is allowed to do, and that nothing between here and the service blocks it"


class NotFoundError(APIError):
    """The task, the model or the path does not exist (404)."""

    advice = "Check the model name, the task id and the base URL"


class InvalidRequestError(APIError):
    """The service does not accept the request's content (400, 422)."""

    advice = "Nothing was charged; correct the request"


class RateLimitedError(APIError):
    """The service asks for a longer pause than was worth waiting for (429).

    *retry_after* is what it asked for in seconds, None if it did not say.
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
    """No usable answer arrived."""


class NotSentError(TransportError):
    """No byte of the request left this machine, so the service cannot have acted on it."""


class MaybeSentError(TransportError):
    """Some of the request left, so the service may have acted on it although no whole answer came.

    *partial* is what a transport could read of the reply, as a `ruxa_async.transports.Response`, None if nothing.
    """

    partial: Any = None


class SubmissionUnknownError(RuxaError):
    """A create that may have been charged: it was sent, and no answer says what became of it.

    It is never sent again by itself. ``__cause__`` is whatever happened.
    """


class BudgetExceededError(RuxaError):
    """A request would pass the client's `Budget`, or nobody knows what it costs: nothing was sent for it.

    *model* is what has no room, or no price; *price* what one task of it counts for, None if nobody knows. *tasks* and
    *credits* are what is spent already, or may be.
    """

    def __init__(
        self,
        message: str,
        model: str,
        price: float | None,
        tasks: int,
        credits: float,  # noqa: A002 - the service's word
    ) -> None:
        super().__init__(message)
        self.message = message
        self.model = model
        self.price = price
        self.tasks = tasks
        self.credits = credits


class SubmissionHalted(RuxaError):  # noqa: N818 - it reports a stop, and the agreed public name says so
    """A batch stopped submitting; raised after everything known was delivered.

    *cause* says why: the service's refusal of the account, a `BudgetExceededError`, or `NotSentError` where the service
    was never reached; *unfinished* are tasks accepted whose end was not seen, *unknown* are creates that
    may have been charged, *unsubmitted* are requests that were pulled and never sent. Each is a tuple of
    `JobRecord`.
    """

    def __init__(
        self,
        cause: BaseException,
        unfinished: Sequence[JobRecord] = (),
        unknown: Sequence[JobRecord] = (),
        unsubmitted: Sequence[JobRecord] = (),
    ) -> None:
        super().__init__(
            f"no more requests are sent: {cause} "
            f"({len(unfinished)} unfinished, {len(unknown)} unknown, {len(unsubmitted)} unsubmitted)"
        )
        self.cause = cause
        self.unfinished = tuple(unfinished)
        self.unknown = tuple(unknown)
        self.unsubmitted = tuple(unsubmitted)


class TaskError(RuxaError):
    """About one task that was paid for; *task_id* says which."""

    def __init__(self, task_id: str, message: str) -> None:
        super().__init__(f"task {task_id or '(its id was never told)'}: {message}")
        self.task_id = task_id
        self.message = message


class TaskFailedError(TaskError):
    """The service says that the generation failed. *fail_code* and *fail_message* are its own words.

    *credits* is what it charged all the same, None if it does not say.
    """

    def __init__(
        self,
        task_id: str,
        fail_code: str,
        fail_message: str,
        credits: float | None = None,  # noqa: A002 - the service's word
    ) -> None:
        said = " ".join(part for part in (f"[{fail_code}]" if fail_code else "", fail_message) if part)
        super().__init__(task_id, f"generation failed: {said or 'the service gave no reason'}")
        self.fail_code = fail_code
        self.fail_message = fail_message
        self.credits = credits


class TaskTimeout(TaskError, TimeoutError):  # noqa: N818 - the agreed public name
    """We stopped waiting. The task lives on and stays paid: pick it up with ``ruxa.attach(error.task_id)``."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(task_id, f"not finished within {timeout:g} s; it lives on, attach to it by its id")
        self.timeout = timeout


class PollingStoppedError(TaskError):
    """The task's state could not be learned any more; ``__cause__`` says why. The task itself may well finish."""


class MalformedResponseError(TaskError):
    """The task ended, but its answer holds nothing usable. *body* is that answer."""

    def __init__(self, task_id: str, message: str, body: str = "") -> None:
        super().__init__(task_id, message)
        self.body = body


class DownloadError(RuxaError):
    """An output could not be brought to disk. *url* is its address; the task stays paid and its link may still work."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(f"{url}: {message}")
        self.url = url
        self.message = message


class LinkExpiredError(DownloadError):
    """The link of an output is not honoured (any more). The task stays paid; asking for its state may bring a fresh link."""


class JournalError(RuxaError):
    """The journal at *path* cannot be opened, read or written; the message says why and what would help.

    No create is sent whose intent could not be written. A write that is reported as failed may still be there later.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class JournalInUseError(JournalError):
    """Somebody else has the journal open; only one process at a time may.

    *holder* says who, as far as is known: process, host and since when.
    """

    def __init__(self, path: str, holder: str = "") -> None:
        who = f"is in use by {holder}" if holder else "is in use by another process"
        super().__init__(path, f"{who}: wait until it ends, stop it, or use another journal")
        self.holder = holder


class JournalMismatchError(JournalError):
    """The journal belongs to another service or account; its task ids mean nothing here. The message names both."""


class KeyConflictError(RuxaError, ValueError):
    """A *key* stands for two jobs of the same *run*: nothing was sent for the second one."""

    def __init__(self, key: str, run: str, message: str) -> None:
        super().__init__(f"key {shortened(key)} in run {shortened(run)}: {message}")
        self.key = key
        self.run = run
        self.message = message


class MissingExtraError(RuxaError, ImportError):
    """An optional part needs a package that is not installed; the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra {extra!r}: pip install 'ruxa-async[{extra}]'")
        self.feature = feature
        self.extra = extra


class ClientClosedError(RuxaError):
    """The client is not open: it was not entered, has been left, or its driver crashed (then ``__cause__`` says how)."""
