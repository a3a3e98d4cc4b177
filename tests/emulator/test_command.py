"""``ruxa-async emulate`` as a process: it starts, says where it is, and ends with a summary."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

COMMAND = [sys.executable, "-m", "ruxa_async", "emulate", "--port", "0"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted_and_then_says_what_was_charged(ending: signal.Signals) -> None:
    with subprocess.Popen([*COMMAND, "--key", "sk-mine"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        assert lines[2] == "export RUXA_API_KEY=sk-mine"
        url = lines[1].removeprefix("export RUXA_BASE_URL=")
        assert url in lines[0]
        body = json.dumps({"model": "sora-2", "input": {"prompt": "a fox"}}).encode()
        for _ in range(2):
            request = urllib.request.Request(
                f"{url}/api/v1/tasks/create", body, {"Authorization": "Bearer sk-mine"}
            )
            with urllib.request.urlopen(request) as reply:
                assert reply.status == 200
        process.send_signal(ending)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "Charged 2 tasks for 20 credits." in rest
    assert "2 x sora-2: a fox" in rest


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--fault", "bogus"], "use one of refused"),
        (["--shared"], "give it as creates"),
        (["--dialect", "klingon"], "klingon"),
        (["--speed", "0"], "speed"),
    ],
)
def test_wrong_options_are_refused_with_what_may_stand_there(options: list[str], complaint: str) -> None:
    ended = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert complaint in ended.stderr
