"""The failpoints at which tests kill: all are listed and used, and only tests set their hook."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ruxa_async
from ruxa_async._internal import failpoints

ROOT = Path(ruxa_async.__file__).parent
TREES = {path: ast.parse(path.read_bytes()) for path in ROOT.rglob("*.py")}


def test_the_list_names_exactly_the_failpoints_in_the_code() -> None:
    calls = {
        ast.literal_eval(node.args[0])
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint"
    }
    assert calls == {*failpoints.FAILPOINTS}
    assert len(calls) == len(failpoints.FAILPOINTS)


def test_a_hook_is_called_with_the_name_of_the_failpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(failpoints, "hook", told.append)
    failpoints.failpoint("reply read")
    assert told == ["reply read"]


def test_the_library_sets_no_hook() -> None:
    assert failpoints.hook is None
    for path, tree in TREES.items():
        if path.name == "failpoints.py":
            continue
        for node in ast.walk(tree):
            # What is imported is the function alone, so that nobody else has a way to the hook.
            if isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
                assert "failpoints" not in names, path
                if (node.module or "").endswith("failpoints"):
                    assert names == {"failpoint"}, path
    # And the module itself gives it a value once, None, and imports nothing that could give it another.
    own = TREES[ROOT / "_internal" / "failpoints.py"]
    stored = [
        node for node in ast.walk(own) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    assert [node.id for node in stored] == ["__all__", "FAILPOINTS", "hook"]
    imported = [node.module for node in ast.walk(own) if isinstance(node, ast.ImportFrom)]
    assert imported == ["__future__", "collections.abc"]
