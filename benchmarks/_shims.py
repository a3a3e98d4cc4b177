"""The emulator with the API of other services, so that their own clients meet the same quota.

Each shim has as much of that API as the client needs to create, poll and read a result. Limits, charges and
durations are the emulator's: a shim translates each request to one of Ruxa's, passes it to the `Service`, and
translates the reply. A rejection is a 429 with the service's own ``Retry-After``.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from aiohttp import web

from ruxa_async.emulator import Service, ServiceRequest
from ruxa_async.emulator._service import CREATE_PATH, QUERY_PATH

__all__ = ("SHIMS", "Shim", "serve_shim")

_STAMP = "2026-01-01T00:00:00.000Z"
_HELD = 60.0  # seconds that Replicate holds a create which asks it to wait


class Shim:
    """The API of another service for *service* at *url*; each reply takes *latency* seconds to arrive."""

    #: The end of the paths of queries; the group is the id.
    query: ClassVar[re.Pattern[str]]

    def __init__(self, service: Service, url: str, latency: float) -> None:
        self._service = service
        self._url = url
        self._latency = latency

    def create_body(self, task_id: str) -> dict[str, Any]:
        """Return the body of the reply to a create."""
        return self.state_body(task_id, "waiting", "")

    def state_body(self, task_id: str, state: str, path: str) -> dict[str, Any]:
        """Return the body of the reply to a query at *path*; *state* is one of Ruxa's."""
        raise NotImplementedError

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Reply to one request of the service's client."""
        arrived = time.monotonic()
        if request.method == "POST":
            prompt = _prompt(await request.read(), request.content_type)
            body = json.dumps({"model": "a-peer's-model", "input": {"prompt": prompt}}).encode()
            response = await self._created(request, self._handle("POST", CREATE_PATH, body, arrived))
        else:
            found = self.query.search(request.path)
            if found is None:
                return web.json_response({"detail": f"no such path: {request.path}"}, status=404)
            reply = self._handle("GET", QUERY_PATH + found[1], b"", arrived)
            response = _translated(
                reply, lambda data: self.state_body(data["taskId"], data["state"], request.path), 200
            )
        await asyncio.sleep(self._latency)
        return response

    async def _created(
        self, request: web.BaseRequest, reply: tuple[int, Mapping[str, str], Any]
    ) -> web.Response:
        del request
        return _translated(reply, lambda data: self.create_body(data["taskId"]), 201)

    def _handle(
        self, method: str, path: str, body: bytes, now: float
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        headers = {"authorization": f"Bearer {self._service.settings.key}"}
        reply = self._service.handle(ServiceRequest(method, path, headers, body), now)
        return reply.status, reply.headers, json.loads(reply.body)


def _translated(
    reply: tuple[int, Mapping[str, str], Any], body: Callable[[dict[str, Any]], dict[str, Any]], status: int
) -> web.Response:
    """Return *reply* with the body that *body* makes of its data, or as a rejection."""
    refused, headers, said = reply
    if refused != 200:
        kept = {name: value for name, value in headers.items() if name.lower() == "retry-after"}
        error = {"error": {"message": said["message"]}, "detail": said["message"]}
        return web.json_response(error, status=refused, headers=kept)
    return web.json_response(body(said["data"]), status=status)


def _prompt(body: bytes, content_type: str) -> str:
    """Return the prompt in the body of a create, from where any of the clients puts it."""
    if content_type.startswith("multipart/"):
        found = re.search(rb'name="prompt"\r\n\r\n(.*?)\r\n', body, re.DOTALL)
        assert found is not None
        return found[1].decode()
    said = json.loads(body)
    said = said.get("input", said)
    prompt: str = said.get("prompt") or said["promptText"]
    return prompt


class _Fal(Shim):
    query = re.compile(r"/requests/([^/]+)")
    _states: ClassVar[Mapping[str, str]] = {"waiting": "IN_QUEUE", "queuing": "IN_QUEUE"}

    def create_body(self, task_id: str) -> dict[str, Any]:
        base = f"{self._url}/fal-ai/flux/requests/{task_id}"
        urls = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
        return {"request_id": task_id, **urls}

    def state_body(self, task_id: str, state: str, path: str) -> dict[str, Any]:
        if not path.endswith("/status"):
            return {"images": [{"url": f"{self._url}/files/{task_id}/0.png"}]}
        status = "COMPLETED" if state == "success" else self._states.get(state, "IN_PROGRESS")
        return {"status": status, "request_id": task_id, "queue_position": 0, "logs": None}


class _Replicate(Shim):
    query = re.compile(r"^/v1/predictions/([^/]+)$")

    def state_body(self, task_id: str, state: str, path: str) -> dict[str, Any]:
        del path
        status = {"success": "succeeded", "generating": "processing"}.get(state, "starting")
        urls = {"get": f"{self._url}/v1/predictions/{task_id}"}
        output = [f"{self._url}/files/{task_id}/0.png"] if status == "succeeded" else None
        said = {"model": "an/image", "version": "hidden", "status": status, "output": output, "urls": urls}
        return {"id": task_id, "input": {}, "logs": "", "error": None, "created_at": _STAMP, **said}

    async def _created(
        self, request: web.BaseRequest, reply: tuple[int, Mapping[str, str], Any]
    ) -> web.Response:
        """Delay the reply to a create that asks to wait until its task has ended, which saves queries."""
        status, _, said = reply
        if status != 200 or "wait" not in request.headers.get("prefer", ""):
            return await super()._created(request, reply)
        task_id = said["data"]["taskId"]
        task = self._service.task(task_id)
        assert task is not None
        await asyncio.sleep(min(_HELD, max(0.0, task.ends - time.monotonic() + 0.001)))
        return _translated(reply, lambda _: self.state_body(task_id, task.state(time.monotonic()), ""), 201)


class _OpenAI(Shim):
    query = re.compile(r"^/v1/videos/([^/]+)$")

    def state_body(self, task_id: str, state: str, path: str) -> dict[str, Any]:
        del path
        status = {"success": "completed", "generating": "in_progress"}.get(state, "queued")
        video = {"model": "sora-2", "seconds": "4", "size": "720x1280", "progress": 0, "created_at": 0}
        return {"id": task_id, "object": "video", "status": status, **video}


class _Runway(Shim):
    query = re.compile(r"^/v1/tasks/([^/]+)$")

    def create_body(self, task_id: str) -> dict[str, Any]:
        return {"id": task_id}

    def state_body(self, task_id: str, state: str, path: str) -> dict[str, Any]:
        del path
        status = {"success": "SUCCEEDED", "generating": "RUNNING"}.get(state, "PENDING")
        task: dict[str, Any] = {"id": task_id, "createdAt": _STAMP, "status": status}
        if status == "SUCCEEDED":
            return {**task, "cost": {"credits": 5}, "output": [f"{self._url}/files/{task_id}/0.png"]}
        return {**task, "estimatedCost": {"credits": 5}, "progress": 0.5}


SHIMS: Mapping[str, type[Shim]] = {
    "fal": _Fal,
    "replicate": _Replicate,
    "openai": _OpenAI,
    "runwayml": _Runway,
}


async def serve_shim(
    shim: Shim, listener: socket.socket, stop: asyncio.Event, started: Callable[[], object]
) -> None:
    """Reply on *listener* by *shim* until *stop* is set; call *started* once."""
    connections = web.Server(shim.answer, handler_cancellation=True, access_log=None)
    server = await asyncio.get_running_loop().create_server(connections, sock=listener, backlog=2048)
    try:
        started()
        await stop.wait()
    finally:
        server.close()
        await connections.shutdown(0.05)
        await server.wait_closed()
