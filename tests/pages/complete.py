"""What is public, as the reference must list it."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from pages.blocks import ROOT

PACKAGE = ROOT / "ruxa_async"


def public_modules() -> list[str]:
    """Return every module with public names that users may import, without the package itself."""
    paths = [
        path for path in sorted(PACKAGE.rglob("*.py")) if "__all__ =" in path.read_text(encoding="utf-8")
    ]
    modules = [path.relative_to(PACKAGE).with_suffix("").parts for path in paths]
    names = [".".join(["ruxa_async", *parts]).removesuffix(".__init__") for parts in modules]
    return [name for name in names if "._" not in name and name != "ruxa_async"]


@cache
def names_of(path: str) -> tuple[str, ...]:
    """Return the public names of the module *path*, none if it is a class."""
    try:
        return tuple(getattr(import_module(path), "__all__", ()))
    except ImportError:
        return ()
