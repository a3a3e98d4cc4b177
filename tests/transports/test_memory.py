"""The transport without a network: handlers, services and simulated faults."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from typing import Any, Literal

import anyio
import pytest
from attrs import field, frozen

from ruxa_async.emulator import Durations, EmulatorSettings, Fault, Service, ServiceRequest
from ruxa_async.emulator._service import CREATE_PATH
from ruxa_async.errors import MaybeSentError, NotSentError
from ruxa_async.transports import MemoryTransport, Request, Response, Transport

BASE = "http://localhost"
HEADERS = {"Authorization": "Bearer sk-emulated"}
BODY = json.dumps({"model": "google/nano-banana", "input": {"prompt": "a fox"}}).encode()


def create_request(timeout: float = 30.0) -> Request:
    return Request(
        method="POST", url=f"{BASE}/api/v1/tasks/create?sig=1", headers=HEADERS, body=BODY, timeout=timeout
    )


def service_of(*faults: Fault, **settings: Any) -> Service:
    return Service(EmulatorSettings(image=Durations(10.0), faults=faults, **settings))


def get(path: str) -> Request:
    return Request(method="GET", url=BASE + path, headers=HEADERS)


def test_it_is_a_transport() -> None:
    assert isinstance(MemoryTransport(service_of()), Transport)


# A handler


async def test_a_plain_function_answers() -> None:
    transport = MemoryTransport(lambda request: Response(201, {"x": request.method}, request.body or b""))
    response = await transport.send(create_request())
    assert (response.status, response.headers, response.body) == (201, {"x": "POST"}, BODY)


async def test_an_async_function_answers_in_its_own_time() -> None:
    async def answer(request: Request) -> Response:
        await anyio.sleep(7)
        return Response(200)

    start = anyio.current_time()
    assert (await MemoryTransport(answer).send(create_request())).status == 200
    assert anyio.current_time() - start == pytest.approx(7)


@pytest.mark.parametrize("error", [NotSentError("x"), MaybeSentError("x")])
async def test_a_handler_can_simulate_a_broken_network(error: Exception) -> None:
    def answer(request: Request) -> Response:
        raise error

    with pytest.raises(type(error)):
        await MemoryTransport(answer).send(create_request())


async def test_requests_are_kept_only_with_record() -> None:
    silent, recording = (MemoryTransport(lambda _: Response(200), record=record) for record in (False, True))
    asked = create_request()
    for transport in (silent, recording):
        await transport.send(asked)
        assert (transport.sent, transport.on_wire) == (1, 0)
    assert (silent.requests, recording.requests) == ([], [asked])


# A service


async def test_a_service_sees_the_request_at_the_time_of_the_loop() -> None:
    service = service_of()
    await anyio.sleep(3)
    await MemoryTransport(service).send(create_request())
    assert service.ledger.entries[0].at == anyio.current_time()


async def test_a_task_is_followed_to_its_file_in_virtual_time() -> None:
    service = service_of(latency=0.25)
    transport = MemoryTransport(service)
    start = anyio.current_time()
    created = json.loads((await transport.send(create_request())).body)
    path = f"/api/v1/tasks/query/{created['data']['taskId']}"
    assert json.loads((await transport.send(get(path))).body)["data"]["state"] == "waiting"
    await anyio.sleep(10)
    ended = json.loads((await transport.send(get(path))).body)["data"]
    url = json.loads(ended["resultJson"])["resultUrls"][0]
    async with transport.stream(Request(method="GET", url=url)) as file:
        assert (file.status, file.headers["content-type"]) == (200, "image/png")
        assert b"".join([chunk async for chunk in file.chunks()]).startswith(b"\x89PNG")
    assert anyio.current_time() - start == pytest.approx(11)


@pytest.mark.parametrize(
    ("kind", "error", "charged"),
    [
        ("refused", NotSentError, 0),
        ("reset_before", MaybeSentError, 0),
        ("reset_after", MaybeSentError, 1),
        ("stall_before", MaybeSentError, 0),
        ("stall", MaybeSentError, 1),
        ("cut", MaybeSentError, 1),
        ("oversized", MaybeSentError, 1),
        ("slow", MaybeSentError, 1),
    ],
)
async def test_each_fault_of_the_service_is_simulated(
    kind: Any, error: type[Exception], charged: int
) -> None:
    service = service_of(Fault(kind, seconds=60.0, nth=(1,)))
    transport = MemoryTransport(service)
    with pytest.raises(error) as caught:
        await transport.send(create_request(timeout=20))
    assert type(caught.value) is error
    assert "POST http://localhost/api/v1/tasks/create: " in str(
        caught.value
    )  # and no query: it may be signed
    assert (service.ledger.charged, transport.on_wire) == (charged, 0)
    assert (await transport.send(create_request())).status == 200


@pytest.mark.parametrize(
    ("kind", "status"), [("error", 500), ("html", 502), ("garbage", 200), ("empty", 200)]
)
async def test_a_fault_in_the_reply_is_delivered_as_it_is(kind: Any, status: int) -> None:
    assert (await MemoryTransport(service_of(Fault(kind))).send(create_request())).status == status


# Time-outs and cancellation


@pytest.mark.parametrize("kind", ["stall_before", "stall"])
async def test_a_stall_lasts_exactly_as_long_as_the_client_waits(kind: Any) -> None:
    start = anyio.current_time()
    with pytest.raises(MaybeSentError, match="no answer within 20 s"):
        await MemoryTransport(service_of(Fault(kind))).send(create_request(timeout=20))
    assert anyio.current_time() - start == pytest.approx(20)


async def test_an_infinite_timeout_waits_for_a_slow_reply() -> None:
    service = service_of(Fault("slow", seconds=1e5))
    assert (await MemoryTransport(service).send(create_request(timeout=math.inf))).status == 200


async def test_a_timeout_of_zero_sends_nothing() -> None:
    service = service_of()
    with pytest.raises(NotSentError):
        await MemoryTransport(service).send(create_request(timeout=0))
    assert service.counts.creates == 0


async def test_a_cancel_before_it_is_sent_buys_nothing() -> None:
    service = service_of()
    transport = MemoryTransport(service)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await transport.send(create_request())
    assert (scope.cancelled_caught, service.counts.creates, transport.sent) == (True, 0, 0)


@frozen
class _Reply:
    status: int = 200
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""
    fault: Literal["", "refused", "reset", "stall", "cut"] = ""
    latency: float = 0.0
    drip: float = 0.0


async def test_a_cancel_after_the_service_acted_is_seen_before_the_reply() -> None:
    acted: list[float] = []

    class Cancelling:
        def handle(self, request: Any, now: float) -> _Reply:
            acted.append(now)
            scope.cancel()
            return _Reply()

    replies = []
    with anyio.CancelScope() as scope:
        replies.append(await MemoryTransport(Cancelling()).send(create_request()))
    assert (len(acted), replies) == (1, [])


# Streams and the end


async def test_a_stream_comes_in_pieces() -> None:
    body = bytes(150_000)
    async with MemoryTransport(lambda _: Response(200, {}, body)).stream(get("/x")) as streamed:
        assert [len(chunk) async for chunk in streamed.chunks()] == [65536, 65536, 18928]


async def test_the_error_of_a_cut_reply_holds_the_part_that_arrived() -> None:
    service = service_of(Fault("cut", "create"))
    with pytest.raises(MaybeSentError) as caught:
        await MemoryTransport(service).send(create_request())
    assert caught.value.partial.status == 200
    assert caught.value.partial.body.startswith(b'{"code"')


async def test_a_cut_stream_breaks_off_half_way() -> None:
    service = service_of(Fault("cut", "file"))
    transport = MemoryTransport(service)
    await transport.send(create_request())
    await anyio.sleep(10)
    path = f"/files/{service.ledger.entries[0].task_id}/0.png"
    seen: list[bytes] = []

    async def read() -> None:
        async with transport.stream(get(path)) as streamed:
            async for chunk in streamed.chunks():
                seen.append(chunk)

    with pytest.raises(MaybeSentError, match="broke off"):
        await read()
    assert b"".join(seen).startswith(b"\x89PNG")


async def test_a_request_after_aclose_raises() -> None:
    transport = MemoryTransport(lambda _: Response(200))
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        await transport.send(get("/x"))
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        async with transport.stream(get("/x")):
            pass
    assert repr(transport) == "<MemoryTransport: 0 sent, 0 on the wire, closed>"


async def test_a_slow_stream_ends_at_its_deadline() -> None:
    service = Service(EmulatorSettings(image=Durations(0.1), faults=[Fault("drip", "file", seconds=20)]))
    body = b'{"model": "google/nano-banana", "input": {"prompt": "a cat"}}'
    created = service.handle(
        ServiceRequest("POST", CREATE_PATH, {"authorization": "Bearer sk-emulated"}, body), 0.0
    )
    task = service.task(json.loads(created.body)["data"]["taskId"])
    assert task is not None
    (url,) = task.urls("http://emulated", 1)
    transport = MemoryTransport(service)
    await anyio.sleep(1)
    start = anyio.current_time()
    for timeout, error in ((30.0, None), (7.5, MaybeSentError)):
        received = 0
        with pytest.raises(error) if error else nullcontext():
            async with transport.stream(Request(method="GET", url=url, timeout=timeout)) as streamed:
                async for _ in streamed.chunks():
                    received += 1
        assert received >= 20 if error is None else received == 7
        assert anyio.current_time() - start >= 7.5
        start = anyio.current_time()
