"""Imports point down, the engine touches no clock, and a bare import loads almost nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "ruxa_async"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_bytes()) for name, path in PATHS.items()}


def type_checking_only(tree: ast.Module) -> set[ast.AST]:
    """Every node that only type checkers see."""
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }


def base_of(node: ast.ImportFrom, name: str, *, package: bool) -> str:
    """The module that ``from ... import`` in the module *name* reads from."""
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def imports(name: str, *, run_time_only: bool = False) -> Iterator[str]:
    """Every module that *name* imports, anywhere in it, by its full name."""
    tree = TREES[name]
    skipped = type_checking_only(tree) if run_time_only else set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = base_of(node, name, package=PATHS[name].name == "__init__.py")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in PATHS else base


def ours(name: str, *, run_time_only: bool = False) -> set[str]:
    """The modules of ours that *name* imports, without the package ``ruxa_async`` in front."""
    return {
        imported.removeprefix("ruxa_async").removeprefix(".")
        for imported in imports(name, run_time_only=run_time_only)
        if imported.partition(".")[0] == "ruxa_async"
    }


def under(imported: str, *tops: str) -> bool:
    """Tell whether *imported* is one of *tops* or inside it."""
    return any(imported == top or imported.startswith(f"{top}.") for top in tops)


def modules(*tops: str) -> list[str]:
    found = [name for name in PATHS if under(name.removeprefix("ruxa_async").removeprefix("."), *tops)]
    assert found, tops
    return found


# ---- the engine is pure

VALUES = ("_notebook", "_portable", "_price_list", "errors", "events", "requests", "results", "settings")
ENGINE_MAY_IMPORT = {
    "__future__",
    "attrs",
    "collections",
    "collections.abc",
    "copy",
    "bisect",
    "enum",
    "fractions",
    "heapq",
    "math",
    "re",
    "typing",
    "ruxa_async._price_list",
    "ruxa_async.results",
    "ruxa_async.settings",
}


@pytest.mark.parametrize("name", modules("_engine", "_api.rate_limit_headers", "_api.retry_after"))
def test_the_engine_imports_no_clock_no_chance_and_nothing_that_waits(name: str) -> None:
    allowed = {*ENGINE_MAY_IMPORT, *modules("_engine", "_api.rate_limit_headers", "_api.retry_after")}
    if name == "ruxa_async._api.retry_after":
        allowed.add("email.utils")  # the dates of HTTP
    assert set(imports(name)) <= allowed


@pytest.mark.parametrize("name", modules("_engine"))
def test_nothing_in_the_engine_is_async(name: str) -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [ast.unparse(node) for node in ast.walk(TREES[name]) if isinstance(node, waiting)]


@pytest.mark.parametrize("name", modules("_engine"))
def test_the_engine_imports_nothing_by_a_computed_name(name: str) -> None:
    names = {node.id for node in ast.walk(TREES[name]) if isinstance(node, ast.Name)}
    assert not names & {"__import__", "eval", "exec", "open", "print", "input"}


# ---- imports point down


def test_values_import_nothing_of_ours_but_each_other() -> None:
    for name in modules(*VALUES):
        assert ours(name) <= {*VALUES}, name


#: From the top down: a layer imports from those below it, and within the client from those after it.
LAYERS = ("cli", "batch", "mcp_server", "sync", "_client", "callbacks", "journal", "downloads", "transports")
CLIENT = (
    "client",
    "task",
    "completions",
    "pipeline",
    "driver",
    "create",
    "query",
    "worker_pool",
    "outcomes",
    "job",
)
#: `_api` knows the requests and responses of `transports.base`.
PURE = ("_api", "_engine")
#: No module of the first may import any of the second.
RULES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    *((LAYERS[index:], LAYERS[:index]) for index in (1, 2, 3, 4, 5)),
    (("transports", "journal", "downloads"), ("_api", "_engine")),
    (PURE, tuple(layer for layer in LAYERS if layer != "transports")),
    (("_engine",), ("transports",)),
    (("_api",), tuple(f"_engine.{name}" for name in ("engine", "polling", "rate_limits", "job"))),
    (
        ("_internal.failpoints", "_internal.hosts", "_internal.jsonl", "_internal.lazy", "_version"),
        (*LAYERS, *PURE, "errors", "requests", "results", "settings"),
    ),
    (("_client.driver",), ("_client.client", "_client.completions", "_client.task")),
    (
        ("_client.create", "_client.query"),
        tuple(f"_client.{name}" for name in ("client", "task", "completions", "pipeline", "driver")),
    ),
    (
        ("_client.worker_pool", "_client.outcomes", "_client.job"),
        tuple(f"_client.{name}" for name in CLIENT[:-3]),
    ),
]


@pytest.mark.parametrize(("importers", "forbidden"), RULES)
def test_no_import_points_up(importers: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    wrong = {
        f"{name} imports {imported}"
        for name in modules(*importers)
        for imported in ours(name)
        if under(imported, *forbidden)
    }
    assert not wrong


def test_callbacks_know_nothing_of_the_client() -> None:
    for name in PATHS:
        if under(name, "ruxa_async.callbacks"):
            assert not [imported for imported in ours(name) if under(imported, "_client", "_engine")], name


def test_the_engine_knows_nothing_above_it() -> None:
    for name in modules("_engine"):
        allowed = (
            "_engine",
            "_api.rate_limit_headers",
            "_api.retry_after",
            "_price_list",
            "results",
            "settings",
        )
        assert all(under(imported, *allowed) for imported in ours(name)), name


def test_only_the_command_line_knows_the_batch_and_itself() -> None:
    for name in PATHS:
        short = name.removeprefix("ruxa_async").removeprefix(".")
        if not under(short, "cli", "batch", "__main__"):
            assert not [imported for imported in ours(name) if under(imported, "batch", "cli")], name


def test_the_emulator_knows_nothing_of_the_library_but_its_errors_and_price_keys() -> None:
    for name in modules("emulator"):
        assert all(under(imported, "emulator", "errors", "_price_list") for imported in ours(name)), name


def test_the_report_knows_files_and_errors_and_nothing_of_what_wrote_them() -> None:
    for name in modules("report"):
        known = ("report", "errors", "_internal", "_price_list")
        assert all(under(imported, *known) for imported in ours(name)), name


def test_the_export_knows_files_and_nothing_of_what_wrote_them() -> None:
    for name in modules("export"):
        assert all(under(imported, "export", "_internal", "errors") for imported in ours(name)), name


def test_the_testing_kit_knows_public_names_only_and_nothing_knows_it() -> None:
    for name in PATHS:
        inside = under(name, "ruxa_async.testing")
        for imported in ours(name) - {""}:
            public = not any(part.startswith("_") for part in imported.split("."))
            known = under(imported, "testing") if inside else not under(imported, "testing")
            assert known or (inside and (public or imported == "_internal.lazy")), (name, imported)


def test_integrations_know_the_client_by_its_public_names_and_nothing_knows_them() -> None:
    for name in PATHS:
        if under(name, "ruxa_async.integrations"):
            assert all(
                under(imported, "integrations", "_logging", "_version", "downloads", *VALUES)
                for imported in ours(name) - {""}
            ), name
        else:
            assert not [imported for imported in ours(name) if under(imported, "integrations")], name


def test_the_server_of_agents_knows_the_client_by_its_public_names_and_only_the_command_line_knows_it() -> (
    None
):
    for name in PATHS:
        if under(name, "ruxa_async.mcp_server"):
            allowed = ("mcp_server", "journal", "_logging", "_version", *VALUES)
            assert all(under(imported, *allowed) for imported in ours(name) - {""}), name
        elif not under(name, "ruxa_async.cli"):
            assert not [imported for imported in ours(name) if under(imported, "mcp_server")], name


#: Packages of which users import what ``__init__`` lists, and who else may read their modules: their own
#: front.
PUBLIC = {
    "transports": ("_client", "downloads"),
    "journal": ("_client", "batch"),
    "callbacks": ("_client",),
    "downloads": ("_client",),
    "batch": ("cli",),
    "mcp_server": ("cli",),
    "sync": (),
    "emulator": (),
    "report": (),
    "export": (),
    "testing": (),
    "cli": ("__main__",),
}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_public_package_lists_its_names_and_hides_its_modules(package: str) -> None:
    hidden = f"{package}._"
    for name in PATHS:
        short = name.removeprefix("ruxa_async").removeprefix(".")
        assert not short.startswith(f"{package}.") or short.startswith(hidden), name
        if not under(short, package, *PUBLIC[package]):
            assert not [imported for imported in ours(name) if imported.startswith(hidden)], name


@pytest.mark.parametrize("package", PUBLIC)
def test_every_listed_name_of_a_package_can_be_imported(package: str) -> None:
    module = import_module(f"ruxa_async.{package}")
    listed = getattr(module, "__all__", ())
    assert list(listed) == sorted(listed, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(module, name) for name in listed)
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


def test_no_imports_go_in_a_circle() -> None:
    rest = {
        name: {f"ruxa_async.{other}" for other in ours(name, run_time_only=True) if other} for name in PATHS
    }
    while leaves := {name for name, needed in rest.items() if not needed & rest.keys()}:
        for name in leaves:
            del rest[name]
    assert not rest


# ---- the proof itself is proven


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("import os.path as p", {"os.path"}),
        ("from time import monotonic", {"time"}),
        ("def f():\n    import random", {"random"}),
        ("from . import classify", {"ruxa_async._engine.classify"}),
        ("from .classify import Reply", {"ruxa_async._engine.classify"}),
        ("from .. import errors", {"ruxa_async.errors"}),
        ("from ..transports._base import Request", {"ruxa_async.transports._base"}),
        ("from ruxa_async._client import driver", {"ruxa_async._client.driver"}),
        ("from ruxa_async import RuxaClient", {"ruxa_async"}),
        ("if TYPE_CHECKING:\n    import asyncio", {"asyncio"}),
    ],
)
def test_every_way_to_import_is_seen(source: str, found: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TREES, "ruxa_async._engine.engine", ast.parse(source))
    assert set(imports("ruxa_async._engine.engine")) == found


def test_an_import_in_a_package_is_relative_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        TREES, "ruxa_async._engine", ast.parse("from .classify import Reply\nfrom .. import errors")
    )
    assert set(imports("ruxa_async._engine")) == {
        "ruxa_async._engine.classify",
        "ruxa_async.errors",
    }


def test_imports_for_type_checkers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import math\nif TYPE_CHECKING:\n    import asyncio\nelse:\n    import heapq"
    monkeypatch.setitem(TREES, "ruxa_async._engine.engine", ast.parse(source))
    assert set(imports("ruxa_async._engine.engine", run_time_only=True)) == {"math", "heapq"}


# ---- a bare import is light

HEAVY = {"aiohttp", "cattrs", "asyncio", "anyio", "trio", "PIL", "cyclopts", "rich", "mcp"}


@pytest.mark.parametrize(
    "statement",
    [
        "import ruxa_async",
        "from ruxa_async import NanoBanana",
        "from ruxa_async import Limits, Succeeded, TaskFailedError",
    ],
)
def test_import_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent, timeout=60
    )
    assert not HEAVY & {*json.loads(done.stdout)}
