"""The address of a journal in PostgreSQL, and what of it may be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from ruxa_async.errors import ConfigurationError, MissingExtraError

__all__ = ("driver", "is_dsn", "name_of_server", "split_schema")

#: The schema of a journal unless another is named.
_SCHEMA = "ruxa_async"

_SCHEMES = ("postgresql://", "postgres://")
#: A schema behind ``#``. Other texts there may belong to a password that is not percent-encoded.
_FRAGMENT = re.compile(r"(?P<dsn>.+)#(?P<schema>[A-Za-z_][A-Za-z0-9_]*)")
#: Several hosts and ports are separated by commas.
_PORTS = re.compile(r"[0-9,]*")


def driver() -> Any:
    """Return the psycopg package. Raises `MissingExtraError`."""
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("PostgresJournal", "postgres") from exc
    return psycopg


def is_dsn(place: object) -> TypeGuard[str]:
    """Tell whether *place* is the URL of a PostgreSQL database, not a path."""
    return isinstance(place, str) and place.startswith(_SCHEMES)


def split_schema(place: str) -> tuple[str, str]:
    """Return the DSN and the schema of ``DSN#SCHEMA``; the schema is ``ruxa_async`` if none is named."""
    found = _FRAGMENT.fullmatch(place)
    return (place, _SCHEMA) if found is None else (found["dsn"], found["schema"])


def name_of_server(dsn: str, schema: str) -> str:
    """Return *dsn* as a URL without its password and parameters, for messages.

    Raises `ConfigurationError`, which repeats no part of *dsn*, if it cannot be read or may be read in a way
    that takes the password for something else.
    """
    parts = _parsed(dsn)
    host, port, database = (str((parts or {}).get(name) or "") for name in ("host", "port", "dbname"))
    if parts is None or "@" in host or "@" in database or not _PORTS.fullmatch(port):
        raise ConfigurationError(
            "the address of the PostgreSQL journal cannot be read: give it as "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password "
            "percent-encoded"
        )
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"postgresql://{user}{host or 'localhost'}{f':{port}' if port else ''}/{database}#{schema}"


def _parsed(dsn: str) -> Mapping[str, Any] | None:
    """Return the parts of *dsn*, None if it cannot be read; psycopg's errors may repeat the password."""
    conninfo_to_dict = driver().conninfo.conninfo_to_dict
    try:
        parts: Mapping[str, Any] = conninfo_to_dict(dsn)
    except driver().ProgrammingError:
        return None
    return parts
