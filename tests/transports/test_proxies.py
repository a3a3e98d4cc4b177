"""Proxies and certificates: which proxy is used, what it sees, and what was sent if it fails."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from transports.forwarding import CREDENTIALS, forwarding_to

import ruxa_async
from ruxa_async import ConfigurationError, DownloadError, Generation, NanoBanana, RuxaClient
from ruxa_async.downloads import Downloader
from ruxa_async.emulator import Durations, Emulator, EmulatorSettings
from ruxa_async.errors import MaybeSentError, NotSentError
from ruxa_async.testing import _servers as servers
from ruxa_async.testing._asking import KEY, request, send_whole, stream_whole
from ruxa_async.testing._servers import (
    Server,
    answering,
    reply,
    resetting_after_request,
    saying_then_closing,
    saying_then_silent,
    serving,
)
from ruxa_async.transports import AiohttpTransport, Httpx2Transport, PrivateAddressError, Request, check_host
from ruxa_async.transports._proxies import Proxies, trusted_by_environment, without_credentials

HOME = "https://api.test"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD")


@pytest.fixture(params=["aiohttp-asyncio", "aiohttp-uvloop", "httpx2-asyncio", "httpx2-trio"])
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(stack: str) -> Any:
    loop = stack.partition("-")[2]
    if loop == "uvloop":
        pytest.importorskip("uvloop")
        return "asyncio", {"use_uvloop": True}
    return loop


@pytest.fixture
def make(stack: str) -> Any:
    return AiohttpTransport if stack.startswith("aiohttp") else Httpx2Transport


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have no proxy in the environment but that of the test."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=servers.SELF_SIGNED)


def with_password(url: str) -> str:
    return url.replace("//", f"//{CREDENTIALS}@")


@pytest.fixture
def home() -> Iterator[Server]:
    with serving(answering(reply(b'{"code":200}')), tls=True) as server:
        yield server


# What a proxy sees


@pytest.mark.parametrize("source", ["given", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_an_https_request_goes_through_a_tunnel_that_shows_no_key(
    make: Any, method: str, source: str, home: Server, environment: pytest.MonkeyPatch
) -> None:
    with serving(forwarding_to(home.url, asks=True)) as proxy:
        given = with_password(proxy.url)
        if source != "given":
            environment.setenv(source, given)
        options = {"proxy": given} if source == "given" else {}
        async with aclosing(make(ssl_context=trusting(), **options)) as transport:
            for send in (send_whole, stream_whole, send_whole):
                assert (await send(transport, request(HOME, method))).body == b'{"code":200}'
    assert {head.split(" ")[0] + " " + head.split(" ")[1] for head in proxy.requests} == {
        "CONNECT api.test:443"
    }
    assert not any("authorization: bearer" in head.lower() for head in proxy.requests)
    assert not any(KEY.encode() in data for data in proxy.bodies)
    assert [f"Authorization: Bearer {KEY}" in head for head in home.requests] == [True] * 3
    assert not any("proxy-authorization" in head.lower() for head in home.requests)


@pytest.mark.parametrize("source", ["given", "environment"])
async def test_a_loopback_address_is_not_reached_through_a_proxy(
    make: Any, source: str, environment: pytest.MonkeyPatch
) -> None:
    with serving(answering(reply())) as proxy, serving(answering(reply())) as server:
        if source == "environment":
            for name in ("HTTP_PROXY", "ALL_PROXY"):
                environment.setenv(name, proxy.url)
        async with aclosing(make(proxy=proxy.url if source == "given" else None)) as transport:
            await transport.send(request(server.url))
            await transport.send(request(server.url.replace("127.0.0.1", "localhost")))
    assert proxy.connections == 0
    assert len(server.requests) == 2


async def test_plain_http_is_forwarded_with_the_password_for_the_proxy(make: Any) -> None:
    with (
        serving(answering(reply(b"picture"))) as files,
        serving(forwarding_to(files.url, asks=True)) as proxy,
    ):
        asked = Request(method="GET", url="http://files.test/a%20b?c=d", public_only=True)
        async with aclosing(make(proxy=with_password(proxy.url))) as transport:
            assert (await stream_whole(transport, asked)).body == b"picture"
    assert proxy.requests[0].startswith("GET http://files.test/a%20b?c=d HTTP/1.1\r\n")


async def test_a_proxy_may_speak_tls_itself(make: Any, home: Server) -> None:
    with serving(forwarding_to(home.url, asks=True), tls=True) as proxy:
        async with aclosing(make(proxy=with_password(proxy.url), ssl_context=trusting())) as transport:
            assert (await transport.send(request(HOME))).status == 200
    assert not any(KEY.encode() in data for data in proxy.bodies)


async def test_the_password_is_sent_only_to_its_proxy(make: Any, home: Server) -> None:
    with serving(forwarding_to(home.url, asks=True)) as proxy:
        async with aclosing(make(proxy=proxy.url, ssl_context=trusting())) as transport:
            error = await failure_at_home(transport)
    assert isinstance(error, NotSentError)
    assert "the proxy answered HTTP 407" in str(error)
    assert proxy.url in str(error)


async def failure_at_home(transport: Any, **changes: Any) -> Exception:
    with pytest.raises((NotSentError, MaybeSentError)) as caught:
        await transport.send(request(HOME, **changes))
    text = "".join(traceback.format_exception(caught.value))
    assert "canary" not in text
    return caught.value


# What was sent


@pytest.mark.parametrize(
    "script",
    [
        saying_then_closing(reply(b"", "407 Proxy Authentication Required")),
        saying_then_closing(reply(b"", "502 Bad Gateway")),
        saying_then_closing(reply(b"", "403 canary")),
        saying_then_closing(),
        saying_then_closing(b"nonsense\r\n\r\n"),
        resetting_after_request,
        saying_then_silent(),
        saying_then_silent(b"HTTP/1.1 200 Connection established\r\n\r\n"),  # and no handshake
        saying_then_closing(b"HTTP/1.1 200 Connection established\r\n\r\n"),
    ],
    ids=["407", "502", "403", "close", "garbage", "reset", "silent", "no-handshake", "no-tunnel"],
)
async def test_a_tunnel_that_fails_sends_nothing(make: Any, method: str, script: servers.Script) -> None:
    with serving(script) as proxy:
        given = with_password(proxy.url)
        async with aclosing(make(proxy=given, ssl_context=trusting())) as transport:
            error = await failure_at_home(transport, method=method, connect_timeout=0.3)
    assert isinstance(error, NotSentError)
    assert proxy.requests[0].startswith("CONNECT api.test:443 ")


async def test_a_proxy_that_is_down_sends_nothing(make: Any, method: str) -> None:
    with servers.refusing() as nowhere:
        async with aclosing(make(proxy=with_password(nowhere))) as transport:
            error = await failure_at_home(transport, method=method)
    assert isinstance(error, NotSentError)
    assert f"through the proxy {nowhere}" in str(error)


async def test_a_server_with_an_untrusted_certificate_gets_no_byte(make: Any, home: Server) -> None:
    with serving(forwarding_to(home.url)) as proxy:
        async with aclosing(make(proxy=proxy.url)) as transport:
            assert isinstance(await failure_at_home(transport), NotSentError)
    assert home.requests == []


@pytest.mark.parametrize(
    "script",
    [
        saying_then_closing(),
        resetting_after_request,
        saying_then_silent(),
        saying_then_silent(reply(b"{", length=9)),
    ],
)
async def test_a_failure_behind_an_open_tunnel_may_be_sent(
    make: Any, method: str, script: servers.Script
) -> None:
    with serving(script, tls=True) as server, serving(forwarding_to(server.url)) as proxy:
        async with aclosing(make(proxy=proxy.url, ssl_context=trusting())) as transport:
            error = await failure_at_home(transport, method=method, timeout=0.5)
    assert isinstance(error, MaybeSentError)
    assert len(server.requests) == 1


async def test_a_create_behind_a_tunnel_keeps_the_id_of_a_broken_reply(make: Any) -> None:
    bought = b'{"code":200,"data":{"taskId":"task_1"}}'
    script = saying_then_closing(reply(bought, length=len(bought) + 5))
    with serving(script, tls=True) as server, serving(forwarding_to(server.url)) as proxy:
        transport = make(proxy=proxy.url, ssl_context=trusting())
        async with RuxaClient(api_key=KEY, base_url=HOME, transport=transport) as ruxa:
            assert (await ruxa.submit(NanoBanana(prompt="a fox"))).task_id == "task_1"


# Downloads


async def save(transport: Any, url: str, folder: Path) -> Path:
    loader = Downloader(transport=transport, home=HOME, pauses=())
    (path,) = await loader.save(Generation(task_id="t-1", model=None, urls=(url,)), folder)
    return path


PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0" * 17 + b"\0\0\0\0IEND\xaeB`\x82"


async def test_a_download_uses_a_proxy_at_a_private_address(make: Any, tmp_path: Path) -> None:
    # The proxy itself is at a private address, as proxies are.
    picture = reply(PNG, headers="Content-Type: image/png\r\n")
    with serving(answering(picture)) as files, serving(forwarding_to(files.url)) as proxy:
        async with aclosing(make(proxy=proxy.url)) as transport:
            assert (await save(transport, "http://files.test/a.png", tmp_path)).read_bytes() == PNG
    assert proxy.requests[0].startswith("GET http://files.test/a.png ")
    assert "authorization" not in proxy.requests[0].lower()


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]"],
)
async def test_a_host_that_is_not_public_by_its_text_is_refused_behind_a_proxy_too(
    make: Any, host: str, tmp_path: Path
) -> None:
    with serving(answering(reply(PNG))) as proxy:
        async with aclosing(make(proxy=proxy.url)) as transport:
            with pytest.raises(DownloadError, match="allow_private"):
                await save(transport, f"http://{host}/a.png", tmp_path)
    assert proxy.connections == 0


@pytest.mark.parametrize(
    "host",
    [
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "0177.0.0.1",
        "\uff11\uff10.0.0.1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
    ],
)
def test_private_hosts_are_rejected_in_every_notation(host: str) -> None:
    with pytest.raises(PrivateAddressError):
        check_host(host)


@pytest.mark.parametrize(
    "host", ["files.test", "8.8.8.8", "2606:4700::1111", "b\u00fccher.example", "localhost.example"]
)
def test_check_host_accepts_other_hosts(host: str) -> None:
    check_host(host)


# Which proxy

PROXY = "http://proxy.test:3128"


def routes(environment: pytest.MonkeyPatch, given: str | None = None, /, **variables: str) -> Proxies:
    for name, value in variables.items():
        environment.setenv(name, value)
    return Proxies(given, trust_env=True)


class TestRoutes:
    @pytest.mark.parametrize(
        ("excepted", "url", "direct"),
        [
            ("", "https://api.test/a", False),
            ("api.test", "https://api.test/a", True),
            ("API.test", "https://api.test", True),
            ("api.test", "https://a.api.test", True),
            (".test", "https://api.test", True),
            ("*.test", "https://api.test", True),
            ("api.test", "https://an-api.test", False),
            ("*", "https://api.test", True),
            ("other.test, api.test", "https://api.test", True),
            ("api.test:443", "https://api.test", True),
            ("api.test:443", "https://api.test:8443", False),
            ("api.test:80", "http://api.test", True),
            ("10.0.0.0/8", "https://10.1.2.3", True),
            ("10.0.0.0/8", "https://11.1.2.3", False),
            ("10.0.0.0/8", "https://api.test", False),
            ("10.1.2.3", "https://10.1.2.3", True),
            ("10.1.2.3:8443", "https://10.1.2.3:8443", True),
            ("2001:db8::/32", "https://[2001:db8::1]", True),
            ("[2001:db8::1]:443", "https://[2001:db8::1]", True),
            (".", "https://api.test", False),
            ("api.test", "https://api.test.", True),
        ],
    )
    def test_hosts_in_no_proxy_are_reached_directly(
        self, environment: pytest.MonkeyPatch, excepted: str, url: str, direct: bool
    ) -> None:
        proxies = routes(environment, NO_PROXY=excepted, HTTPS_PROXY=PROXY, HTTP_PROXY=PROXY)
        for _ in range(2):
            assert proxies.route(url) == (None if direct else PROXY)

    def test_each_scheme_has_its_proxy_and_all_is_for_the_rest(self, environment: pytest.MonkeyPatch) -> None:
        proxies = routes(environment, HTTPS_PROXY="secure.test:1", ALL_PROXY=PROXY)
        assert proxies.route("https://api.test/a") == "http://secure.test:1"
        assert proxies.route("http://api.test/a") == PROXY

    def test_a_proxy_for_one_scheme_is_not_for_the_other(self, environment: pytest.MonkeyPatch) -> None:
        assert routes(environment, HTTP_PROXY=PROXY).route("https://api.test") is None

    def test_the_argument_takes_precedence_over_the_environment(
        self, environment: pytest.MonkeyPatch
    ) -> None:
        proxies = routes(environment, PROXY, HTTPS_PROXY="http://other.test", NO_PROXY="*")
        assert proxies.route("https://api.test") == PROXY

    @pytest.mark.parametrize("url", ["", "/a", "https://[/", "https://a:b/", "ftp://api.test", "https://"])
    def test_an_invalid_url_has_no_proxy(self, environment: pytest.MonkeyPatch, url: str) -> None:
        assert routes(environment, PROXY).route(url) is None

    def test_the_environment_is_ignored_without_trust_env(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("HTTPS_PROXY", PROXY)
        assert Proxies(None, trust_env=False).route("https://api.test") is None

    def test_the_routes_kept_are_bounded(self, environment: pytest.MonkeyPatch) -> None:
        proxies = routes(environment, PROXY)
        for number in range(1000):
            assert proxies.route(f"https://{number}.test/") == PROXY
        assert len(proxies._routes) <= 256

    @pytest.mark.parametrize(
        "bad",
        [
            "http://",
            "http://user:canary@",
            "http://user:ca#nary@proxy.test:1",
            "http://user:canary@proxy.test:port",
            "http://user:canary@proxy .test:1",
            "socks5://user:canary@proxy.test:1",
            "ftp://user:canary@proxy.test",
            "",
        ],
    )
    def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
        self, environment: pytest.MonkeyPatch, bad: str
    ) -> None:
        for client in (
            lambda: Proxies(bad, trust_env=True),
            lambda: RuxaClient(api_key=KEY, base_url=HOME, proxy=bad),
        ):
            with pytest.raises(ConfigurationError) as caught:
                client()
            assert "canary" not in "".join(traceback.format_exception(caught.value))

    def test_a_proxy_of_the_environment_that_cannot_be_used_is_said_when_the_client_is_made(
        self, environment: pytest.MonkeyPatch
    ) -> None:
        environment.setenv("ALL_PROXY", "socks5://user:canary@proxy.test:1")
        with pytest.raises(
            ConfigurationError, match="ALL_PROXY names a proxy of the kind 'socks5'"
        ) as caught:
            RuxaClient(api_key=KEY, base_url=HOME)
        assert "canary" not in str(caught.value)
        RuxaClient(api_key=KEY, base_url="http://127.0.0.1:9")  # which needs none

    def test_an_address_is_shown_without_its_credentials(self) -> None:
        assert without_credentials("http://user:secret@proxy.test:3128") == PROXY

    # Certificates

    def test_certificates_of_the_environment_are_trusted(
        self, environment: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "ca.pem"
        file.write_text(servers.SELF_SIGNED)
        environment.delenv("SSL_CERT_DIR", raising=False)
        environment.setenv("SSL_CERT_FILE", str(file))
        context = trusted_by_environment()
        assert context is not None
        assert len(context.get_ca_certs()) == 1
        environment.delenv("SSL_CERT_FILE")
        assert trusted_by_environment() is None

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_file_that_holds_no_certificates_is_named(
        self, environment: pytest.MonkeyPatch, tmp_path: Path, content: str | None
    ) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        environment.setenv("SSL_CERT_FILE", str(file))
        for transport in (AiohttpTransport, Httpx2Transport):
            with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE='.*ca\.pem' cannot be read"):
                transport()
            transport(trust_env=False)
            transport(ssl_context=trusting())

    def test_proxy_schemes_of_other_transports_are_refused(self) -> None:
        for options in ({"proxy": PROXY}, {"ssl_context": trusting()}):
            with pytest.raises(ConfigurationError, match="your own transport"):
                RuxaClient(api_key=KEY, base_url=HOME, transport=AiohttpTransport(), **options)


async def test_certificates_of_the_environment_are_used(
    make: Any, home: Server, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(servers.SELF_SIGNED)
    environment.setenv("SSL_CERT_FILE", str(file))
    async with aclosing(make()) as transport:
        assert (await transport.send(request(home.url))).status == 200


async def test_a_proxy_of_the_environment_that_cannot_be_used_sends_nothing(
    make: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("ALL_PROXY", "ftp://user:canary@proxy.test:1")
    async with aclosing(make()) as transport:
        error = await failure_at_home(transport)
    assert isinstance(error, NotSentError)
    assert "ALL_PROXY" in str(error)


# A client


@pytest.mark.parametrize("stack", ["aiohttp-asyncio"])
async def test_a_client_uses_the_proxy_of_its_transport(home: Server) -> None:
    with serving(forwarding_to(home.url, asks=True)) as proxy:
        async with RuxaClient(
            api_key=KEY, base_url=HOME, proxy=with_password(proxy.url), ssl_context=trusting()
        ) as ruxa:
            with pytest.raises(ruxa_async.MalformedResponseError):
                await ruxa.status("t-1")
    assert len(home.requests) == 1
    assert proxy.requests[0].startswith("CONNECT api.test:443 ")


async def test_the_emulator_is_reached_directly_with_a_proxy_in_the_environment(
    make: Any, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment.setenv(name, "http://proxy.invalid:1")
    async with Emulator(EmulatorSettings(speed=100, image=Durations(1.0))) as emulator:
        options: Any = {"api_key": emulator.key, "base_url": emulator.url, "transport": make()}
        async with RuxaClient(**options) as ruxa:
            (path,) = await (await ruxa.generate(NanoBanana(prompt="a cat", key="cat"))).save(tmp_path)
    assert path.name == "cat.png"


@pytest.mark.parametrize("stack", ["aiohttp-asyncio"])
async def test_a_supplied_session_keeps_its_proxy(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    with serving(answering(reply())) as files, serving(forwarding_to(files.url)) as proxy:
        async with aiohttp.ClientSession(proxy=proxy.url) as session:
            with pytest.raises(ValueError, match="its own proxy"):
                AiohttpTransport(session, proxy=proxy.url)
            async with aclosing(AiohttpTransport(session)) as transport:
                await transport.send(Request(method="GET", url="http://api.test/"))
    assert len(proxy.requests) == 1
