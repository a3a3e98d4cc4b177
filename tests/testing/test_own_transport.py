"""The contract finds a transport that would make the client buy twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from testing.suites import run_pytest

WRONG = '''
from contextlib import aclosing, asynccontextmanager

import pytest

from ruxa_async.errors import MaybeSentError, NotSentError
from ruxa_async.testing import TransportContract
from ruxa_async.transports import AiohttpTransport


class Hopeful(AiohttpTransport):
    """It takes each lost reply for a request that was not sent."""

    async def send(self, request):
        try:
            return await super().send(request)
        except MaybeSentError as error:
            raise NotSentError(str(error)) from None


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
class TestHopeful(TransportContract):
    @asynccontextmanager
    async def make(self, **options):
        async with aclosing(Hopeful(**options)) as transport:
            yield transport
'''


def test_a_lost_reply_that_is_called_not_sent_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_hopeful.py").write_text(WRONG)
    said = run_pytest(tmp_path, "-k", "broken_reply or refused_connection")
    assert "test_a_broken_reply_may_be_sent[send-POST-reset] FAILED" in said.replace("POST-send", "send-POST")
    assert "AssertionError" in said
    assert "isinstance(NotSentError(" in said  # the values are shown
    assert "FAILED test_hopeful.py::TestHopeful::test_a_refused" not in said
    assert "16 failed, 20 passed" in said


def test_a_module_with_the_contract_needs_no_trio() -> None:
    code = (
        "import sys; sys.modules['trio'] = None; sys.modules['httpx2'] = None\n"
        "from ruxa_async.testing import TransportContract; print(TransportContract.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "TransportContract\n"
