"""The built site is whole, and works without a connection. It needs zensical: `nox -s docs`."""

from __future__ import annotations

import ast
import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import pytest
from pages.blocks import ROOT
from pages.complete import names_of, public_modules

from ruxa_async import settings

pytestmark = [
    pytest.mark.skipif(find_spec("zensical") is None, reason="needs the dependency group docs"),
    pytest.mark.timeout(300),
]


class Page(HTMLParser):
    """The anchors of one page, what it loads and what it links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if "src" in values:
            self.loads.append(values["src"])
        if "href" in values:
            loaded = tag == "link" and values.get("rel") not in ("canonical", "next", "prev")
            (self.loads if loaded else self.links).append(values["href"])


@pytest.fixture(scope="module")
def site() -> Path:
    """Build the site, with every warning as an error."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return ROOT / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.name != "404.html"
    }


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor(site: Path, pages: dict[Path, Page]) -> None:
    assert [
        (path.name, link)
        for path, page in pages.items()
        for link in page.links + page.loads
        if not leads_somewhere(link, path, site, pages)
    ] == []


def leads_somewhere(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> bool:
    """Tell whether *link*, on the page *path*, is of another host, or names a file of the site and its anchor."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_relative_to(site) or not target.exists():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in pages or anchor in {*pages[target].anchors, "__top"}


def test_the_site_loads_nothing_from_other_hosts(pages: dict[Path, Page]) -> None:
    assert not [(path.name, each) for path, page in pages.items() for each in page.loads if "//" in each]


def test_every_public_name_is_in_the_reference(pages: dict[Path, Page]) -> None:
    anchors = {anchor for page in pages.values() for anchor in page.anchors}
    names = {f"{module}.{name}" for module in public_modules() for name in names_of(module)}
    assert len(names) > 150
    assert names - anchors == set()


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    text = (site / "cli-options.html").read_text(encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-m", "ruxa_async", "batch", "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = {word.strip(",") for word in shown.split() if word.startswith("--")}
    assert len(options) > 15
    assert [option for option in options if option not in text] == []


@pytest.mark.parametrize("name", sorted({*settings.__all__} - {"Scope"}))
def test_every_setting_and_its_default_is_in_the_signature_of_its_class(name: str, site: Path) -> None:
    text = " ".join(re.sub(r"<[^>]+>", "", (site / "settings.html").read_text(encoding="utf-8")).split())
    (signature,) = re.findall(rf"{name} &para; {name}\( (.*?) \) [A-Z]", text)
    (function,) = ast.parse(f"def f({html.unescape(signature)}): ...").body
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + [*given.defaults, *given.kw_defaults]
    shown = {
        argument.arg: default and eval(ast.unparse(default))
        for argument, default in zip(given.args + given.kwonlyargs, defaults, strict=True)
    }
    assert shown == {field.name: shown_default(field) for field in attrs.fields(getattr(settings, name))}


def shown_default(field: attrs.Attribute[Any]) -> object:
    """Return the default of *field*, None without one."""
    if factory := getattr(field.default, "factory", None):
        return factory()
    return None if field.default is attrs.NOTHING else field.default


def test_programs_can_read_the_whole_site_as_text(site: Path) -> None:
    index = (site / "llms.txt").read_text(encoding="utf-8")
    assert "An async Python client" in index
    assert all(f"/{name}.md" in index for name in ("index", "resume", "rate-limits", "errors", "sync"))
    full = (site / "llms-full.txt").read_text(encoding="utf-8")
    for phrase in ("The first picture", "SubmissionUnknownError", "max-credits", "Coming from gather"):
        assert phrase in full
