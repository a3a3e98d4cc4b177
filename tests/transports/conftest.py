"""For all tests of transports: the parameters of the contract, and a look at the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ruxa_async.testing._asking import KEY, METHODS, SENDS, SIGNATURE, Send


@pytest.fixture(params=SENDS, ids=["send", "stream"])
def send(request: pytest.FixtureRequest) -> Send:
    function: Send = request.param
    return function


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def quiet_about_the_key(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("DEBUG"):
        yield
    assert KEY not in caplog.text
    assert SIGNATURE not in caplog.text
