"""The tree of errors is as drawn, each says what to do, and each survives a trip between processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from ruxa_async import NanoBanana, errors
from ruxa_async.errors import (
    APIError,
    AuthenticationError,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    InsufficientCreditsError,
    InvalidRequestError,
    JournalError,
    JournalInUseError,
    JournalMismatchError,
    KeyConflictError,
    LinkExpiredError,
    MalformedResponseError,
    MaybeSentError,
    MissingExtraError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    PollingStoppedError,
    RateLimitedError,
    RequestValidationError,
    RunInUseError,
    RuxaError,
    ServerError,
    SubmissionHalted,
    SubmissionUnknownError,
    TaskError,
    TaskFailedError,
    TaskTimeout,
    TransportError,
    UploadError,
)
from ruxa_async.results import JobRecord

API = (
    AuthenticationError,
    InsufficientCreditsError,
    PermissionDeniedError,
    NotFoundError,
    InvalidRequestError,
    RateLimitedError,
    ServerError,
)
REFUSAL = InsufficientCreditsError(402, None, "no credits")
RECORD = JobRecord(request=NanoBanana(prompt="a cat"), key="a", index=0, task_id="task_1", model="m")

EXAMPLES: list[RuxaError] = [
    RuxaError("something"),
    ConfigurationError("no API key"),
    BudgetExceededError("it would pass the budget", "sora-2", 10.0, 3, 25.0),
    RequestValidationError("image_size", "7:1", "one of 1:1, auto is needed"),
    APIError(418, None, "a teapot", "body"),
    *(kind(200, 499, "refused", '{"code":499}') for kind in API),
    RateLimitedError(429, 429, "slow down", "body", retry_after=7.5),
    TransportError("no answer"),
    NotSentError("connection refused"),
    MaybeSentError("connection reset"),
    SubmissionUnknownError("nobody can tell"),
    SubmissionHalted(REFUSAL, [RECORD], [RECORD], [RECORD, RECORD]),
    TaskError("task_1", "something"),
    TaskFailedError("task_1", "500", "too many cats"),
    TaskTimeout("task_1", 60.0),
    PollingStoppedError("task_1", "its state could not be learned"),
    MalformedResponseError("task_1", "no output", "{}"),
    JournalError("/out/journal.db", "the disk is full"),
    JournalInUseError("/out/journal.db", "process 7 on host"),
    JournalInUseError("/out/journal.db"),
    JournalMismatchError("/out/journal.db", "it belongs to another account"),
    RunInUseError("/out/journal.db", "a pass through the run has not ended"),
    KeyConflictError("cat-1", "batch", "it stands for another request there"),
    DownloadError("https://a.example/b.png", "HTTP 404"),
    UploadError("a.png cannot be uploaded"),
    LinkExpiredError("https://a.example/b.png", "HTTP 404"),
    MissingExtraError("the emulator's pictures", "emulator"),
    ClientClosedError("the client is closed"),
]


def tree(text: str) -> Iterator[tuple[str, str]]:
    """Read the drawing: yield each class with its parent."""
    path: list[str] = []
    for line in text.splitlines():
        name = line.lstrip(" │├└─").split("  ")[0].strip()
        if not name.endswith(("Error", "Halted", "Timeout")) or " " in name:
            continue
        depth = (len(line) - len(line.lstrip(" │├└─")) - 4) // 4
        path[depth:] = [name]
        yield name, path[depth - 1] if depth else "RuxaError"


def test_the_tree_is_as_drawn() -> None:
    assert errors.__doc__ is not None
    drawn = dict(tree(errors.__doc__))
    assert set(drawn) == set(errors.__all__)
    for name, parent in drawn.items():
        cls = getattr(errors, name)
        assert cls is RuxaError or getattr(errors, parent) in cls.__bases__, name


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigurationError, ValueError),
        (RequestValidationError, ValueError),
        (TaskTimeout, TimeoutError),
        (MissingExtraError, ImportError),
    ],
)
def test_some_are_the_builtin_that_they_mean(kind: type[RuxaError], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


def test_no_two_families_overlap() -> None:
    families = (APIError, TransportError, TaskError, SubmissionUnknownError, SubmissionHalted, DownloadError)
    for error in EXAMPLES:
        assert sum(isinstance(error, family) for family in families) <= 1


def test_there_is_an_example_of_every_class() -> None:
    assert {type(error).__name__ for error in EXAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: RuxaError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert repr(again) == repr(error)
    plain = {name: value for name, value in vars(error).items() if name != "cause"}
    assert {name: value for name, value in vars(again).items() if name != "cause"} == plain
    if isinstance(error, SubmissionHalted) and isinstance(again, SubmissionHalted):
        assert (type(again.cause), str(again.cause)) == (type(error.cause), str(error.cause))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_shows_its_class_and_words(error: RuxaError) -> None:
    assert repr(error) == f"{type(error).__name__}({str(error)!r})"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (APIError(418, None, "a teapot"), "a teapot (HTTP 418)"),
        (APIError(418, 418, ""), "no message (HTTP 418)"),
        (
            AuthenticationError(200, 401, "bad key"),
            "bad key (HTTP 200, code 401). Check RUXA_API_KEY or the api_key argument",
        ),
        (
            InsufficientCreditsError(402, 402, "no credits"),
            "no credits (HTTP 402). Nothing was charged; add credits to the account and run again",
        ),
        (
            PermissionDeniedError(403, None, "no"),
            (
                "no (HTTP 403). Check the permissions of the key, and whether a proxy or firewall blocks the "
                "request"
            ),
        ),
        (
            NotFoundError(404, None, "no such task"),
            "no such task (HTTP 404). Check the model name, the task id and the base URL",
        ),
        (
            InvalidRequestError(422, None, "bad size"),
            "bad size (HTTP 422). Nothing was charged; correct the request",
        ),
        (RateLimitedError(429, None, "slow"), "slow (HTTP 429). Nothing was charged; try again later"),
        (ServerError(500, 0, "boom"), "boom (HTTP 500, code 0)"),
        (
            RequestValidationError("seconds", 12, "one of 10, 15 is needed"),
            "seconds=12 is not valid: one of 10, 15 is needed",
        ),
        (
            TaskFailedError("task_1", "500", "too many cats"),
            "task task_1: generation failed: [500] too many cats",
        ),
        (TaskFailedError("task_1", "", "too many cats"), "task task_1: generation failed: too many cats"),
        (TaskFailedError("task_1", "500", ""), "task task_1: generation failed: [500]"),
        (TaskFailedError("task_1", "", ""), "task task_1: generation failed: the service gave no reason"),
        (
            TaskTimeout("task_1", 60.0),
            "task task_1: not finished within 60 s; it goes on, attach to it by its id",
        ),
        (PollingStoppedError("task_1", "it is gone"), "task task_1: it is gone"),
        (MalformedResponseError("task_1", "no output", "{}"), "task task_1: no output"),
        (DownloadError("https://a.example/b.png", "HTTP 404"), "https://a.example/b.png: HTTP 404"),
        (
            MissingExtraError("the emulator's pictures", "emulator"),
            "the emulator's pictures needs the extra 'emulator': pip install 'ruxa-async[emulator]'",
        ),
        (
            SubmissionHalted(REFUSAL, [RECORD], [], [RECORD, RECORD]),
            (
                "no more requests are sent: no credits (HTTP 402). Nothing was charged; add credits to the "
                "account and "
                "run again (1 unfinished, 0 unknown, 2 unsubmitted)"
            ),
        ),
    ],
)
def test_a_message_says_what_happened_and_what_to_do(error: RuxaError, text: str) -> None:
    assert str(error) == text


def test_a_refusal_keeps_what_the_service_said() -> None:
    error = NotFoundError(200, 404, "no such model", '{"code":404}')
    assert (error.status, error.code, error.message, error.body) == (
        200,
        404,
        "no such model",
        '{"code":404}',
    )
    assert error.advice == NotFoundError.advice


def test_a_rate_refusal_keeps_the_wait() -> None:
    assert RateLimitedError(429, None, "slow", retry_after=7.5).retry_after == 7.5
    assert RateLimitedError(429, None, "slow").retry_after is None


def test_a_task_error_keeps_its_id() -> None:
    for error in EXAMPLES:
        if isinstance(error, TaskError):
            assert error.task_id == "task_1"
            assert str(error).startswith("task task_1: ")


def test_a_halt_keeps_what_is_left() -> None:
    error = SubmissionHalted(REFUSAL, [RECORD], iter_records(0), iter_records(2))
    assert error.cause is REFUSAL
    assert (error.unfinished, error.unknown, error.unsubmitted) == ((RECORD,), (), (RECORD, RECORD))
    assert SubmissionHalted(REFUSAL).unfinished == ()


def iter_records(count: int) -> list[JobRecord]:
    return [RECORD] * count


def test_a_long_value_is_shortened_but_kept() -> None:
    error = RequestValidationError("prompt", "x" * 1000, "shorter is needed")
    assert str(error) == f"prompt='{'x' * 99}… (1002 characters) is not valid: shorter is needed"
    assert error.value == "x" * 1000


def test_a_value_that_cannot_be_shown_does_not_hide_the_message() -> None:
    assert str(RequestValidationError("seconds", 10**5000, "10 is needed")) == (
        "seconds=<int> is not valid: 10 is needed"
    )
