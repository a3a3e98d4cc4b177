"""An S3 server for the tests of outputs in a store and of local files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3 import S3, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with s3_server() as running:
        yield running


@pytest.fixture
def s3(server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    server.use(monkeypatch)
    return server
