"""``--proxy`` and its variables: every command that sends requests uses the proxy and shows no password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transports.forwarding import CREDENTIALS, forwarding_to

from ruxa_async.__main__ import main
from ruxa_async.cli._runtime import BAD_INPUT, DONE, HALTED
from ruxa_async.testing import _servers as servers
from ruxa_async.testing._servers import Peer, Server, reply, serving

STATUS = b'{"code":200,"data":{"taskId":"t-1","state":"generating"}}'
NO_CREDITS = b'{"code":402,"message":"insufficient credits"}'


async def answer(peer: Peer) -> None:
    while True:
        await peer.request()
        asked = peer.server.requests[-1].startswith("GET ")
        await peer.say(reply(STATUS) if asked else reply(NO_CREDITS, "402 Payment Required"))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A service at https://api.test, with a certificate that the environment trusts."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_DIR", "RUXA_DEBUG"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    certificates = tmp_path / "ca.pem"
    certificates.write_text(servers.SELF_SIGNED)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    monkeypatch.setenv("RUXA_API_KEY", "sk-canary-0123456789")
    monkeypatch.setenv("RUXA_BASE_URL", "https://api.test")
    with serving(answer, tls=True) as server:
        yield server


@pytest.mark.parametrize("by", ["option", "variable"])
@pytest.mark.parametrize(
    ("command", "code"),
    [(["status", "t-1"], DONE), (["generate", "a cat"], HALTED), (["batch", "in.txt"], HALTED)],
    ids=["status", "generate", "batch"],
)
def test_a_command_goes_through_the_proxy(
    home: Server,
    by: str,
    command: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a cat\n")
    out = [] if command[0] == "status" else ["--out", "out"]
    with serving(forwarding_to(home.url, asks=True)) as proxy:
        address = proxy.url.replace("//", f"//{CREDENTIALS}@")
        if by == "variable":
            monkeypatch.setenv("HTTPS_PROXY", address)
        assert main([*command, *out, *(["--proxy", address] * (by == "option"))]) == code
    assert len(home.requests) == 1
    assert {head.split(" HTTP/")[0] for head in proxy.requests} == {"CONNECT api.test:443"}
    said = capsys.readouterr()
    assert "canary" not in said.out + said.err
    kept = Path("out").rglob("*") if out else ()
    assert not any(b"fe-canary" in path.read_bytes() for path in kept if path.is_file())


@pytest.mark.parametrize("command", [["status", "t-1"], ["generate", "a cat"], ["batch", "in.txt"]])
def test_a_proxy_that_cannot_be_used_is_a_sentence_without_its_password(
    home: Server,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("a cat\n")
    out = [] if command[0] == "status" else ["--out", "out"]
    assert main([*command, *out, "--proxy", "ftp://user:canary@proxy.test"]) == BAD_INPUT
    said = capsys.readouterr().err
    assert "proxy= names a proxy of the kind 'ftp'" in said
    assert "canary" not in said
    assert home.connections == 0


@pytest.mark.parametrize("command", ["status", "generate", "batch"])
def test_the_help_says_where_a_password_is_safer(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--proxy" in said
    assert "put a proxy with a password into the variable HTTPS_PROXY" in said


def test_the_emulator_is_reached_whatever_proxy_is_named(
    home: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:1")
    fast = ["--emulator", "--speed", "500", "--out", str(tmp_path / "out")]
    assert main(["generate", "a cat", *fast]) == DONE
    assert main(["generate", "a cat", *fast, "--proxy", "http://proxy.invalid:1"]) == DONE
