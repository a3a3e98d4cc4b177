"""``ruxa-async mcp`` before an agent comes: what it refuses, and its small parts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp")

from ruxa_async import (
    BudgetExceededError,
    ClientClosedError,
    CustomRequest,
    Generation,
    JournalError,
    NanoBanana,
    NotSentError,
    RunInUseError,
)
from ruxa_async.__main__ import main
from ruxa_async.mcp_server._answers import sentences_of, values_of
from ruxa_async.mcp_server._charges import was_not_sent
from ruxa_async.mcp_server._handles import handle_of
from ruxa_async.mcp_server._purchase import Purchase
from ruxa_async.mcp_server._thumbnail import thumbnail

BUDGET = ("--max-tasks", "1")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture
def taken() -> Iterator[str]:
    """Return the address of a port on which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_without_a_budget_it_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "--emulator", "--out", str(tmp_path / "out")]) == 2
    assert "agents need a budget: give --max-credits (with --price) or --max-tasks" in said(capsys)
    assert not (tmp_path / "out").exists()


def test_without_a_key_it_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUXA_API_KEY", raising=False)
    assert main(["mcp", *BUDGET, "--out", str(tmp_path)]) == 2
    assert "no API key" in said(capsys)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0:8765", "all who reach it can buy"),
        ("192.168.1.7:8765", "all who reach it can buy"),
        ("[::]:8765", "all who reach it can buy"),
        ("8765", "is not an address"),
        ("127.0.0.1:x", "is not an address"),
        ("127.0.0.1:70000", "is not an address"),
    ],
)
def test_http_is_served_on_loopback_only(
    address: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mcp", "--emulator", *BUDGET, "--http", address, "--out", str(tmp_path)]) == 2
    assert f"--http {address}" in (text := said(capsys))
    assert why in text


def test_a_port_that_is_taken_is_a_sentence(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mcp", "--emulator", *BUDGET, "--http", taken, "--out", str(tmp_path)]) == 2
    assert f"--http {taken}: Address already in use" in said(capsys)


def test_without_the_extra_it_names_the_pip_line(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["mcp"] = None
from ruxa_async.__main__ import main
sys.exit(main(["mcp", "--emulator", "--max-tasks", "1", "--out", {str(tmp_path)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'ruxa-async[mcp]'" in " ".join(done.stderr.split())


def test_the_other_commands_do_not_import_the_mcp_package() -> None:
    code = "import sys; from ruxa_async.cli import _app, _mcp; sys.exit('mcp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_handle_is_a_hash_of_model_input_and_variant() -> None:
    cat = NanoBanana(prompt="a cat")
    handle = handle_of(cat, 1)
    assert handle.startswith("nano-banana-")
    assert handle == handle_of(NanoBanana(prompt="a cat", key="of no account"), 1)
    others = {
        handle_of(NanoBanana(prompt="a dog"), 1),
        handle_of(CustomRequest(model="lab/inks", input={"prompt": "a cat"}), 1),
        handle_of(cat, 2),
    }
    assert len({handle, *others}) == 4
    assert handle_of(CustomRequest(model="../?!", input={}), 1).startswith("model-")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BudgetExceededError("too much", "m", None, 1, 0.0), True),
        (NotSentError("refused"), True),
        (RunInUseError("j", "busy"), True),
        (JournalError("j", "the disk is full"), False),
        (ClientClosedError("closed"), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_only_errors_that_prove_it_count_as_not_charged(error: Exception, expected: bool) -> None:
    assert was_not_sent(error) is expected


def test_a_video_and_a_missing_file_have_no_thumbnail(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes((Path(__file__).parents[2] / "ruxa_async/emulator/clip.mp4").read_bytes())
    assert thumbnail(video) is None
    assert thumbnail(tmp_path / "none.png") is None


def test_without_pillow_there_is_no_thumbnail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    picture = tmp_path / "a.png"
    Image.new("RGB", (600, 300)).save(picture)
    assert thumbnail(picture) is not None
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert thumbnail(picture) is None


def test_a_result_without_files_is_given_as_it_is() -> None:
    purchase = Purchase(handle="h", request=NanoBanana(prompt="a cat"), task_id="t")
    purchase.succeed(Generation(task_id="t", model=None, urls=(), credits=2.0, raw={"character": "c1"}))
    assert purchase.is_complete
    assert values_of(purchase)["result"] == {"character": "c1"}
    assert sentences_of(purchase) == (
        "h: done. It was charged: 2 credits. It has no files; result holds what the service says."
    )
