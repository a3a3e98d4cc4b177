"""``ruxa-async emulate`` as a process: it starts, prints its address, and ends with a summary."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

COMMAND = [sys.executable, "-m", "ruxa_async", "emulate", "--port", "0"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted_and_then_prints_what_was_charged(ending: signal.Signals) -> None:
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


def _post(url: str) -> tuple[int, float]:
    """Create a task; return the status and the seconds in Retry-After."""
    body = json.dumps({"model": "sora-2", "input": {"prompt": "a fox"}}).encode()
    request = urllib.request.Request(
        f"{url}/api/v1/tasks/create", body, {"Authorization": "Bearer sk-emulated"}
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, 0.0
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, float(refused.headers["retry-after"])


@pytest.mark.parametrize(
    ("options", "shortest", "longest"),
    [
        (["--create-rate", "0.001", "--create-burst", "3"], 990, 1000),
        (["--create-limit", "token:rate=0.001,burst=3"], 990, 1000),
        (["--create-limit", "leaky:rate=0.001,burst=2"], 990, 1000),
        (["--create-limit", "sliding:count=3,per=1000"], 990, 1000),
        # Windows and changes count from the start of the emulator, not of the machine.
        (["--create-limit", "fixed:count=3,per=1000", "--shared"], 900, 1000),
        (["--create-limit", "fixed:count=3,per=1000,phase=-500"], 400, 500),
        (["--create-limit", "token:rate=0.001,burst=3@500=token:rate=100,burst=9"], 400, 500.1),
        (["--create-limit", "sliding:count=1,per=1000@0=sliding:count=3,per=1000"], 990, 1000),
    ],
)
def test_every_shape_of_limit_can_be_chosen(options: list[str], shortest: float, longest: float) -> None:
    command = [*COMMAND, "--retry-after", "float", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        url = lines[1].removeprefix("export RUXA_BASE_URL=")
        answers = [_post(url) for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert [status for status, _ in answers] == [200, 200, 200, 429]
    assert shortest <= answers[3][1] <= longest
    assert "Saw 4 creates (1 throttled)." in rest


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--fault", "bogus"], "use one of refused"),
        (["--shared"], "give it as creates"),
        (["--dialect", "klingon"], "klingon"),
        (["--speed", "0"], "speed"),
        (["--create-limit", "bogus:rate=1"], "use one of token, leaky, sliding, fixed"),
        (["--query-limit", "sliding:count=x,per=1"], "must be a whole number, not 'x'"),
        (["--create-limit", "token:rate=1@5"], "say @seconds="),
        (
            ["--create-limit", "token:rate=1", "--create-rate", "2"],
            "--create-limit or --create-rate, not both",
        ),
        (["--shared", "--query-limit", "token:rate=1"], "give it as creates"),
        (["--max-running", "0"], "max_running"),
    ],
)
def test_wrong_options_are_refused_with_what_is_accepted(options: list[str], complaint: str) -> None:
    ended = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_callbacks_can_be_lost_doubled_and_forged() -> None:
    shares = {"duplicates": 1, "forgeries": 1, "garbage": 1, "spread": 0, "attempts": 1}
    options = [word for name, value in shares.items() for word in (f"--callback-{name}", str(value))]
    with (
        socket.create_server(("127.0.0.1", 0)) as receiver,
        subprocess.Popen(
            [*COMMAND, "--speed", "100", *options], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        receiver.settimeout(60)
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        address = f"http://127.0.0.1:{receiver.getsockname()[1]}/a"
        body = {
            "model": "google/nano-banana",
            "input": {"prompt": "a fox"},
            "callback_url": f"{address}/{'ab' * 9}",
        }
        request = urllib.request.Request(
            f"{lines[1].removeprefix('export RUXA_BASE_URL=')}/api/v1/tasks/create",
            json.dumps(body).encode(),
            {"Authorization": "Bearer sk-emulated"},
        )
        with urllib.request.urlopen(request) as reply:
            assert reply.status == 200
        paths = []
        for _ in range(4):
            connection, _ = receiver.accept()
            with connection:
                paths.append(connection.recv(65_536).split(b" ")[1])
                connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert sorted(paths) == [b"/a/" + b"ab" * 9] * 3 + [b"/a/" + b"ba" * 9]
    assert "Posted 4 callbacks, of which " in rest
