"""Download outputs to files or memory, safely.

A result URL is untrusted. Requests carry no API key and no cookie. Redirects are limited in number and never
lead from https to http. Only public addresses are connected to. Size and time are bounded, and the file name
is made here: no part of the URL enters it.

A file appears whole or not at all. It is written under a hidden name in its own folder, synced, and linked to
its final name, which fails if that name exists. If the file there has the same content, it counts as saved.
If it differs, it is left alone, and the new file gets a name with a hash of its content. The same holds for
objects in an object store.

- `_downloader`: all outputs of one generation, concurrently; `_output_downloader`: without a client
- `_transfer`: one output: attempts, pauses, resumption, minimum rate
- `_request`: one HTTP request for an output: redirects, status, ranges
- `_object_store`: objects in S3, Google Cloud Storage and Azure
- `_media`: file types, width and height
- `_names`: file names; `_sinks`: files and memory
"""

from __future__ import annotations

from ._downloader import Downloader
from ._media import HEAD, content_type, dimensions, recognize
from ._names import BATCH_FIELDS, FIELDS, RowTemplate, check_template
from ._object_store import ObjectStore, StoredPath, destination
from ._output_downloader import OutputDownloader
from ._request import MediaTransport, without_query

__all__ = (
    "BATCH_FIELDS",
    "FIELDS",
    "HEAD",
    "Downloader",
    "MediaTransport",
    "ObjectStore",
    "OutputDownloader",
    "RowTemplate",
    "StoredPath",
    "check_template",
    "content_type",
    "destination",
    "dimensions",
    "recognize",
    "without_query",
)
