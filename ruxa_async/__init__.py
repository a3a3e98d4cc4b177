"""An async client for the Ruxa generation API: create tasks, wait for their ends, fetch their outputs.

Start at `RuxaClient`. Each name imports its module when it is first used, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._internal.lazy import Finder as _Finder
from ._internal.lazy import lazy_names as _lazy_names
from ._logging import set_up as _set_up_logging
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._client.client import RuxaClient as RuxaClient
    from ._client.completions import Completions as Completions
    from ._client.task import GenerationTask as GenerationTask
    from ._progress import progress as progress
    from .callbacks import Callback as Callback
    from .callbacks import CallbackReceiver as CallbackReceiver
    from .errors import APIError as APIError
    from .errors import AuthenticationError as AuthenticationError
    from .errors import BudgetExceededError as BudgetExceededError
    from .errors import ClientClosedError as ClientClosedError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import DownloadError as DownloadError
    from .errors import InsufficientCreditsError as InsufficientCreditsError
    from .errors import InvalidRequestError as InvalidRequestError
    from .errors import JournalError as JournalError
    from .errors import JournalInUseError as JournalInUseError
    from .errors import JournalMismatchError as JournalMismatchError
    from .errors import KeyConflictError as KeyConflictError
    from .errors import LinkExpiredError as LinkExpiredError
    from .errors import MalformedResponseError as MalformedResponseError
    from .errors import MaybeSentError as MaybeSentError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import NotFoundError as NotFoundError
    from .errors import NotSentError as NotSentError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import PollingStoppedError as PollingStoppedError
    from .errors import RateLimitedError as RateLimitedError
    from .errors import RequestValidationError as RequestValidationError
    from .errors import RunInUseError as RunInUseError
    from .errors import RuxaError as RuxaError
    from .errors import ServerError as ServerError
    from .errors import SubmissionHalted as SubmissionHalted
    from .errors import SubmissionUnknownError as SubmissionUnknownError
    from .errors import TaskError as TaskError
    from .errors import TaskFailedError as TaskFailedError
    from .errors import TaskTimeout as TaskTimeout
    from .errors import TransportError as TransportError
    from .errors import UploadError as UploadError
    from .journal import SqliteJournal as SqliteJournal
    from .requests import CustomRequest as CustomRequest
    from .requests import GenerationRequest as GenerationRequest
    from .requests import LocalFile as LocalFile
    from .requests import NanoBanana as NanoBanana
    from .requests import NanoBananaEdit as NanoBananaEdit
    from .requests import NanoBananaPro as NanoBananaPro
    from .requests import Sora2 as Sora2
    from .requests import Sora2HD as Sora2HD
    from .results import Failed as Failed
    from .results import Generation as Generation
    from .results import JobRecord as JobRecord
    from .results import Outcome as Outcome
    from .results import Stats as Stats
    from .results import Succeeded as Succeeded
    from .results import TaskState as TaskState
    from .results import TaskStatus as TaskStatus
    from .settings import Budget as Budget
    from .settings import CallbackURL as CallbackURL
    from .settings import Downloads as Downloads
    from .settings import Limits as Limits
    from .settings import Polling as Polling
    from .settings import RateLimit as RateLimit
    from .settings import Resume as Resume
    from .settings import Retries as Retries
    from .settings import Timeouts as Timeouts
    from .uploads import ObjectStoreUploader as ObjectStoreUploader
    from .uploads import Uploader as Uploader

# The module of each public name. The block above says the same to type checkers; a test keeps both equal.
_HOMES = {
    "_client.client": "RuxaClient",
    "_client.completions": "Completions",
    "_client.task": "GenerationTask",
    "_progress": "progress",
    "callbacks": "Callback CallbackReceiver",
    "errors": (
        "APIError AuthenticationError BudgetExceededError ClientClosedError ConfigurationError DownloadError "
        "InsufficientCreditsError InvalidRequestError JournalError JournalInUseError JournalMismatchError "
        "KeyConflictError LinkExpiredError MalformedResponseError MaybeSentError MissingExtraError "
        "NotFoundError NotSentError PermissionDeniedError PollingStoppedError RateLimitedError "
        "RequestValidationError RunInUseError RuxaError ServerError SubmissionHalted SubmissionUnknownError "
        "TaskError TaskFailedError TaskTimeout TransportError UploadError"
    ),
    "journal": "SqliteJournal",
    "requests": (
        "CustomRequest GenerationRequest LocalFile NanoBanana NanoBananaEdit NanoBananaPro Sora2 Sora2HD"
    ),
    "results": "Failed Generation JobRecord Outcome Stats Succeeded TaskState TaskStatus",
    "settings": "Budget CallbackURL Downloads Limits Polling RateLimit Resume Retries Timeouts",
    "uploads": "ObjectStoreUploader Uploader",
}
_set_up_logging()

__all__ = tuple(sorted(name for names in _HOMES.values() for name in names.split()))

__getattr__: _Finder = _lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
