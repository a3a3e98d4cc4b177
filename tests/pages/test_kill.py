"""The page on resuming shows a kill that a reader can try: its commands do what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from pages.blocks import DOCS
from processes import free_port

from ruxa_async.emulator._ledger import LedgerFile

BLOCK = re.compile(r"^```(?:python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of_the_page(port: int) -> tuple[str, str, str]:
    """Return the program, the command of the first terminal and those of the second, for *port*.

    The kill comes when half was bought, and not after the seconds of the page: machines are not equally fast.
    """
    _, _, section = (DOCS / "resume.md").read_text(encoding="utf-8").partition("\n## In Python\n")
    program, serve, commands, *_ = BLOCK.findall(section)
    assert "sleep 5;" in commands
    half = "while [ $(grep -c . ledger.jsonl) -lt 15 ]; do sleep 0.1; done;"
    commands = commands.replace("sleep 5;", half).replace("8787", str(port))
    return program, f"exec {serve.strip()} --port {port}", commands


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="the commands need bash and SIGKILL")
def test_the_program_continues_after_a_kill_and_buys_nothing_twice(tmp_path: Path) -> None:
    program, serve, commands = blocks_of_the_page(free_port())
    (tmp_path / "herons.py").write_text(program, encoding="utf-8")
    scripts = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUXA_")}
    environment = {**kept, "PATH": os.pathsep.join(scripts)}
    with subprocess.Popen(
        ["bash", "-c", serve], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            assert "listens" in server.stdout.readline()
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
        finally:
            server.send_signal(signal.SIGINT)
        said = server.stdout.read()
    assert ran.returncode == 0, ran.stderr
    killed, continued = re.findall(r"(\d+) jobs\n((?:  .*\n)+)", ran.stdout)
    assert "paid for, running" in killed[1]
    assert int(killed[0]) < int(continued[0]) == 30
    unknown = re.search(r"(\d+) unknown", continued[1])
    assert f"  {30 - int(unknown[1] if unknown else 0)} succeeded" in continued[1]
    assert "Nothing was bought twice." in said
    ledger = LedgerFile(tmp_path / "ledger.jsonl")
    ledger.close()
    assert 30 - int(unknown[1] if unknown else 0) <= len(ledger.tasks) <= 30
