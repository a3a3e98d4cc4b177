"""Print what breaks the API since the last tag v*, or since another: `python .ci/check_api.py [REVISION]`.

Not `griffe check`: it reads no `__all__` that is computed, and the one of `ruxa_async` is.
"""

from __future__ import annotations

import subprocess
import sys

import griffe

PACKAGE = "ruxa_async"


def last_tag() -> str:
    """Return the newest tag v*, "" if there is none."""
    command = ("git", "tag", "--list", "v*", "--sort=-version:refname")
    tags = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return tags[0] if tags else ""


def with_exports(module: griffe.Object | griffe.Alias) -> griffe.Module:
    """Return the package with the names that it shows to type checkers as its exports."""
    assert isinstance(module, griffe.Module)
    module.exports = [
        name for name, member in module.members.items() if member.is_alias and name[0].isupper()
    ]
    assert module.exports
    return module


def main() -> int:
    """Return 1 if something breaks, else 0."""
    against = sys.argv[1] if len(sys.argv) > 1 else last_tag()
    if not against:
        print("no tag v* exists yet, so there is no released API to compare with")
        return 0
    old = with_exports(griffe.load_git(PACKAGE, ref=against, resolve_aliases=True, resolve_external=False))
    new = with_exports(griffe.load(PACKAGE, search_paths=["."], resolve_aliases=True, resolve_external=False))
    found = [
        breakage.explain(griffe.ExplanationStyle.ONE_LINE)
        for breakage in griffe.find_breaking_changes(old, new)
    ]
    print(*found, f"{len(found)} changes since {against} break programs", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
