"""Check the files in dist/ for what people and the package index see: `python .ci/check_package.py`.

With `--tag v1.2.3`, check instead that the version and the changelog belong to this tag. It needs only the
standard library, but renders the page of the index where readme_renderer is installed.
"""

from __future__ import annotations

import argparse
import email
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"""(?:href|src)="([^"]*)"|\]\(([^)\s]*)\)""")


def wheel_faults(names: list[str]) -> Iterator[str]:
    """Yield what is wrong with the files of a wheel."""
    for name in names:
        top = name.partition("/")[0]
        if top != "ruxa_async" and not top.endswith(".dist-info"):
            yield f"the wheel installs {name}"
        if name.endswith((".pyc", ".orig")) or "test_" in name:
            yield f"the wheel has {name}"
    if "ruxa_async/py.typed" not in names:
        yield "the wheel has no py.typed"
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        yield "the wheel has no licence"


def page_faults(page: str) -> Iterator[str]:
    """Yield what is wrong with the Markdown or HTML *page* of the index."""
    for groups in ADDRESS.findall(page):
        address = "".join(groups)
        if not address.startswith(("https://", "#")):
            yield f"the page of the index has the relative address {address!r}"
    if "HFPR_VERSION" in page:
        yield "the page of the index has no version in its addresses"


def targets(page: str, version: str) -> Iterator[str]:
    """Yield the files of the repository that *page* leads to."""
    for groups in ADDRESS.findall(page):
        _, found, path = "".join(groups).partition(f"/v{version}/")
        if found:
            yield path.partition("#")[0]


def rendered(page: str) -> str:
    """Return the HTML of the Markdown *page*, "" without readme_renderer. Raises ValueError."""
    try:
        from readme_renderer import markdown  # noqa: PLC0415 - it may be missing
    except ImportError:
        return ""
    html = markdown.render(page)
    if not html:
        raise ValueError("the page of the index cannot be rendered")
    return str(html)


def dist_faults(dist: Path) -> Iterator[str]:
    """Yield what is wrong with the one wheel and the one sdist in *dist*."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        message = email.message_from_string(files.read(metadata).decode())
    yield from wheel_faults(names)
    page = str(message.get_payload())
    yield from page_faults(page)
    yield from page_faults(rendered(page))
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    version = str(message["Version"])
    for needed in (
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "pyproject.toml",
        "tests/conftest.py",
        "ruxa_async/py.typed",
    ):
        if needed not in inside:
            yield f"the sdist has no {needed}"
    for path in targets(page, version):
        if not (ROOT / path).exists():
            yield f"the page of the index leads to {path}, which does not exist"


def tag_faults(tag: str) -> Iterator[str]:
    """Yield what keeps *tag* from being released."""
    source = (ROOT / "ruxa_async" / "_version.py").read_text(encoding="utf-8")
    version = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]
    if tag != f"v{version}":
        yield f"the tag is {tag}, and the version {version}"
    if not re.search(
        rf"^## \[?{re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    ):
        yield f"CHANGELOG.md has no section of {version}"


def main() -> int:
    """Print the faults and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    faults = list(tag_faults(options.tag) if options.tag else dist_faults(options.dist))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("nothing is wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
