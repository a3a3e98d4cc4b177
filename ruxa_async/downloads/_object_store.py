"""Object stores as places for outputs: S3, Google Cloud Storage and Azure, through obstore (extra ``cloud``).

An object appears whole or not at all, by one conditional put, which never replaces an object. Requests are
made in worker threads, so that they work on trio too, and are repeated here: a conditional put whose response
was lost has either stored the object or not, and the next attempt tells.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

import anyio
from anyio import to_thread

from ruxa_async._internal.files import marked_name
from ruxa_async.errors import ConfigurationError, MissingExtraError
from ruxa_async.journal import SavedFile

from ._media import HEAD, content_type

if TYPE_CHECKING:
    from obstore.store import ObjectStore as AnyStore

    _Path = Path
else:
    _Path = type(Path())  # before Python 3.12 only the class of the system can be inherited from

__all__ = ("ObjectStore", "StoredPath", "destination")

_T = TypeVar("_T")

_SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
_CLOUDS: Final = ("AWS", "GOOGLE", "AZURE")
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
#: Seconds to wait after the first, second, ... failed attempt: 32 s in all, longer than most restarts.
_PAUSES: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
#: Bounds of one request: 300 s suffice for 1 GiB at 30 Mbit/s, or 40 MB at 1 Mbit/s.
_TIMEOUTS: Final = {"connect_timeout": "10s", "timeout": "300s"}
#: Bytes that are read at once of an object whose type, width and height are wanted.
_BUFFER: Final = 1 << 16


class StoredPath(_Path):
    """The place of an object; ``str()`` and ``os.fspath()`` give its URL, such as ``s3://bucket/cat.png``.

    Its `name`, `suffix`, `parent` and the like work as for files. Nothing local can be opened through it.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace("\\", "/").replace(":/", "://", 1)


class ObjectStore(os.PathLike[str]):
    """A prefix in a bucket, such as ``s3://bucket/prefix``, in which objects are never replaced.

    The schemes are s3, gs and az (``az://account/container/prefix``); credentials, region and endpoint come
    from the environment, such as AWS_ACCESS_KEY_ID. *store* is a store of obstore with other settings; its
    prefix must be that of *url*.

    Raises `ConfigurationError` if *url* or the environment is not usable, `MissingExtraError` without the
    extra ``cloud``.
    """

    def __init__(self, url: str, *, store: AnyStore | None = None) -> None:
        try:
            import obstore  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(url, "cloud") from error
        self._obstore = obstore
        self.path: StoredPath = StoredPath(url)
        self.store: AnyStore = _store_of(url) if store is None else store
        self._checking = anyio.Lock()
        self._checked = False
        self._limiter = anyio.CapacityLimiter(math.inf)  # the callers bound how many requests there are

    def __repr__(self) -> str:
        return f"ObjectStore({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    async def check(self) -> None:
        """Create a small object and remove it, to prove that objects can be created and are not replaced.

        Later calls do nothing. Raises OSError, with a message for the user.
        """
        async with self._checking:
            if not self._checked:
                if not await self._call(self._probe, f".ruxa-{uuid4().hex}"):
                    raise OSError("this store ignores If-None-Match, so objects could be replaced")
                self._checked = True

    async def put(self, content: bytes, name: str) -> StoredPath:
        """Store *content* as *name*, and return its place.

        If an object of that name has the same content, it is kept. If it has other content, the new name ends
        with a digest of *content*. Raises OSError.
        """
        await self.check()
        digest = hashlib.sha256(content)
        for candidate in (name, marked_name(name, digest.hexdigest())):
            if await self._put(content, candidate):
                return self.path / candidate
        raise FileExistsError(
            f"other objects are called {name!r} and {marked_name(name, digest.hexdigest())!r}"
        )

    async def kept(self, files: Iterable[SavedFile]) -> dict[int, Path]:
        """Return the place of each of *files* that is complete here, by output number. Raises OSError."""
        kept: dict[int, Path] = {}
        for file in files:
            path = StoredPath(file.name)
            if path.parent == self.path and await self._size(path.name) == file.size:
                kept[file.number] = path
        return kept

    async def read(self, path: Path, use: Callable[[IO[bytes]], _T]) -> _T:
        """Return the result of *use*, called in a worker thread with the object at *path*. Raises OSError."""

        def read(store: AnyStore) -> _T:
            reader = self._obstore.open_reader(store, path.name, buffer_size=_BUFFER)
            with io.BufferedReader(_Raw(reader), _BUFFER) as file:
                return use(file)

        return await self._call(read)

    async def signed(self, name: str, valid_for: timedelta) -> str:
        """Return a URL from which anyone can get the object *name* for that time. Raises OSError."""

        def sign(store: Any) -> str:
            return str(self._obstore.sign(store, "GET", name, valid_for))

        return await self._call(sign)

    async def delete(self, name: str) -> None:
        """Remove the object *name*. Raises OSError."""
        await self._call(self._obstore.delete, name)

    def _probe(self, store: AnyStore, name: str) -> bool:
        """Return whether a second put of *name* is refused. One thread: a cancel leaves nothing."""
        exists, failed = self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.BaseError
        try:
            with suppress(exists):  # the first put of an earlier attempt may have arrived
                self._obstore.put(store, name, b"\n", mode="create")
            self._obstore.put(store, name, b"\n", mode="create")
        except exists:
            return True
        else:
            return False
        finally:
            for _ in _PAUSES:
                with suppress(OSError, failed):  # deleting may be forbidden: then an object of one byte stays
                    self._obstore.delete(store, name)
                    break

    async def _put(self, content: bytes, name: str) -> bool:
        """Return whether the object *name* has *content* in the end, False if it has other content."""
        for pause in _PAUSES:
            if await self._create(name, content):
                return True
            with suppress(FileNotFoundError):
                return await self._call(self._holds, name, content)
            # A put of the same name is under way, such as one of ours whose connection was lost.
            await anyio.sleep(pause)
        raise OSError(f"a put of {name!r} by another client does not end")

    async def _create(self, name: str, content: bytes) -> bool:
        """Create the object *name*, and return True; return False if there is one."""
        attributes: Any = {"Content-Type": content_type(content[:HEAD]) or "application/octet-stream"}
        try:
            await self._call(
                partial(self._obstore.put, attributes=attributes, mode="create", use_multipart=False),
                name,
                content,
            )
        except FileExistsError:
            return False
        return True

    def _holds(self, store: AnyStore, name: str, content: bytes) -> bool:
        found = self._obstore.get(store, name)
        return found.meta["size"] == len(content) and bytes(found.bytes()) == content

    async def _size(self, name: str) -> int | None:
        try:
            return (await self._call(self._obstore.head, name))["size"]
        except FileNotFoundError:
            return None

    async def _call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Return the result of *function*, called with the store and *arguments* in a worker thread.

        Failures that may pass are repeated. A cancelled call goes on in its thread. Raises OSError.
        """
        call = partial(self._attempt, function, *arguments)
        for pause in (*_PAUSES, None):
            try:
                return await to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)
            except ConnectionError:
                if pause is None:
                    raise
                await anyio.sleep(pause)
        raise AssertionError("unreachable")

    def _attempt(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call *function*; raise ConnectionError for what may pass, and another OSError for what stays."""
        errors = self._obstore.exceptions
        try:
            return function(self.store, *arguments)
        except errors.AlreadyExistsError as error:
            raise FileExistsError(_message(error)) from error
        except FileNotFoundError as error:
            raise FileNotFoundError(_message(error)) from error
        except (errors.GenericError, OSError) as error:  # OSError: of a reader
            raise ConnectionError(_message(error)) from error
        except errors.BaseError as error:
            raise OSError(_message(error)) from error


def destination(folder: str | os.PathLike[str]) -> Path | ObjectStore:
    """Return the place that *folder* names: a folder, an `ObjectStore`, or the URL of either.

    Raises `ConfigurationError` for a URL of another kind, and what `ObjectStore` raises.
    """
    if isinstance(folder, ObjectStore):
        return folder
    text = os.fspath(folder)
    found = _URL.match(text)
    if found is None:
        return Path(text)
    if found[1].lower() == "file":
        return Path(url2pathname(urlsplit(text).path))
    if found[1].lower() not in _SCHEMES:
        raise ConfigurationError(
            f"{text!r} is not a place for outputs: give a folder, or a URL that begins with s3://, gs:// or az://"
        )
    return ObjectStore(text)


def _store_of(url: str) -> AnyStore:
    from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
    from obstore.store import from_url  # noqa: PLC0415

    parts = urlsplit(url)
    if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            f"{url.partition('?')[0]!r} is not the URL of a prefix, as in s3://bucket/prefix"
        )
    # Options that are given replace all of the environment's, so this one is read here.
    http = any(os.environ.get(f"{name}_ALLOW_HTTP", "").lower() in ("true", "1") for name in _CLOUDS)
    options: Any = {**_TIMEOUTS, "allow_http": http}
    try:
        return from_url(url, client_options=options, retry_config={"max_retries": 0})
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"{url} cannot be used: {_message(error)}") from error


def _message(error: Exception) -> str:
    """Return the first line of *error*, without the queries of URLs, which may hold a signature."""
    return re.sub(r"\?\S+", "", str(error).partition("\n")[0])


class _Raw(io.RawIOBase):
    """A reader of obstore as a raw file."""

    def __init__(self, reader: Any) -> None:
        super().__init__()
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any, /) -> int:
        data = memoryview(self._reader.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)
