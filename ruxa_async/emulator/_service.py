"""The Ruxa service without a clock or sockets: the caller passes each request with its time.

The order of the checks is that of an API gateway: key, rate, parameters, model, running tasks, credits. Only
then is a create charged.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import unquote

import anyio
import attrs
from attrs import frozen

from ._callbacks import CallbackPlan, CallbackPost
from ._dialects import Dialect
from ._faults import FaultPlan
from ._http import Incoming, ServiceReply
from ._ledger import Counts, KeptTask, Ledger, Purchase
from ._limit_state import Limiter, LimitState, QuotaStatus
from ._outputs import CONTENT_TYPES, placeholder
from ._rate_limit_headers import rate_limit_headers, retry_hint
from ._replies import Refusal, distort, error_reply, fault_reply, success_reply, task_fields
from ._settings import EmulatorSettings
from ._tasks import EmulatedTask, TaskMaker

__all__ = ("CREATE_PATH", "FILES_PATH", "QUERY_PATH", "Service", "post_callbacks")

CREATE_PATH = "/api/v1/tasks/create"
QUERY_PATH = "/api/v1/tasks/query/"
FILES_PATH = "/files/"

_NO_KEY = Refusal(401, "Unauthorized: the API key is missing or wrong")
_NO_PATH = Refusal(404, "Not found: there is no such endpoint")
_NO_TASK = Refusal(404, "Not found: there is no such task")
_NO_FILE = Refusal(404, "Not found: there is no such file")
_NOT_YET = {404: Refusal(404, "task not found"), 422: Refusal(422, "recordInfo is null")}
_METHODS = {"create": "POST", "query": "GET", "file": "GET"}


@frozen
class _Refused(Exception):  # noqa: N818 - it ends the handling of one request and never leaves this module
    refusal: Refusal


class Service:
    """One account at the emulated service, without clock or sockets: `handle` takes a request and the time.

    *ledger* lists what was charged, and *counts* the requests. *settings* are those of the account (default:
    `EmulatorSettings()`); *epoch* is the Unix time at which its clock reads 0. *past* holds the tasks that an
    earlier service charged to the account. *keep* is called with each task before it is charged; if it
    raises, nothing is charged and `handle` raises its error. The times in these tasks are Unix times.

    Use it from one thread, and with times that never decrease.
    """

    def __init__(
        self,
        settings: EmulatorSettings | None = None,
        *,
        past: Iterable[KeptTask] = (),
        keep: Callable[[KeptTask], object] = lambda _: None,
    ) -> None:
        settings = settings or EmulatorSettings()
        self.settings: EmulatorSettings = settings
        self.ledger: Ledger = Ledger()
        self.counts: Counts = Counts()
        self.epoch: float = 1_700_000_000.0 if settings.epoch is None else settings.epoch
        self._public_url: str = (settings.public_url or "https://emulator.test").rstrip("/")
        self._maker: TaskMaker = TaskMaker(settings, self.epoch)
        self._faults: FaultPlan = FaultPlan(settings.faults, settings.seed)
        self._tasks: dict[str, EmulatedTask] = {}
        self._ends: list[float] = []  # a heap of the times at which running tasks end
        creates = settings.creates.limiter() if settings.creates else None
        queries = settings.queries.limiter() if settings.queries else None
        self._limiters: dict[str, Limiter | None] = {
            "create": creates,
            "query": creates if settings.shared else queries,
        }
        self._keep: Callable[[KeptTask], object] = keep
        #: The scheduled callbacks, which `post_callbacks` sends.
        self.callbacks: CallbackPlan = CallbackPlan(settings, self.epoch, self.counts, self._fields)
        for kept in past:
            self._maker.skip()
            self._charge(kept.shifted(-self.epoch))

    def __repr__(self) -> str:
        return f"<Service: {self.ledger.charged} tasks charged, {self.ledger.credits_spent:g} credits spent>"

    @property
    def credits_left(self) -> float:
        """The balance of the account."""
        return self.settings.credits - self.ledger.credits_spent

    def running(self, now: float) -> int:
        """Return the number of tasks that run at *now*."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        return len(self._ends)

    def task(self, task_id: str) -> EmulatedTask | None:
        """Return the task with this id, None if there is none."""
        return self._tasks.get(task_id)

    def handle(self, request: Incoming, now: float) -> ServiceReply:
        """Return the reply to *request*, which arrives at *now* in seconds on the service's clock."""
        operation, rest = _route(request.path.partition("?")[0])
        if operation != "none":
            self._count(operation)
        struck = self._faults.before(operation, now)
        latency = self.settings.latency + sum(fault.seconds for fault in struck if fault.kind == "slow")
        fault = next((fault for fault in struck if fault.kind != "slow"), None)
        if struck:
            self.counts.faults += 1
        if fault is not None:
            reply = fault_reply(fault, self.settings.dialect, request.path)
        else:
            reply = self._serve(operation, rest, request, now)
        return attrs.evolve(reply, latency=latency) if latency else reply

    def _count(self, operation: str) -> None:
        name = {"create": "creates", "query": "queries", "file": "files"}[operation]
        setattr(self.counts, name, getattr(self.counts, name) + 1)

    def _serve(self, operation: str, rest: str, request: Incoming, now: float) -> ServiceReply:
        try:
            reply = self._answer(operation, rest, request, now)
        except _Refused as refused:
            return self._with_headers(operation, error_reply(self.settings.dialect, refused.refusal), now)
        reply = self._with_headers(operation, reply, now)
        fault = self._faults.after(operation, now)
        if fault is None:
            return reply
        self.counts.faults += 1
        return distort(fault, reply, self.settings.dialect)

    def _with_headers(self, operation: str, reply: ServiceReply, now: float) -> ServiceReply:
        form, false = self.settings.rate_limit_headers, self.settings.false_rate_limit_headers
        quota = None if form == "none" else self._quota(operation, now)
        if quota is None:
            return reply
        headers = rate_limit_headers(form, quota, self.epoch + now, false)
        return attrs.evolve(reply, headers={**headers, **reply.headers})

    def _quota(self, operation: str, now: float) -> QuotaStatus | None:
        limiter = self._limiters.get(operation)
        return limiter.quota(now) if isinstance(limiter, LimitState) else None

    def _answer(self, operation: str, rest: str, request: Incoming, now: float) -> ServiceReply:
        if operation == "none":
            raise _Refused(_NO_PATH)
        if request.method != _METHODS[operation]:
            raise _Refused(Refusal(405, f"Method not allowed: use {_METHODS[operation]}"))
        if operation == "file":
            return self._file(rest, now)
        if request.headers.get("authorization") != f"Bearer {self.settings.key}":
            raise _Refused(_NO_KEY)
        self._admit(operation, now)
        return self._create(request.body, now) if operation == "create" else self._query(unquote(rest), now)

    def _admit(self, operation: str, now: float) -> None:
        limiter = self._limiters[operation]
        wait = limiter.take(now) if limiter else 0.0
        if wait <= 0:
            return
        if operation == "create":
            self.counts.creates_throttled += 1
        else:
            self.counts.queries_throttled += 1
        shared = self.settings.shared or operation == "create"
        limit = self.settings.creates if shared else self.settings.queries
        quota = self._quota(operation, now)
        allowance = (quota.burst or quota.limit) if quota else limit.allowance if limit else 0
        headers, extra = retry_hint(self.settings.retry_after, wait, self.epoch + now, allowance)
        english, chinese = "Too many requests: slow down", "请求频率过高, 请稍后再试"
        status = self.settings.throttle_status
        raise _Refused(Refusal(status, english, chinese, vague=True, headers=headers, extra=extra))

    def _create(self, body: bytes, now: float) -> ServiceReply:
        model, given, callback = _read_create(body)
        price = self.settings.price(model, given)
        if price is None:
            chinese = f"未找到支持模型 {model} 的渠道"
            raise _Refused(Refusal(404, f"Model not found: {model}", chinese, vague=True))
        cap = self.settings.max_running
        if cap is not None and self.running(now) >= cap:
            self.counts.creates_throttled += 1
            self.counts.creates_capped += 1
            # Without Retry-After: a service does not know when a running task will end.
            english, chinese = f"Too many tasks are running: at most {cap}", "请求频率限制: 任务过多"
            raise _Refused(Refusal(self.settings.throttle_status, english, chinese, vague=True))
        if price > self.credits_left:
            need = f"{price:.2f} / {self.credits_left:.2f}"
            english, chinese = f"Insufficient credits: need / have {need}", f"积分不足, 需要 / 余额 {need}"
            raise _Refused(Refusal(402, english, chinese, vague=True))
        task = self._maker.make(model, given, price, now)
        kept = KeptTask(task, callback)
        self._keep(kept.shifted(self.epoch))
        self._charge(kept)
        dialect = self.settings.dialect
        return success_reply(dialect, {dialect.id_key: task.task_id})

    def _charge(self, kept: KeptTask) -> None:
        task = kept.task
        self._tasks[task.task_id] = task
        heapq.heappush(self._ends, task.ends)
        self.ledger.record(
            Purchase(
                task_id=task.task_id,
                model=task.model,
                input=task.input,
                credits=task.credits,
                at=task.created,
                callback=kept.callback,
            )
        )
        if kept.callback is not None:
            self.callbacks.plan(task, kept.callback)

    def _query(self, task_id: str, now: float) -> ServiceReply:
        dialect = self.settings.dialect
        task = self._tasks.get(task_id)
        if task is None:
            raise _Refused(_NO_TASK)
        if dialect.grace and now < task.created + dialect.grace_seconds:
            raise _Refused(_NOT_YET[dialect.grace])
        return success_reply(dialect, self._fields(task, dialect, now))

    def _fields(self, task: EmulatedTask, dialect: Dialect, now: float) -> dict[str, Any]:
        """Return the JSON fields of *task* at *now* in *dialect*."""
        state = task.state(now)
        urls = task.urls(self._public_url, self.settings.outputs) if state == "success" else ()
        fields = task_fields(dialect, task.task_id, state, urls)
        if state == "fail":
            fields[dialect.fail_key] = self.settings.fail_message
            if dialect.fail_code:
                fields["failCode"] = self.settings.fail_code
        return {**fields, **task.details(dialect, now, self.epoch)}

    def _file(self, rest: str, now: float) -> ServiceReply:
        segment, _, name = rest.partition("/")
        task = self._tasks.get(unquote(segment))
        place, _, suffix = name.partition(".")
        known = (
            task is not None
            and place.isdecimal()
            and int(place) < self.settings.outputs
            and suffix == task.suffix
        )
        if task is None or not known or task.state(now) != "success":
            raise _Refused(_NO_FILE)
        headers = {"content-type": CONTENT_TYPES[suffix]}
        body = placeholder(suffix, f"{task.task_id}/{place}")
        return ServiceReply(headers=headers, body=body, output=task.output(int(place)))


def _route(path: str) -> tuple[str, str]:
    """Return the operation of *path* (or "none") and the rest of the path, still percent-encoded."""
    if path == CREATE_PATH:
        return "create", ""
    for operation, prefix in (("query", QUERY_PATH), ("file", FILES_PATH)):
        rest = path.removeprefix(prefix)
        # A task id is one segment, so a slash in it must be percent-encoded.
        if rest and rest != path and (operation == "file" or "/" not in rest):
            return operation, rest
    return "none", ""


def _read_create(body: bytes) -> tuple[str, dict[str, Any], str | None]:
    """Return the model, input and callback address of a create, or raise _Refused if one is missing."""
    try:
        create = json.loads(body)
    except ValueError:
        raise _Refused(Refusal(422, "The body is not JSON")) from None
    if not isinstance(create, dict):
        raise _Refused(Refusal(422, "The body is not a JSON object"))
    model, given = create.get("model"), create.get("input")
    if not isinstance(model, str) or not model:
        raise _Refused(Refusal(422, "model is required"))
    if not isinstance(given, dict):
        raise _Refused(Refusal(422, "input is required"))
    if not isinstance(given.get("prompt"), str) or not given["prompt"].strip():
        raise _Refused(Refusal(422, "input.prompt is required"))
    callback = create.get("callback_url") or create.get("callBackUrl")
    return model, given, callback if isinstance(callback, str) else None


async def post_callbacks(service: Service, send: Callable[[CallbackPost], Awaitable[int]]) -> None:
    """Send the callbacks of *service* with *send* until this is cancelled.

    *send* returns the HTTP status of the reply, or raises OSError if there is none. Run this in the event
    loop that serves *service*, with the loop's time as its clock.
    """
    callbacks, clock = service.callbacks, anyio.current_time

    async def deliver(post: CallbackPost) -> None:
        try:
            status = await send(post)
        except OSError:
            status = 0
        if status // 100 != 2:
            callbacks.failed(post, clock())

    async with anyio.create_task_group() as tg:
        while True:
            changed = anyio.Event()
            callbacks.on_change = changed.set
            for post in callbacks.take(clock()):
                tg.start_soon(deliver, post)
            with anyio.CancelScope(deadline=callbacks.next_time()):
                await changed.wait()
