"""The ledger, and an emulator that continues with its ledger file after a stop or a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from emulator.asking import create, created, query, said, service_of

from ruxa_async.emulator import Durations, Emulator, EmulatorSettings, Ledger, Purchase, Service
from ruxa_async.emulator._ledger import LedgerFile


def _purchase(task_id: str, **given: object) -> Purchase:
    return Purchase(task_id=task_id, model="m", input=given, credits=2.5, at=0.0)


def test_purchases_and_their_credits_are_summed() -> None:
    ledger = Ledger()
    ledger.record(_purchase("a", prompt="x"))
    ledger.record(_purchase("b", prompt="y"))
    assert (ledger.charged, ledger.credits_spent, ledger.duplicates()) == (2, 5.0, [])


def test_the_order_of_fields_does_not_hide_a_duplicate() -> None:
    ledger = Ledger()
    first, second = _purchase("a", prompt="x", size="1:1"), _purchase("c", size="1:1", prompt="x")
    for purchase in (first, _purchase("b", prompt="x"), second):
        ledger.record(purchase)
    assert ledger.duplicates() == [(first, second)]


def test_purchases_with_unknown_ids_are_missing() -> None:
    ledger = Ledger()
    for name in "abc":
        ledger.record(_purchase(name))
    assert [purchase.task_id for purchase in ledger.missing(["a", "c"])] == ["b"]


def test_the_service_records_model_input_credits_and_time() -> None:
    service = service_of(credits=20)
    task_id = created(service, 4.0, "a fox", "google/nano-banana-pro", resolution="2k")
    assert service.ledger.entries == [
        Purchase(
            task_id=task_id,
            model="google/nano-banana-pro",
            input={"prompt": "a fox", "resolution": "2k"},
            credits=8,
            at=4.0,
        )
    ]
    assert service.credits_left == 12
    assert repr(service) == "<Service: 1 tasks charged, 8 credits spent>"


def test_thirty_thousand_tasks_are_counted_as_they_end() -> None:
    service = service_of()
    for place in range(30_000):
        create(service, place * 0.001, f"prompt {place}")
    # Tasks take 10 s, so those of the last 10 s run, 1,000 a second; the one that ends now does not.
    assert service.running(29.999) in (9_999, 10_000)
    assert service.running(39.9995) == 0
    assert service.ledger.charged == 30_000
    assert service.ledger.duplicates() == []


# ---- the file


def served(path: Path, epoch: float = 1000.0) -> tuple[Service, LedgerFile]:
    file = LedgerFile(path)
    settings = EmulatorSettings(
        image=Durations(10.0, 0.4), fail_share=0.3, credits=100.0, epoch=epoch, seed=7
    )
    return Service(settings, past=file.tasks, keep=file.keep), file


def test_tasks_go_on_while_no_emulator_runs(tmp_path: Path) -> None:
    service, file = served(tmp_path / "ledger")
    task_id = created(service, 5.0)
    file.close()
    before = service.task(task_id)
    assert before is not None
    # The next one's clock began 100 s later.
    again, file = served(tmp_path / "ledger", epoch=1100.0)
    after = again.task(task_id)
    assert after is not None
    assert after.ends + 1100.0 == pytest.approx(before.ends + 1000.0)
    assert said(query(again, 0.0, task_id))["data"]["state"] in ("success", "fail")
    assert (again.ledger.charged, again.credits_left) == (1, 97.0)
    file.close()


def test_tasks_after_a_restart_are_as_without_one(tmp_path: Path) -> None:
    whole, file = served(tmp_path / "whole")
    ids = [created(whole, float(n), f"p{n}") for n in range(8)]
    file.close()
    first, file = served(tmp_path / "parts")
    for n in range(4):
        create(first, float(n), f"p{n}")
    file.close()
    second, file = served(tmp_path / "parts")
    for n in range(4, 8):
        create(second, float(n), f"p{n}")
    file.close()
    assert [entry.task_id for entry in second.ledger.entries] == ids
    for name in ids:
        kept, plain = second.task(name), whole.task(name)
        assert kept is not None
        assert plain is not None
        assert kept.ends == pytest.approx(plain.ends)
        assert kept.fails == plain.fails


def test_line_that_a_kill_left_incomplete_is_cut_off(tmp_path: Path) -> None:
    service, file = served(tmp_path / "ledger")
    task_id = created(service, 0.0)
    file.close()
    with (tmp_path / "ledger").open("ab") as torn:
        torn.write(b'{"task_id": "task_to')
    service, file = served(tmp_path / "ledger")
    assert [entry.task_id for entry in service.ledger.entries] == [task_id]
    other = created(service, 1.0)
    file.close()
    service, file = served(tmp_path / "ledger")
    file.close()
    assert [entry.task_id for entry in service.ledger.entries] == [task_id, other]


@pytest.mark.parametrize("content", ["hello\n", "[]\n", '{"task_id": "t"}\n', '{"port": "x"}\n'])
def test_other_file_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / "ledger").write_text(content)
    with pytest.raises(ValueError, match="no ledger of an emulator"):
        Emulator(ledger=tmp_path / "ledger").start()
    assert (tmp_path / "ledger").read_text() == content


def test_create_that_cannot_be_kept_is_not_charged(tmp_path: Path) -> None:
    service, file = served(tmp_path / "ledger")
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        create(service, 0.0)
    assert service.ledger.charged == 0


def test_next_one_is_at_the_same_address_unless_that_is_taken(tmp_path: Path) -> None:
    urls = []
    for _ in range(2):
        emulator = Emulator(ledger=tmp_path / "ledger")
        emulator.start()
        urls.append(emulator.url)
        emulator.stop()
    assert urls[0] == urls[1]
    assert (tmp_path / "ledger").stat().st_mode & 0o077 == 0
    with socket.create_server(("127.0.0.1", int(urls[0].rpartition(":")[2]))):
        emulator = Emulator(ledger=tmp_path / "ledger")
        emulator.start()
        emulator.stop()
    assert emulator.url != urls[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_emulator_knows_what_it_charged(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"

    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "ruxa_async", "emulate", "--port", "0", "--ledger", str(ledger)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().split(" listens on ")[1].split()[0]

    def ask(request: urllib.request.Request) -> Any:
        request.add_header("Authorization", "Bearer sk-emulated")
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    process, url = start()
    body = json.dumps({"model": "google/nano-banana", "input": {"prompt": "a fox"}}).encode()
    task_id = ask(urllib.request.Request(f"{url}/api/v1/tasks/create", body))["data"]["taskId"]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    process, again = start()
    assert again == url
    assert ask(urllib.request.Request(f"{url}/api/v1/tasks/query/{task_id}"))["data"]["state"]
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert "Charged 1 tasks" in out
