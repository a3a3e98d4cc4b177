"""A client is set up from arguments or the environment, and no way of getting it wrong shows the key."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ruxa_async import ConfigurationError, NotFoundError, RuxaClient
from ruxa_async._client.config import DEFAULT_BASE_URL, resolve_base_url, resolve_key
from ruxa_async.transports import MemoryTransport, Request, Response

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUXA_API_KEY", raising=False)
    monkeypatch.delenv("RUXA_BASE_URL", raising=False)


# ---- keys


def test_a_given_key_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUXA_API_KEY", "sk-from-environment")
    assert resolve_key(KEY) == KEY
    assert resolve_key(None) == "sk-from-environment"


def test_white_space_around_a_key_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_key(f" {KEY}\r\n") == KEY
    monkeypatch.setenv("RUXA_API_KEY", f"{KEY}\n")
    assert resolve_key(None) == KEY


@pytest.mark.parametrize("given", [None, "", "  \n"])
def test_no_key_is_an_error_that_says_where_to_set_it(given: str | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_key(given)
    assert str(caught.value) == "no API key: set RUXA_API_KEY, or pass api_key="


def test_an_empty_key_does_not_fall_back_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUXA_API_KEY", KEY)
    with pytest.raises(ConfigurationError, match="no API key"):
        resolve_key("")


@pytest.mark.parametrize(
    "key",
    [f"{KEY} x", f"{KEY}\nX-Evil: 1", f"{KEY}\x00", f"{KEY}\x7f", f"{KEY}é", f"{KEY}\u200b", f"“{KEY}”"],
)  # fmt: skip
def test_a_key_that_is_not_a_header_value_raises_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_key(key)
    assert str(caught.value) == "the API key holds characters that no key has: check how it was pasted"


# ---- addresses


def test_the_address_is_given_or_from_the_environment_or_the_public_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve_base_url(None) == DEFAULT_BASE_URL == "https://api.ruxa.ai"
    monkeypatch.setenv("RUXA_BASE_URL", "https://relay.example/")
    assert resolve_base_url(None) == "https://relay.example"
    assert resolve_base_url("https://other.example") == "https://other.example"
    monkeypatch.setenv("RUXA_BASE_URL", "")
    assert resolve_base_url(None) == DEFAULT_BASE_URL


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("https://api.ruxa.ai/", "https://api.ruxa.ai"),
        (" https://api.ruxa.ai// \n", "https://api.ruxa.ai"),
        ("https://relay.example:8443/ruxa/", "https://relay.example:8443/ruxa"),
        ("HTTPS://API.ruxa.ai", "HTTPS://API.ruxa.ai"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("http://localhost", "http://localhost"),
        ("http://LOCALHOST:8000", "http://LOCALHOST:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
        ("https://relay.example/größe/猫/", "https://relay.example/gr%C3%B6%C3%9Fe/%E7%8C%AB"),
        ("https://relay.example/a%20b/%c3%A4", "https://relay.example/a%20b/%c3%A4"),
        ("https://relay.example/100%/%zz", "https://relay.example/100%25/%25zz"),
        ('https://relay.example/"<{|}>^`\\', "https://relay.example/%22%3C%7B%7C%7D%3E%5E%60%5C"),
        ("https://relay.example/a:b;c", "https://relay.example/a:b;c"),
    ],
)
def test_an_address_ends_without_a_slash(given: str, resolved: str) -> None:
    assert resolve_base_url(given) == resolved


@pytest.mark.parametrize(
    "given",
    [
        "http://api.ruxa.ai",
        "http://10.0.0.1",
        "http://0.0.0.0:8000",
        "http://[::]",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://notlocalhost",
        "http://2130706433",
        "HTTP://api.ruxa.ai",
    ],
)
def test_plain_http_is_for_loopback_only(given: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_base_url(given)
    assert str(caught.value) == (
        f"base_url={given!r} is plain http: the key would be sent unencrypted. "
        "Use https (http is for loopback only)"
    )


@pytest.mark.parametrize(
    "given",
    [
        f"https://user:{KEY}@api.ruxa.ai",
        f"https://{KEY}@api.ruxa.ai",
        f"http://user:{KEY}@api.ruxa.ai",
        f"https://user:{KEY}@api.ruxa.ai:99999",
        f"ftp://user:{KEY}@api.ruxa.ai",
        f"https://user:{KEY}@",
        f"https://api.ruxa.ai/?key={KEY}",
        f"https://api.ruxa.ai:99999/?key={KEY}",
        f"api.ruxa.ai?key={KEY}",
        f"https://api.ruxa.ai/#{KEY}",
        "https://@api.ruxa.ai",
    ],
)
def test_credentials_in_a_base_url_raise_without_showing_them(given: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_base_url(given)
    assert str(caught.value) == "base_url may hold neither credentials nor a query"


@pytest.mark.parametrize(
    "given",
    [
        "api.ruxa.ai",
        "localhost:8000",
        "//api.ruxa.ai",
        "/api/v1",
        "ftp://api.ruxa.ai",
        "https://",
        "https:api.ruxa.ai",
        "https:///api",
        "https://api ruxa.ai",
        "https://api.ruxa.ai/a b",
        "https://api.ruxa.ai\r\nX-Evil: 1",
        "https://api.ru\nxa.ai",
        "https://api.ruxa.ai:port",
        "https://api.ruxa.ai:99999",
        "https://[::1",
        "javascript:alert(1)",
        "https://größe.example",
        "https://relay.example\\.evil.example",
        "https://api.ruxa.ai\u3002evil.example",
        "https://api,ruxa.ai",
    ],
)
def test_an_invalid_base_url_raises(given: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an address") as caught:
        resolve_base_url(given)
    assert str(caught.value).startswith(f"base_url={given.rstrip('/')!r} is not an address: ")
    assert isinstance(caught.value, ValueError)


# ---- the client


async def test_requests_go_to_the_base_url_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(200, {}, b'{"code":200,"data":{"taskId":"t","state":"waiting"}}')

    monkeypatch.setenv("RUXA_API_KEY", KEY)
    monkeypatch.setenv("RUXA_BASE_URL", "https://relay.example/ruxa/")
    async with RuxaClient(transport=MemoryTransport(answer)) as ruxa:
        await ruxa.status("t")
        assert repr(ruxa) == "<RuxaClient https://relay.example/ruxa open, 0 in flight, 0 queued>"
    assert [request.url for request in seen] == ["https://relay.example/ruxa/api/v1/tasks/query/t"]
    assert seen[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_client_that_cannot_work_is_never_made() -> None:
    with pytest.raises(ConfigurationError, match="no API key"):
        RuxaClient(base_url="http://localhost", transport=MemoryTransport(lambda _: Response(200)))
    with pytest.raises(ConfigurationError, match="plain http"):
        RuxaClient(api_key=KEY, base_url="http://api.ruxa.ai")


async def test_a_path_that_is_not_ascii_is_percent_encoded() -> None:
    transport = MemoryTransport(lambda _: Response(404, {}, b"{}"), record=True)
    async with RuxaClient(api_key=KEY, base_url="http://localhost/größe", transport=transport) as ruxa:
        with pytest.raises(NotFoundError):
            await ruxa.status("task_1")
    assert transport.requests[0].url == "http://localhost/gr%C3%B6%C3%9Fe/api/v1/tasks/query/task_1"


class _AsyncHook:
    async def __call__(self, event: object) -> None: ...


async def _hook(event: object) -> None: ...


async def _generator(event: object) -> AsyncIterator[object]:
    yield event


@pytest.mark.parametrize("hook", [_hook, _generator, _AsyncHook(), functools.partial(_hook, 1)])
def test_an_async_hook_raises(hook: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"on_event=.* is an async function, which is never awaited"):
        RuxaClient(api_key=KEY, on_event=hook, transport=MemoryTransport(lambda _: Response(200)))


def test_a_hook_that_is_not_callable_raises() -> None:
    hook: Any = "print"
    with pytest.raises(ConfigurationError, match="on_event='print' is not valid"):
        RuxaClient(api_key=KEY, on_event=hook, transport=MemoryTransport(lambda _: Response(200)))
