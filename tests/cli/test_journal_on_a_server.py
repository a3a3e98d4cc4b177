"""``--journal``: a batch whose journal is in PostgreSQL, continued in another folder, settled while it runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from servers import Postgres

from ruxa_async.__main__ import main
from ruxa_async.emulator import Emulator, EmulatorSettings, parse_fault
from ruxa_async.journal import PostgresJournal

PASSWORD = "canary-Wv7"


@pytest.fixture
def address(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty journal; the server does not check the password."""
    for name in ("RUXA_API_KEY", "RUXA_BASE_URL", "RUXA_DEBUG", "RUXA_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    return f"postgresql://ruxa:{PASSWORD}@/postgres?host={server.folder}#test_{uuid.uuid4().hex}"


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, *faults: str) -> Iterator[Emulator]:
    emulator = Emulator(EmulatorSettings(speed=200, faults=[parse_fault(text) for text in faults]))
    emulator.start()
    monkeypatch.setenv("RUXA_API_KEY", emulator.key)
    monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
    try:
        yield emulator
    finally:
        emulator.stop()


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"prompt": "prompt {n}", "key": "k{n}"}}\n' for n in range(4)))
    return str(path)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["journal", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# ---- a run and its folder


def test_a_batch_continues_on_another_machine_where_its_folder_is_empty(
    address: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = tmp_path / "one" / "cats", tmp_path / "two" / "elsewhere"
    with served(monkeypatch) as emulator:
        assert main(["batch", source, "--out", str(first), "--limit", "3", "--journal", address]) == 0
        assert not (first / "journal.sqlite").exists()
        capsys.readouterr()
        assert main(["batch", source, "--out", str(second), "--journal", address, "--run", "cats"]) == 0
        assert "3 were finished before, 3 files fetched again" in capsys.readouterr().err
        assert emulator.service.ledger.charged == 4
        assert {line["key"] for line in lines(second)} == {"k0", "k1", "k2", "k3"}
        assert sorted(path.name for path in second.glob("*.png")) == [f"k{n}.png" for n in range(4)]
        # From now on the folder knows its run.
        assert main(["batch", source, "--out", str(second), "--journal", address]) == 0
        assert emulator.service.ledger.charged == 4


def test_a_file_whose_link_has_expired_is_reported_on_the_other_machine(
    address: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[list[str]] = []
    for place in ("server", "folder"):
        out = tmp_path / place
        where = ["--journal", address] if place == "server" else []
        with served(monkeypatch) as emulator:
            assert main(["batch", source, "--out", str(out), *where]) == 0
        if place == "server":
            again, named = tmp_path / "again", [*where, "--run", "server"]
        else:
            again, named = out, []
            for picture in out.glob("*.png"):
                picture.unlink()
        # The service is gone, so neither the old links nor new ones can be had.
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        assert main(["batch", source, "--out", str(again), *named]) == 1
        states.append([line["state"] for line in lines(again)])
        shutil.rmtree(out)
        address = re.sub("#.*", f"#test_{uuid.uuid4().hex}", address)
    assert states == [["download_failed"] * 4] * 2


def test_a_folder_of_the_same_name_does_not_continue_anothers_run(
    address: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = tmp_path / "one" / "out", tmp_path / "two" / "out"
    with served(monkeypatch) as emulator:
        assert main(["batch", source, "--out", str(one), "--journal", address]) == 0
        capsys.readouterr()
        assert main(["batch", source, "--out", str(two), "--journal", address]) == 2
        said = capsys.readouterr().err
        assert "has a run 'out' already" in said
        assert "add --run out; for a new one, give --run another name" in said
        assert len(said.splitlines()) == 1
        assert emulator.service.ledger.charged == 4
        assert main(["batch", source, "--out", str(two), "--journal", address, "--run", "more"]) == 0
        assert emulator.service.ledger.charged == 8
        assert main(["batch", source, "--out", str(two), "--journal", address, "--run", "out"]) == 2
        assert "belongs to the run 'more'" in capsys.readouterr().err


def test_a_folder_is_not_moved_from_one_journal_to_another(
    address: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    local, shared = tmp_path / "local", tmp_path / "shared"
    with served(monkeypatch) as emulator:
        assert main(["batch", source, "--out", str(local)]) == 0
        monkeypatch.setenv("RUXA_JOURNAL", address)
        assert main(["batch", source, "--out", str(shared)]) == 0
        capsys.readouterr()
        assert main(["batch", source, "--out", str(local)]) == 2
        assert "run it without --journal and RUXA_JOURNAL" in capsys.readouterr().err
        monkeypatch.setenv("RUXA_JOURNAL", re.sub("#.*", f"#test_{uuid.uuid4().hex}", address))
        assert main(["batch", source, "--out", str(shared)]) == 1
        assert "it does not have the run 'shared'" in capsys.readouterr().err
        monkeypatch.delenv("RUXA_JOURNAL")
        for command in (["batch", source, "--out", str(shared)], ["journal", str(shared)]):
            assert main(command) == 2
            assert "is on a server" in capsys.readouterr().err
        (shared / "journal.json").write_text("{")
        assert main(["batch", source, "--out", str(shared), "--journal", address]) == 2
        assert "journal.json cannot be read" in capsys.readouterr().err
        assert emulator.service.ledger.charged == 8


def test_a_dry_run_reads_the_journal_on_the_server_and_changes_nothing(
    address: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("RUXA_JOURNAL", address)
    dry = ["batch", source, "--out", str(out), "--dry-run"]
    assert main(dry) == 0
    assert "would buy 4 tasks" in capsys.readouterr().err
    assert main(["journal"]) == 1
    assert "there is no journal here" in capsys.readouterr().err
    with served(monkeypatch):
        assert main(["batch", source, "--out", str(out), "--limit", "3"]) == 0
    capsys.readouterr()
    before = shown(capsys)
    assert main(dry) == 0
    assert "would buy 1 task" in capsys.readouterr().err
    assert main([*dry[:-1], "--run", "other", "--dry-run"]) == 2  # the folder belongs to another run
    assert shown(capsys) == before


# ---- unknown creates


@contextmanager
def running(source: str, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a batch in a process of its own that takes long, and wait until it has a result."""
    command = [sys.executable, "-m", "ruxa_async", "batch", source, "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--emulator", "--speed", "10", "--max-in-flight", "1"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not (out / "results.jsonl").exists() or not lines(out):
            assert process.poll() is None
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


def doubt(address: str, *keys: str) -> None:
    """Make creates of unknown outcome in the run "earlier"."""
    from ruxa_async import JobRecord, NanoBanana, SubmissionUnknownError

    dsn, _, schema = address.partition("#")

    async def work() -> None:
        async with PostgresJournal(dsn, schema=schema) as journal:
            run = await journal.open_run("earlier")
            for key in keys:
                request = NanoBanana(prompt="a cat", key=key)
                job = JobRecord(request=request, key=key, entry=(await run.match(request)).entry)
                entry = await journal.intend(job)
                await journal.unknown(
                    JobRecord(request=request, entry=entry, error=SubmissionUnknownError("?"))
                )

    anyio.run(work)


def test_unknown_creates_are_settled_while_another_process_holds_the_journal(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "long.txt"
    source.write_text("".join(f"prompt {n}\n" for n in range(200)))
    doubt(address, "a", "b")
    monkeypatch.setenv("RUXA_JOURNAL", address)
    with running(str(source), tmp_path / "out") as process:
        found = shown(capsys)
        assert f"process {process.pid} on " in found["in_use"]["holder"]
        assert 0 < found["in_use"]["lease"] <= 10
        assert [each["id"] for each in found["unknown"]] == ["a", "b"]
        assert main(["journal"]) == 0
        text = capsys.readouterr().out
        assert re.search(rf"process {process.pid} on .+; its lease ends in \d+ s unless it renews it", text)
        assert "2 unknown, perhaps charged" in text
        assert main(["journal", "--adopt", "a", "task_1", "--forget", "b", "--run", "earlier"]) == 0
        found = shown(capsys, str(tmp_path / "out"))  # only the run of that folder
        assert found["unknown"] == []
        assert found["jobs"]["adopted"] == 0
        assert found["results"]["succeeded"] >= 1
        found = shown(capsys)
        assert (found["jobs"]["adopted"], found["jobs"]["forgotten"]) == (1, 1)
        assert main(["journal", "--adopt", "a", "task_2", "--run", "out"]) == 1
        assert "no job is called 'a'" in capsys.readouterr().err


def test_creates_of_a_killed_batch_are_shown_and_settled(
    address: str,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RUXA_JOURNAL", address)
    with served(monkeypatch, "reset_after:create:nth=1,3") as emulator:
        out = tmp_path / "out"
        assert main(["batch", source, "--out", str(out)]) == 1
        assert f"'ruxa-async journal {out} --journal ADDRESS --adopt KEY TASK_ID'" in capsys.readouterr().err
        first, second = (each["id"] for each in shown(capsys, str(out))["unknown"])
        bought = next(
            each.task_id for each in emulator.service.ledger.entries if each.input["prompt"][-1] == first[-1]
        )
        assert main(["journal", str(out), "--adopt", first, bought, "--forget", second]) == 0
        assert main(["batch", source, "--out", str(out)]) == 0
        assert emulator.service.ledger.charged == 5


# ---- the address


@pytest.mark.parametrize(
    "bad",
    [
        "postgresql://me:{}@@host/db",
        "postgresql://me:x/{}@host/db",
        "postgresql://me:%zz{}@host/db",
        "postgresql://me@host/db?no={}",
        "postgresql://me:{}@127.0.0.1:1/db",
        "mysql://me:{}@host/db",
        "host=h password={}",
    ],
)
def test_a_bad_address_is_one_sentence_without_its_password(
    bad: str, address: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--journal", bad.format(PASSWORD)]
    for command in (["batch", source, "--out", str(tmp_path / "out"), "--emulator"], ["journal"]):
        assert main([*command, *given]) in (1, 2)
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1
        assert "Traceback" not in said.err
        assert PASSWORD not in said.err + said.out


def test_the_password_of_the_address_is_nowhere(
    address: str,
    source: str,
    server: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("RUXA_LOG", "debug")
    with served(monkeypatch, "reset_after:create:nth=2"):
        command = ["batch", source, "--out", str(out), "--journal", address]
        assert main(command) == 1
        said = capsys.readouterr()
        assert main([*command, "--run", "another"]) == 2
        assert main(["journal", str(out), "--journal", address]) == 0
        assert main(["journal", "--journal", address, "--adopt", "nobody", "t"]) == 1
        more = capsys.readouterr()
        monkeypatch.setenv("RUXA_DEBUG", "1")
        with pytest.raises(ExceptionGroup) as caught:
            main(["journal", "--journal", address, "--adopt", "nobody", "t"])
    texts = [said.out, said.err, more.out, more.err, str(caught.getrepr(chain=True))]
    assert "postgresql://ruxa@" in more.out
    assert "no job is called" in texts[-1]
    assert PASSWORD not in "".join(texts)
    for path in out.iterdir():
        assert PASSWORD.encode() not in path.read_bytes()
    import psycopg

    with psycopg.connect(server.dsn) as connection:
        connection.execute(f"SET search_path = {address.partition('#')[2]}")
        for table in ("jobs", "runs", "holder", "account", "learned"):
            assert PASSWORD not in repr(connection.execute(f"SELECT * FROM {table}").fetchall())


def test_a_run_needs_a_journal_on_a_server_and_the_journal_command_a_place(
    address: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", source, "--out", str(tmp_path / "out"), "--run", "r", "--emulator"]) == 2
    assert "--run names a run of a journal on a server" in capsys.readouterr().err
    assert main(["journal"]) == 2
    assert "give a folder, or the address of a journal" in capsys.readouterr().err
