"""The checks that a release must pass find what they are for. `nox -s package api` runs them on the real files."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def script(name: str) -> Any:
    spec = spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = script("check_package")
GOOD = [
    "ruxa_async/__init__.py",
    "ruxa_async/py.typed",
    "r.dist-info/METADATA",
    "r.dist-info/licenses/LICENSE",
]


def test_a_wheel_with_package_licence_and_types_has_no_fault() -> None:
    assert list(CHECK.wheel_faults(GOOD)) == []


@pytest.mark.parametrize("missing", GOOD[1:2] + GOOD[3:])
def test_a_wheel_without_types_or_licence_has_a_fault(missing: str) -> None:
    assert len(list(CHECK.wheel_faults([name for name in GOOD if name != missing]))) == 1


@pytest.mark.parametrize("extra", ["tests/conftest.py", "ruxa_async/test_x.py", "docs/x.md"])
def test_a_wheel_with_tests_or_pages_has_a_fault(extra: str) -> None:
    assert list(CHECK.wheel_faults([*GOOD, extra]))


@pytest.mark.parametrize(
    "page", ["[x](docs/x.md)", '<img src="docs/x.webp">', "[x](https://h/v$HFPR_VERSION/x)"]
)
def test_a_relative_address_on_the_page_of_the_index_is_a_fault(page: str) -> None:
    assert len(list(CHECK.page_faults(f"[good](https://h/x) [here](#x) {page}"))) == 1


def test_a_tag_of_another_version_is_not_released() -> None:
    assert "the tag is v9.9.9" in next(CHECK.tag_faults("v9.9.9"))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository")
def test_a_removed_parameter_is_found_since_the_last_tag(tmp_path: Path) -> None:
    clone = tmp_path / "clone"

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, cwd=clone if clone.exists() else ROOT, capture_output=True, text=True
        )

    def check() -> subprocess.CompletedProcess[str]:
        return run(sys.executable, str(ROOT / ".ci" / "check_api.py"))

    assert run("git", "clone", "-q", "--no-tags", str(ROOT), str(clone)).returncode == 0
    none = check()
    assert (none.returncode, none.stdout[:22]) == (0, "no tag v* exists yet, ")
    run("git", "tag", "v0.0.1")
    client = clone / "ruxa_async/_client/client.py"
    code = client.read_text(encoding="utf-8")
    line = (
        "    async def generate(self, request: GenerationRequest, *, run: str | None = None) -> Generation:"
    )
    assert line in code
    client.write_text(code.replace(line, line.replace(", *, run: str | None = None", "")), encoding="utf-8")
    broken = check()
    assert broken.returncode == 1
    assert "RuxaClient.generate(" in broken.stdout
    assert "Parameter was removed" in broken.stdout
    assert "1 changes since v0.0.1" in broken.stdout
