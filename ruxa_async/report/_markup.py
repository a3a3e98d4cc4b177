"""Escape text from outside, one function for each place of a page."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from urllib.parse import quote

__all__ = ("address", "attributes", "csp_hash", "isolated", "json_in_script", "text")

#: Characters that could end a script or begin a comment in HTML, and line ends of older JavaScript.
_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def text(value: object) -> str:
    """Return *value*, escaped for an HTML element or a quoted attribute."""
    return escape(str(value), quote=True)


def isolated(value: object) -> str:
    """Return *value* in a ``<bdi>`` element, so that its direction does not affect its surroundings."""
    return f'<bdi dir="auto">{text(value)}</bdi>'


def json_in_script(value: object) -> str:
    """Return *value* as JSON for ``<script type="application/json">``."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_IN_SCRIPT)


def address(path: str) -> str:
    """Return the relative URL of the file at *path* in the folder."""
    return "./" + "/".join(quote(part, safe="", errors="replace") for part in path.split("/"))


def csp_hash(source: str) -> str:
    """Return the source expression of a Content-Security-Policy that permits the inline *source*."""
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"


def attributes(values: Mapping[str, object]) -> str:
    """Return *values* as HTML attributes, each after a space; floats are rounded to hundredths."""
    return "".join(f' {name}="{text(_plain(value))}"' for name, value in values.items())


def _plain(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else 0
    return value
