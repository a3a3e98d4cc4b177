"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TypeAlias

__all__ = ("Finder", "lazy_names")

#: The ``__getattr__`` of a module.
Finder: TypeAlias = Callable[[str], object]


def lazy_names(package: str, homes: Mapping[str, str]) -> Finder:
    """Return the ``__getattr__`` of *package*; *homes* maps each module to its names, separated by spaces."""
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def find(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{home_of[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
