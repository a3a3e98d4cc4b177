"""Links between pages lead somewhere. Other hosts are not asked."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages.blocks import DOCS, PAGES, ROOT, name_of

ALL = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """Return the text of *page* without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings of *page* make."""
    names = [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text_of(page))
    ]
    assert max(Counter(names).values(), default=1) == 1, f"{page.name}: two headings have one anchor"
    return {*names}


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor and not anchor.startswith(
            "ruxa_async."
        ):  # the reference has these; test_site.py looks there
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_links_to_other_hosts_are_addresses_of_https(page: Path) -> None:
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert "." in (parts.hostname or ""), link


@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_pages_of_the_site_link_within_it(page: Path) -> None:
    for link in LINK.findall(text_of(page)):
        if "://" not in link:
            assert (page.parent / link.partition("#")[0]).resolve().is_relative_to(DOCS), link
