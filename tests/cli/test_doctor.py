"""``ruxa-async doctor``: each check, what it advises, and that it spends nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest

from ruxa_async.__main__ import main
from ruxa_async.emulator import Emulator, EmulatorSettings
from ruxa_async.testing._servers import Peer, reply, serving

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("RUXA_DEBUG", "RUXA_JOURNAL", "RUXA_CALLBACK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    served = Emulator(EmulatorSettings(key=KEY))
    served.start()
    monkeypatch.setenv("RUXA_API_KEY", KEY)
    monkeypatch.setenv("RUXA_BASE_URL", served.url)
    yield served
    assert served.service.counts.creates == 0
    assert not served.service.ledger.entries
    served.stop()


def checked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    assert main(["doctor", "--json", *arguments]) == code
    printed = capsys.readouterr()
    assert "canary" not in printed.out + printed.err
    values = json.loads(printed.out)
    assert values["ok"] is (code == 0)
    assert all(each["advice"] for each in values["checks"] if each["state"] in ("failed", "warning")) or code
    return {each["check"]: each for each in values["checks"]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_machine_that_is_well_passes_every_check(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = checked(capsys, "--out", "new/folder", "--journal-folder", str(tmp_path))
    assert list(found) == ["versions", "output", "journal", "key", "address", "reply", "clock"]
    assert {each["state"] for each in found.values()} <= {"ok", "warning"}  # little space is a warning
    assert "the key is not refused" in found["reply"]["message"]
    assert emulator.service.counts.queries == 1
    assert list(tmp_path.iterdir()) == []


def test_each_line_names_the_state_and_the_check(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUXA_API_KEY")
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       versions   ruxa-async ")
    assert "failed   key        RUXA_API_KEY is not set. Set it: export RUXA_API_KEY=sk-..." in lines
    assert any("HTTP 401, as without a key" in line for line in lines)


def test_the_emulator_needs_no_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUXA_API_KEY", raising=False)
    assert checked(capsys, "--emulator")["reply"]["state"] == "ok"


@pytest.mark.parametrize(
    ("key", "state", "said"),
    [
        ("sk-can ary", "failed", "characters that no key has"),
        ('"sk-canary-0123456789"', "failed", "a quotation mark"),
        ("canary-0123456789abcdef", "warning", "does not begin with sk-"),
        ("sk-canary", "warning", "which is short"),
    ],
)
def test_the_shape_of_the_key_is_judged_without_showing_it(
    key: str,
    state: str,
    said: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUXA_API_KEY", key)
    found = checked(capsys, code=1)  # the emulator refuses these keys, or there is none
    assert found["key"]["state"] == state
    assert said in found["key"]["message"]
    assert found["key"]["advice"]


def test_a_key_that_the_service_refuses_fails(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUXA_API_KEY", "sk-canary-of-somebody-else")
    found = checked(capsys, code=1)
    assert found["reply"]["state"] == "failed"
    assert "Check RUXA_API_KEY" in found["reply"]["message"]


ANSWERS = [
    (reply(b"<html>", "200 OK"), "which is not the service"),
    (reply(b"{}", "302 Found"), "a redirect"),
    (reply(b'{"code":500,"message":"broken"}', "500 Internal Server Error"), "broken"),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
def test_a_reply_that_is_not_the_services_fails(
    answer: bytes, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def peer(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer)

    monkeypatch.setenv("RUXA_API_KEY", KEY)
    with serving(peer) as server:
        monkeypatch.setenv("RUXA_BASE_URL", server.url)
        found = checked(capsys, code=1)
    assert said in found["reply"]["message"]
    assert found["clock"]["state"] == "skipped"


@pytest.mark.parametrize(
    ("ahead", "state"), [(0.0, "ok"), (60.0, "warning"), (-60.0, "warning"), (3600.0, "failed")]
)
def test_the_clock_is_compared_with_the_service(
    ahead: float, state: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def peer(peer: Peer) -> None:
        await peer.request()
        date = f"Date: {formatdate(time() - ahead, usegmt=True)}\r\n".encode()
        whole = reply(b'{"code":404,"message":"not found"}', "404 Not Found")
        await peer.say(whole.replace(b"\r\n", b"\r\n" + date, 1))

    monkeypatch.setenv("RUXA_API_KEY", KEY)
    with serving(peer) as server:
        monkeypatch.setenv("RUXA_BASE_URL", server.url)
        found = checked(capsys, code=1 if state == "failed" else 0)["clock"]
    assert found["state"] == state
    if ahead:
        assert ("ahead of" if ahead > 0 else "behind") in found["message"]


def test_a_service_that_cannot_be_reached_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUXA_API_KEY", KEY)
    monkeypatch.setenv("RUXA_BASE_URL", f"http://127.0.0.1:{free_port()}")
    found = checked(capsys, code=1)
    assert "does not reply" in found["reply"]["message"]
    monkeypatch.setenv("RUXA_BASE_URL", "https://nowhere.invalid")
    found = checked(capsys, code=1)
    assert "nowhere.invalid does not resolve" in found["address"]["message"]
    monkeypatch.setenv("RUXA_BASE_URL", "http://example.org")
    assert "plain http" in checked(capsys, code=1)["address"]["message"]


def test_the_proxy_in_use_is_shown_without_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUXA_API_KEY", KEY)
    monkeypatch.setenv("RUXA_BASE_URL", "https://nowhere.invalid")
    address = f"127.0.0.1:{free_port()}"
    found = checked(capsys, "--proxy", f"http://user:canary@{address}", code=1)
    assert f"is reached through http://{address}, from --proxy" in found["proxy"]["message"]
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:canary@{address}")
    assert "from the environment" in checked(capsys, code=1)["proxy"]["message"]
    assert checked(capsys, "--proxy", "ftp://user:canary@h.test", code=1)["address"]["state"] == "failed"


# ---- folders


def test_a_folder_that_cannot_be_written_to_fails(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    found = checked(capsys, "--out", "file/below", code=1)
    assert "cannot be written to: Not a directory" in found["output"]["message"]


def test_a_disk_without_hard_links_is_warned_about(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    found = checked(capsys)["output"]
    assert found["state"] == "warning"
    assert "has no hard links (Operation not permitted)" in found["message"]


@pytest.mark.parametrize(("free", "state"), [(2**20, "failed"), (2**29, "warning"), (2**40, "ok")])
def test_free_space_is_judged(
    free: int,
    state: str,
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert checked(capsys, code=1 if state == "failed" else 0)["output"]["state"] == state


def test_a_disk_that_cannot_hold_a_journal_fails(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *_: Any) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("locking protocol")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, factory=Refusing))
    assert "cannot hold a journal (locking protocol)" in checked(capsys, code=1)["output"]["message"]


# ---- callbacks


def test_a_callback_that_comes_back_passes(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    listen = f"127.0.0.1:{free_port()}"
    found = checked(capsys, "--callback-url", f"http://{listen}/cb", "--callback-listen", listen)
    assert found["callbacks"]["message"] == f"a post to http://{listen}/cb arrived"


def test_a_callback_address_that_leads_elsewhere_fails(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "a-secret-of-callbacks-canary"
    monkeypatch.setenv("RUXA_CALLBACK_SECRET", secret)
    listen = f"127.0.0.1:{free_port()}"
    found = checked(capsys, "--callback-url", emulator.url, "--callback-listen", listen, code=1)
    assert "answered HTTP 404 from another server" in found["callbacks"]["message"]
    nowhere = f"http://127.0.0.1:{free_port()}/cb"
    found = checked(capsys, "--callback-url", nowhere, "--callback-listen", listen, code=1)
    assert f"{nowhere} is not reached from here" in found["callbacks"]["message"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        found = checked(capsys, "--callback-url", nowhere, "--callback-listen", listen, code=1)
    assert f"{listen} cannot be listened on" in found["callbacks"]["message"]
    monkeypatch.setenv("RUXA_CALLBACK_SECRET", "canary")
    found = checked(capsys, "--callback-url", nowhere, "--callback-listen", listen, code=1)
    assert "secret" in found["callbacks"]["message"]


def test_wrong_usage_is_reported_before_any_check(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--callback-url", "http://h.test"]) == 2
    assert main(["doctor", "--journal", "canary"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "give both, or neither" in printed.err


def test_a_journal_on_a_server_that_cannot_be_read_fails(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"postgresql://user:canary@127.0.0.1:{free_port()}/jobs"
    assert checked(capsys, "--journal", address, code=1)["journal"]["state"] == "failed"
