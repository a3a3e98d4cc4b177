"""The names that users rely on, listed so that a change is deliberate."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import ruxa_async

SOURCE = Path(__file__).parent.parent / "ruxa_async" / "__init__.py"
TREE = ast.parse(SOURCE.read_bytes())


def homes() -> dict[str, str]:
    """Each name in ``_HOMES`` with its module, read from the source."""
    for node in TREE.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            return {
                name: home for home, names in ast.literal_eval(node.value).items() for name in names.split()
            }
    raise AssertionError("there is no _HOMES")


def shown_to_type_checkers() -> dict[str, str]:
    """Each name in the TYPE_CHECKING block with its module, read from the source."""
    found: dict[str, str] = {}
    for block in TREE.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                assert isinstance(node, ast.ImportFrom), ast.unparse(node)
                assert node.level == 1
                for alias in node.names:
                    assert alias.asname == alias.name, "only `import X as X` is an export"
                    assert alias.name not in found
                    found[alias.name] = node.module or ""
    return found


def test_the_public_names() -> None:
    assert ruxa_async.__all__ == (
        "APIError",
        "AuthenticationError",
        "Budget",
        "BudgetExceededError",
        "Callback",
        "CallbackReceiver",
        "CallbackURL",
        "ClientClosedError",
        "Completions",
        "ConfigurationError",
        "CustomRequest",
        "DownloadError",
        "Downloads",
        "Failed",
        "Generation",
        "GenerationRequest",
        "GenerationTask",
        "InsufficientCreditsError",
        "InvalidRequestError",
        "JobRecord",
        "JournalError",
        "JournalInUseError",
        "JournalMismatchError",
        "KeyConflictError",
        "Limits",
        "LinkExpiredError",
        "LocalFile",
        "MalformedResponseError",
        "MaybeSentError",
        "MissingExtraError",
        "NanoBanana",
        "NanoBananaEdit",
        "NanoBananaPro",
        "NotFoundError",
        "NotSentError",
        "ObjectStoreUploader",
        "Outcome",
        "PermissionDeniedError",
        "Polling",
        "PollingStoppedError",
        "RateLimit",
        "RateLimitedError",
        "RequestValidationError",
        "Resume",
        "Retries",
        "RunInUseError",
        "RuxaClient",
        "RuxaError",
        "ServerError",
        "Sora2",
        "Sora2HD",
        "SqliteJournal",
        "Stats",
        "SubmissionHalted",
        "SubmissionUnknownError",
        "Succeeded",
        "TaskError",
        "TaskFailedError",
        "TaskState",
        "TaskStatus",
        "TaskTimeout",
        "Timeouts",
        "TransportError",
        "UploadError",
        "Uploader",
    )


@pytest.mark.parametrize("name", ruxa_async.__all__)
def test_every_public_name_is_the_one_in_its_home(name: str) -> None:
    assert getattr(ruxa_async, name) is getattr(import_module(f"ruxa_async.{homes()[name]}"), name)


def test_public_names_are_sorted_and_named_once() -> None:
    assert list(ruxa_async.__all__) == sorted(set(ruxa_async.__all__))


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    assert shown_to_type_checkers() == homes()


def test_no_name_has_two_homes() -> None:
    assert len(homes()) == len(ruxa_async.__all__)


@pytest.mark.parametrize("home", sorted({*homes().values()}))
def test_every_public_name_is_exported_by_its_home(home: str) -> None:
    names = {name for name, where in homes().items() if where == home}
    assert names <= {*import_module(f"ruxa_async.{home}").__all__}


def test_every_error_is_public() -> None:
    assert {*import_module("ruxa_async.errors").__all__} <= {*ruxa_async.__all__}


def test_dir_shows_every_public_name() -> None:
    assert {*ruxa_async.__all__, "__version__"} <= {*dir(ruxa_async)}


def test_an_unknown_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'ruxa_async' has no attribute 'Nonsense'"):
        ruxa_async.Nonsense  # noqa: B018


def test_the_version_is_a_version() -> None:
    assert ruxa_async.__version__.split(".")[0].isdigit()
