"""Outputs to files, safely.

A result URL is an address that somebody else chose. So nothing of ours goes with the request (no key, no cookie),
redirects are followed by hand and never from https to http, only public addresses are connected to, the size is
bounded and so is the time, and the name of the file is made here: the address contributes nothing to it.

A file appears whole or not at all. It is written under a hidden name in its own folder, synced, and linked into
place, which fails where something of that name exists. The same content there already counts as done, so saving
twice is harmless; different content is left alone and the new file takes a name with a mark of its content.

- `_downloader`: the outputs of a generation, side by side
- `_transfer`: one output, over as many attempts as it takes; `_opening` one request of it, redirects included
- `_ranges`: going on where a transfer was cut off; `_pace`: being too slow
- `_media`: what a file is by its first bytes; `_dimensions`: width and height
- `_naming`: what it is called; `_sinks`: where its bytes go
"""

from __future__ import annotations

from ._dimensions import dimensions
from ._downloader import Downloader
from ._media import HEAD, content_type
from ._naming import BATCH_FIELDS, FIELDS, RowTemplate, check_template
from ._opening import MediaTransport, without_query

__all__ = (
    "BATCH_FIELDS",
    "FIELDS",
    "HEAD",
    "Downloader",
    "MediaTransport",
    "RowTemplate",
    "check_template",
    "content_type",
    "dimensions",
    "without_query",
)
