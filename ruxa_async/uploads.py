"""Upload local files so that the service can download them: into an object store, or in a way of yours."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from .downloads import ObjectStore

if TYPE_CHECKING:
    from obstore.store import ObjectStore as AnyStore

__all__ = ("ObjectStoreUploader", "Uploader")

#: Seconds: a signature of S3 and Google Cloud Storage is valid for seven days at most.
_LONGEST = 7 * 86_400.0


@runtime_checkable
class Uploader(Protocol):
    """Puts the content of local files where the service can download it.

    An OSError of a method says why it failed. Then the request is not bought.
    """

    async def upload(self, content: bytes, name: str) -> str:
        """Store *content* under *name*, which is unique and ends as its type does; return its public URL.

        The URL must be valid until the task has ended.
        """
        ...

    async def delete(self, url: str) -> None:
        """Remove what `upload` stored at *url*: no task needs it any more."""
        ...


class ObjectStoreUploader:
    """Upload into an object store, such as ``s3://bucket/prefix``, and give the service signed URLs.

    A URL is valid for *valid_for* seconds from the upload (86,400; at most seven days): longer than a request
    waits and its task runs. *url* and *store* are those of `ObjectStore`. Raises `ConfigurationError`, and
    `MissingExtraError` without the extra ``cloud``.
    """

    def __init__(self, url: str, *, valid_for: float = 86_400.0, store: AnyStore | None = None) -> None:
        if not 0 < valid_for <= _LONGEST:
            raise ValueError(f"valid_for={valid_for!r} is not valid: at most seven days, {_LONGEST:.0f} s")
        self._store = ObjectStore(url, store=store)
        self._valid_for = timedelta(seconds=valid_for)

    def __repr__(self) -> str:
        return f"ObjectStoreUploader({str(self._store.path)!r})"

    async def upload(self, content: bytes, name: str) -> str:
        """Store *content* as the object *name*, and return a signed URL of it. Raises OSError."""
        place = await self._store.put(content, name)
        return await self._store.signed(place.name, self._valid_for)

    async def delete(self, url: str) -> None:
        """Remove the object at *url*. Raises OSError."""
        await self._store.delete(unquote(urlsplit(url).path).rpartition("/")[2])
