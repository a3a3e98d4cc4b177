"""What a program shows a file as, by its extension."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ("MediaKind", "kind_of")

MediaKind: TypeAlias = Literal["image", "video", "audio", "other"]

_KINDS: dict[str, MediaKind] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".bmp"), "image"),
    **dict.fromkeys((".mp4", ".m4v", ".webm", ".mov"), "video"),
    **dict.fromkeys((".mp3", ".wav"), "audio"),
}


def kind_of(name: str) -> MediaKind:
    """Return the kind of the file called *name*, "other" if its extension is not known."""
    return _KINDS.get(Path(name).suffix.lower(), "other")
