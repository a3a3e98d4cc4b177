"""Being called back: what the command line says about it, and the server for it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from ruxa_async.batch import InputError

if TYPE_CHECKING:
    from ruxa_async.callbacks import CallbackReceiver
    from ruxa_async.journal import SqliteJournal

__all__ = ("CallbackOptions", "listening", "read_callbacks")

#: The name of the callback secret in the journal: callbacks of an earlier process stay valid.
_SECRET = "callback secret"  # noqa: S105 - the name of one


@frozen
class CallbackOptions:
    """The public address, and where to listen."""

    url: str
    host: str
    port: int


def read_callbacks(url: str | None, listen: str | None) -> CallbackOptions | None:
    """Return what the two options say together, None if neither is given. Raises `InputError`."""
    if url is None and listen is None:
        return None
    if url is None or listen is None:
        raise InputError("--callback-url and --callback-listen go together: give both, or neither")
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise InputError(f"--callback-listen {listen} is not an address: it should look like 127.0.0.1:8080")
    return CallbackOptions(url, host.removeprefix("[").removesuffix("]"), int(port))


@asynccontextmanager
async def listening(options: CallbackOptions, journal: SqliteJournal) -> AsyncIterator[CallbackReceiver]:
    """Listen for callbacks; the secret is RUXA_CALLBACK_SECRET, or else the one in the open *journal*."""
    from ruxa_async.callbacks import CallbackReceiver  # noqa: PLC0415 - wrong usage should not wait for it

    secret = os.environ.get("RUXA_CALLBACK_SECRET") or await journal.learned(_SECRET)
    if not isinstance(secret, str):
        secret = secrets.token_urlsafe(32)
        await journal.learn(_SECRET, secret)
    receiver = CallbackReceiver(public_url=options.url, secret=secret)
    async with receiver.serve(options.host, options.port):
        yield receiver
