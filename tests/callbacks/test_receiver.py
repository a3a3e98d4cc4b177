"""The receiver without an application: a path and bytes in, a response out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from attrs import define, field
from callbacks.wired import PUBLIC, SECRET, post, receiver_of

from ruxa_async import Callback, CallbackReceiver, ConfigurationError, JournalError
from ruxa_async.callbacks import _receiver as receiving
from ruxa_async.callbacks._authentication import sign
from ruxa_async.callbacks._messages import Answer
from ruxa_async.callbacks._receiver import Claim

JOB = bytes(12)
DONE = b'{"taskId": "t1", "state": "success", "resultUrls": ["https://files.example/a.png"]}'
NOW = 1_800_000_000.0


@define(eq=False)
class Ear:
    """A listener that writes down what it heard and claims what it was told to."""

    claims: bool = True
    heard: list[Callback] = field(factory=list)
    kept: list[Callback] = field(factory=list)

    def claim(self, callback: Callback) -> Claim:
        self.heard.append(callback)
        return Claim.KNOWN if self.claims else Claim.NONE

    async def keep(self, callback: Callback) -> None:
        self.kept.append(callback)


def job(number: int) -> bytes:
    return number.to_bytes(12, "big")


def listened(ear: Ear | None = None, **options: Any) -> tuple[CallbackReceiver, Ear]:
    receiver, ear = receiver_of(wall=lambda: NOW, **options), ear or Ear()
    receiver.attach(ear)
    return receiver, ear


async def test_only_authentic_callbacks_are_counted() -> None:
    receiver = receiver_of()
    assert await post(receiver, receiver.url(job(1)), DONE) == 200
    assert await post(receiver, receiver.url(job(1)), DONE) == 200
    assert receiver.taken == 2  # one more time the same is a post as well
    assert await post(receiver, f"{PUBLIC}/{'ab' * 40}", DONE) == 404
    assert receiver.taken == 2


async def test_a_callback_reaches_the_listener_that_claims_it() -> None:
    receiver, ear = listened()
    url = receiver.url(JOB)
    assert url.startswith(f"{PUBLIC}/")
    assert await post(receiver, url, DONE) == 200
    (callback,) = ear.heard
    assert (callback.job, callback.issued_at, callback.task_id, callback.size) == (JOB, NOW, "t1", len(DONE))
    assert callback.ended


@pytest.mark.parametrize("prefix", ["", "/", "/ruxa/", "/a/proxy/added/ruxa/", "//"])
async def test_the_path_before_the_token_is_ignored(prefix: str) -> None:
    receiver, ear = listened()
    token = receiver.url(JOB).rpartition("/")[2]
    assert await post(receiver, f"http://host{prefix or '/'}{token}", DONE) == 200
    assert await post(receiver, f"http://host{prefix or '/'}{token}/", DONE) == 200
    assert len(ear.heard) == 1


@pytest.mark.parametrize("path", ["", "/", "/ruxa", "/ruxa/", "/ruxa/healthz", "/ruxa/" + "x" * 44])
def test_other_paths_are_not_found(path: str) -> None:
    receiver, _ = listened()
    for method in ("POST", "GET"):
        answer = receiver.admit(method, path)
        assert isinstance(answer, Answer)
        assert answer.status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_the_method_post_is_allowed(method: str) -> None:
    receiver, _ = listened()
    for token in (receiver.url(JOB).rpartition("/")[2], "x" * 43):
        answer = receiver.admit(method, f"/{token}")
        assert isinstance(answer, Answer)
        assert (answer.status, answer.headers) == (405, {"Allow": "POST"})


def test_a_forged_and_an_expired_token_get_the_same_response() -> None:
    clock = [NOW]
    receiver = receiver_of(wall=lambda: clock[0], max_age=60.0)
    token = receiver.url(JOB).rpartition("/")[2]
    forged = receiver.admit("POST", f"/{token[::-1]}")
    clock[0] += 61.0
    stale = receiver.admit("POST", f"/{token}")
    foreign = receiver.admit("POST", receiver_of(secret="x" * 16).url(JOB))
    assert forged == stale == foreign
    assert isinstance(forged, Answer)
    assert forged.status == 401
    assert token.encode() not in forged.body


async def test_a_repeated_callback_is_passed_on_once() -> None:
    receiver, ear = listened()
    url = receiver.url(JOB)
    running = b'{"data": {"taskId": "t1", "state": "generating"}}'
    for body in (b"garbage", running, running, b"[1]", DONE, DONE, running, DONE + b" "):
        assert await post(receiver, url, body) == 200
    assert [callback.pending for callback in ear.heard] == [False, True, False]
    assert [callback.ended for callback in ear.heard] == [False, False, True]


async def test_at_most_four_callbacks_of_a_job_are_passed_on() -> None:
    receiver, ear = listened()
    for number in range(10):
        assert (
            await post(receiver, receiver.url(JOB), b'{"taskId": "%d", "state": "success"}' % number) == 200
        )
    assert len(ear.heard) == 4


async def test_a_callback_with_an_unreadable_body_is_passed_on() -> None:
    receiver, ear = listened()
    assert await post(receiver, receiver.url(JOB), b"\x00{") == 200
    assert (ear.heard[0].task_id, ear.heard[0].status) == (None, None)


async def test_a_body_above_max_body_is_rejected() -> None:
    receiver, ear = listened(max_body=len(DONE))
    assert await post(receiver, receiver.url(JOB), DONE + b" ") == 413
    assert await post(receiver, receiver.url(JOB), DONE) == 200
    assert len(ear.heard) == 1


async def test_the_oldest_job_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_JOBS_KEPT", 2)
    receiver, ear = listened()
    for number in (1, 2, 3, 3, 1):
        await post(receiver, receiver.url(job(number)), DONE)
    assert [callback.job for callback in ear.heard] == [job(1), job(2), job(3), job(1)]


# ---- what nobody claims


async def test_unclaimed_callbacks_are_bounded_and_a_rejected_one_is_not_taken_for_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "_MOST_WAITING", 2)
    receiver, _ = listened(Ear(claims=False), on_unclaimed=print)
    urls = [receiver.url(job(number)) for number in range(3)]
    assert [await post(receiver, url, DONE) for url in (*urls, urls[0], urls[2])] == [200, 200, 503, 200, 503]


async def test_unclaimed_callbacks_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_MOST_WAITING_BYTES", 2 * len(DONE))
    receiver, _ = listened(Ear(claims=False), on_unclaimed=print)
    assert [await post(receiver, receiver.url(job(n)), DONE) for n in range(3)] == [200, 200, 503]


@pytest.mark.parametrize("waits", [False, True])
async def test_unclaimed_callbacks_are_recorded_and_handed_over(waits: bool) -> None:
    got: list[Callback] = []

    async def slowly(callback: Callback) -> None:
        await anyio.sleep(5)
        got.append(callback)

    receiver, ear = listened(Ear(claims=False), on_unclaimed=slowly if waits else got.append)
    async with anyio.create_task_group() as tg:
        tg.start_soon(receiver.hand_over_unclaimed)
        await post(receiver, receiver.url(job(1)), DONE)
        await anyio.sleep(6)
        await post(receiver, receiver.url(job(2)), DONE)
        await anyio.sleep(6)
        tg.cancel_scope.cancel()
    assert [callback.job for callback in got] == [job(1), job(2)] == [callback.job for callback in ear.kept]


async def test_a_callback_that_is_being_handed_over_when_the_client_closes_is_kept() -> None:
    got: list[Callback] = []

    async def never(callback: Callback) -> None:
        got.append(callback)
        await anyio.sleep_forever()

    receiver, ear = listened(Ear(claims=False), on_unclaimed=never)
    for number in (1, 2):
        await post(receiver, receiver.url(job(number)), DONE)
    with anyio.move_on_after(1):
        await receiver.hand_over_unclaimed()
    with anyio.move_on_after(1):
        await receiver.hand_over_unclaimed()
    assert [callback.job for callback in got] == [job(1), job(1)]
    assert [callback.job for callback in ear.kept] == [job(1), job(2)]


async def test_a_callback_without_a_client_is_recorded_by_the_next_one() -> None:
    receiver, ear = receiver_of(), Ear(claims=False)
    await post(receiver, receiver.url(job(1)), DONE)
    receiver.attach(ear)
    for _ in range(2):
        with anyio.move_on_after(1):
            await receiver.hand_over_unclaimed()
    assert [callback.job for callback in ear.kept] == [job(1)]


@pytest.mark.parametrize("claim", list(Claim))
async def test_a_proof_is_answered_once_it_is_recorded_and_asked_for_again_if_it_is_not(claim: Claim) -> None:
    @define(eq=False)
    class Full:
        broken: bool = True
        asked: int = 0

        def claim(self, callback: Callback) -> Claim:
            return claim

        async def keep(self, callback: Callback) -> None:
            self.asked += 1
            if self.broken:
                raise JournalError("journal.db", "the disk is full")
            await anyio.sleep(3)

    receiver, ear = receiver_of(), Full()
    receiver.attach(ear)
    first = await post(receiver, receiver.url(job(1)), DONE)
    ear.broken = False
    answers = [await post(receiver, receiver.url(job(1)), DONE) for _ in range(2)]
    known = claim is Claim.KNOWN
    assert (first, answers, anyio.current_time()) == (
        200 if known else 503,
        [200, 200],
        0.0 if known else 3.0,
    )
    assert ear.asked == (0 if known else 2)


async def test_an_error_of_on_unclaimed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(callback: Callback) -> None:
        raise ZeroDivisionError

    receiver, ear = listened(Ear(claims=False), on_unclaimed=broken)
    url = receiver.url(job(1))
    for address in (url, receiver.url(job(2))):
        await post(receiver, address, DONE)
    with anyio.move_on_after(1):
        await receiver.hand_over_unclaimed()
    assert len(ear.kept) == 2
    assert caplog.text.count("on_unclaimed raised") == 2
    assert url.rpartition("/")[2] not in caplog.text


async def test_a_detached_listener_gets_no_callback() -> None:
    receiver, ear = listened()
    receiver.detach(ear)
    assert await post(receiver, receiver.url(JOB), DONE) == 200
    assert not ear.heard


# ---- signatures


def signed(body: bytes, at: float, key: bytes = b"key", task_id: str = "t1") -> dict[str, str]:
    return {
        "x-webhook-timestamp": str(int(at)),
        "x-webhook-signature": sign(key, task_id, str(int(at))),
    }


async def answers(body: bytes, headers: dict[str, str]) -> int:
    receiver, _ = listened(signing_key="key")
    token = receiver.admit("POST", receiver.url(JOB))
    assert not isinstance(token, Answer)
    return (await receiver.take(token, headers, body)).status


@pytest.mark.parametrize(
    "said",
    [
        {"taskId": "t1"},
        {"task_id": "t1"},
        {"data": {"taskId": "t1"}},
        {"data": {"task_id": "t1"}, "taskId": "t2"},
    ],
)
async def test_a_signature_is_verified_with_the_task_id_at_each_place(said: dict[str, Any]) -> None:
    body = json.dumps(said).encode()
    assert await answers(body, signed(body, NOW)) == 200


def wrong_headers() -> Iterator[dict[str, str]]:
    yield {}
    yield signed(DONE, NOW, b"other")
    yield signed(DONE, NOW, task_id="t2")
    yield signed(DONE, NOW - 301)
    yield signed(DONE, NOW + 301)
    yield signed(DONE, NOW) | {"x-webhook-timestamp": str(int(NOW) + 1)}
    for timestamp in ("", "x", "-1", "1e9", "\uff19", "1" * 13):
        yield signed(DONE, NOW) | {"x-webhook-timestamp": timestamp}
    yield signed(DONE, NOW) | {"x-webhook-signature": "\udcff"}


@pytest.mark.parametrize("headers", [*wrong_headers()])
async def test_an_invalid_signature_is_rejected(headers: dict[str, str]) -> None:
    assert await answers(DONE, headers) == 401


@pytest.mark.parametrize("body", [b"", b"[]", b'{"state": "success"}', b'{"taskId": 7}'])
async def test_a_signed_callback_without_a_task_id_is_rejected(body: bytes) -> None:
    assert await answers(body, signed(body, NOW)) == 401


# ---- settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret": "short"}, "at least 16 bytes"),
        ({"secret": []}, "at least 16 bytes"),
        ({"secret": [SECRET, b"short"]}, "at least 16 bytes"),
        ({"public_url": "hooks.example"}, "is not an address"),
        ({"public_url": "ftp://hooks.example"}, "is not an address"),
        ({"public_url": "https://hooks.example/a b"}, "is not an address"),
        ({"public_url": "https://hooks.example:x"}, "is not an address"),
        ({"public_url": "https://user:pass@hooks.example"}, "neither credentials"),
        ({"public_url": "https://hooks.example/?a=b"}, "neither credentials nor a query"),
        ({"field": "callback"}, "callback_url or callBackUrl"),
        ({"max_age": 0}, "max_age=0"),
        ({"max_body": -1}, "max_body=-1"),
        ({"body_timeout": float("inf")}, "body_timeout=inf"),
    ],
)
def test_invalid_settings_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        receiver_of(**options)
    assert "pass@" not in str(caught.value)


async def test_the_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUXA_CALLBACK_SECRET", SECRET)
    url = CallbackReceiver(public_url=PUBLIC).url(JOB)
    assert await post(receiver_of(), url) == 200
    monkeypatch.delenv("RUXA_CALLBACK_SECRET")
    assert await post(receiver_of(), CallbackReceiver(public_url=PUBLIC).url(JOB)) == 401


async def test_secrets_rotate() -> None:
    old = receiver_of(secret="o" * 16)
    both = receiver_of(secret=[SECRET.encode(), "o" * 16])
    assert await post(both, old.url(JOB)) == 200
    assert await post(receiver_of(), both.url(JOB)) == 200


def test_no_secret_is_shown() -> None:
    receiver, _ = listened(signing_key="signing-key-canary")
    token = receiver.admit("POST", receiver.url(JOB))
    shown = repr(receiver) + repr(vars(receiver).values()) + repr(token)
    for secret in (SECRET, "signing-key-canary", receiver.url(JOB).rpartition("/")[2]):
        assert secret not in repr(receiver)
        assert secret not in repr(token)
    assert PUBLIC in shown
