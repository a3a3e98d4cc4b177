"""The settings of a client. Each docstring gives the unit and default of every field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, cast

from attrs import Attribute, field, frozen, validators

from ._price_list import parse_price_key

__all__ = (
    "Budget",
    "CallbackURL",
    "Downloads",
    "Limits",
    "Polling",
    "RateLimit",
    "Resume",
    "Retries",
    "Scope",
    "Timeouts",
)

#: What a rate limit applies to.
Scope: TypeAlias = Literal["create", "query"]


def _positive(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{attribute.name}={value!r} is not valid: a finite number above 0 is needed")


def _at_least_one(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{attribute.name}={value!r} is not valid: a whole number of at least 1 is needed")


def _flag(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{attribute.name}={value!r} is not valid: True or False is needed")  # noqa: TRY004


@frozen
class RateLimit:
    """A rate limit of the account: *count* requests in any *per* seconds (1).

    Without *burst* it is a sliding window, and a request counts from its response. With *burst* it is a token
    bucket of that size, refilled at *count*/*per*, and a request counts from when it is sent, so that latency
    costs no throughput. A configured limit is never exceeded. Raises ValueError if *burst* is above *count*.
    """

    count: int = field(validator=_at_least_one)
    per: float = field(default=1.0, validator=_positive)
    burst: int | None = field(default=None, validator=validators.optional(_at_least_one))

    def __attrs_post_init__(self) -> None:
        if self.burst is not None and self.burst > self.count:
            raise ValueError(f"burst={self.burst} is not valid: it cannot exceed count={self.count}")


def _rate_limit(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, RateLimit):
        raise ValueError(
            f"{attribute.name}={value!r} is not valid: a RateLimit(count, per) or None is needed"
        )


@frozen(kw_only=True)
class Limits:
    """The concurrency and rate limits of one client.

    *max_in_flight* bounds the tasks that run at the service (100, the limit of a similar service). A create
    of unknown outcome does not count, though its task may run.
    *max_concurrent_creates* bounds the creates on the wire (16: a crash leaves at most that many unknown, and
    at 0.5 s each they make 32 a second). *max_concurrent_queries* bounds the queries on the wire (32).
    *create_rate* and *query_rate* are the account's rate limits; None, the default, discovers them from the
    service's responses.
    """

    max_in_flight: int = field(default=100, validator=_at_least_one)
    max_concurrent_creates: int = field(default=16, validator=_at_least_one)
    max_concurrent_queries: int = field(default=32, validator=_at_least_one)
    create_rate: RateLimit | None = field(default=None, validator=_rate_limit)
    query_rate: RateLimit | None = field(default=None, validator=_rate_limit)


@frozen(kw_only=True)
class Polling:
    """When running tasks are polled.

    The client learns how long tasks of each model take, and polls at the times that cost least.
    *min_interval* (0.25) and *max_interval* (30) bound the seconds between two queries for one task. *price*
    is the cost of one query in seconds of delay: a higher price means fewer queries. None, the default, takes
    a few percent of the task's duration, which gives five or six queries a task, and fewer while the query
    rate limit binds.
    """

    min_interval: float = field(default=0.25, validator=_positive)
    max_interval: float = field(default=30.0, validator=_positive)
    price: float | None = field(default=None, validator=validators.optional(_positive))

    def __attrs_post_init__(self) -> None:
        if self.max_interval < self.min_interval:
            raise ValueError(
                f"max_interval={self.max_interval} is not valid: it is below min_interval={self.min_interval}"
            )


@frozen(kw_only=True)
class Retries:
    """How long failed requests are retried, in seconds.

    *max_retry_after* (120): a create raises `RateLimitedError` if the service asks it to wait longer.
    *throttled_timeout* (600): so does a create that was rejected (429), or found the service failing, for
    this long. *unreachable_timeout* (None: as *throttled_timeout*): a create raises `NotSentError` if the
    service has not responded even once for this long. *query_retry_timeout* (600): polling of a task stops
    with `PollingStoppedError` after this long without a usable response; rejections (429) do not count.
    *resend_unknown* (False): send a create of unknown outcome again, up to three times. This may buy twice,
    so only the person who pays should turn it on.
    """

    max_retry_after: float = field(default=120.0, validator=_positive)
    throttled_timeout: float = field(default=600.0, validator=_positive)
    unreachable_timeout: float | None = field(default=None, validator=validators.optional(_positive))
    query_retry_timeout: float = field(default=600.0, validator=_positive)
    resend_unknown: bool = field(default=False, validator=_flag)


@frozen(kw_only=True)
class Timeouts:
    """Timeouts in seconds.

    *connect* (10) covers DNS, TCP and TLS. *create* (120) covers a whole create; it is long because the
    outcome is unknown when it expires. *query* (30) covers a whole query, which is repeated. *create_drain*
    (10) bounds the wait for creates on the wire when the client is left. *callback_wait* (60) bounds the wait
    for the callback of a create of unknown outcome, if there is a callback receiver. *task* (None: no limit)
    bounds the wait for one task.
    """

    connect: float = field(default=10.0, validator=_positive)
    create: float = field(default=120.0, validator=_positive)
    query: float = field(default=30.0, validator=_positive)
    create_drain: float = field(default=10.0, validator=_positive)
    callback_wait: float = field(default=60.0, validator=_positive)
    task: float | None = field(default=None, validator=validators.optional(_positive))


@frozen(kw_only=True)
class Downloads:
    """How outputs are downloaded. Failed downloads are retried, and resume where they stopped if possible.

    *max_concurrent* (8) bounds the simultaneous downloads, and *max_bytes* (1 GiB) the size of one output.
    *min_rate* (1,024) is the minimum rate in bytes a second, averaged over 30 s. *timeout* (1,800) bounds one
    output in seconds, with all attempts and pauses; it suffices for 200 MB at 1 Mbit/s. *allow_private*
    (False) allows links to private addresses; links to the service's own host are always allowed. A proxy
    resolves names itself, so behind one only numeric private addresses and localhost are refused.
    """

    max_concurrent: int = field(default=8, validator=_at_least_one)
    max_bytes: int = field(default=1 << 30, validator=_at_least_one)
    min_rate: float = field(default=1024.0, validator=_positive)
    timeout: float = field(default=1800.0, validator=_positive)
    allow_private: bool = field(default=False, validator=_flag)


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _amount(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not _is_amount(value):
        raise ValueError(f"{attribute.name}={value!r} is not valid: a finite number of at least 0 is needed")


def _task_count(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{attribute.name}={value!r} is not valid: a whole number of at least 0 is needed")


def _copied(value: Mapping[str, float]) -> Mapping[str, float]:
    known = cast("object", value)  # the validator checks what type checkers assume
    return dict(known) if isinstance(known, Mapping) else value


def _price_list(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004
            f"{attribute.name}={value!r} is not valid: {{model: credits}} is needed"
        )
    for key, price in value.items():
        if not isinstance(key, str):
            raise ValueError(f"{attribute.name}: {key!r} is not valid: the id of a model is needed")  # noqa: TRY004
        try:
            parse_price_key(key)
        except ValueError as error:
            raise ValueError(f"{attribute.name}: {error}") from None
        if not _is_amount(price):
            raise ValueError(
                f"{attribute.name}: {price!r} for {key!r} is not valid: "
                "a finite number of at least 0 is needed"
            )


@frozen(kw_only=True)
class Budget:
    """The most that one client may spend: *max_tasks* tasks and *max_credits* credits (None: no limit).

    All tasks count that were or may have been bought: creates on the wire, running tasks, tasks that failed
    after they were accepted, and creates of unknown outcome. A resumed run (``as_completed(resume=)``,
    ``ruxa-async batch``) also counts what the journal says it bought earlier; other runs of the journal do
    not count.

    *prices* maps each model to the credits of its most expensive task that you will request. A key may add
    parameters, separated by commas: ``{"google/nano-banana-pro": 12,
    "google/nano-banana-pro[resolution=4k]": 24}``. The price with the most matching parameters counts, among
    equals the highest one. A parameter that the request leaves out matches no value.

    A price counts until the service reports the actual charge. A charge above the price raises it for all
    tasks that it is for, and a charge without a price becomes the price of the model, or of the model with
    the same values of the parameters that *prices* names for it. With *max_credits*, tasks without a price
    are not bought.

    A request that does not fit is not sent: `submit` and `generate` raise `BudgetExceededError`, and
    ``as_completed`` halts. With 0 nothing is bought, but running tasks are followed to their end. Refunds for
    failed tasks can be spent again once the service reports them. Raises ValueError for an invalid limit or
    price, and without any limit.
    """

    max_tasks: int | None = field(default=None, validator=_task_count)
    max_credits: float | None = field(default=None, validator=_amount)
    prices: Mapping[str, float] = field(factory=dict, converter=_copied, validator=_price_list, hash=False)

    def __attrs_post_init__(self) -> None:
        if self.max_tasks is None and self.max_credits is None:
            raise ValueError("a budget needs max_tasks or max_credits: without either it limits nothing")


def _run_name(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{attribute.name}={value!r} is not valid: a text that names the run is needed")


@frozen
class Resume:
    """How ``as_completed`` resumes the run *name* of the client's journal; the name alone may be passed too.

    *retry_failed* (False): buy tasks that failed again. *resend_unknown* (False): buy creates of unknown
    outcome again. This may buy twice, so only the person who pays should turn it on. *on_match* (None) is
    called for each request, before its outcome, with its index and the `ruxa_async.journal.Match` from the
    journal.
    """

    name: str = field(validator=_run_name)
    retry_failed: bool = field(default=False, validator=_flag, kw_only=True)
    resend_unknown: bool = field(default=False, validator=_flag, kw_only=True)
    on_match: Callable[[int, Any], object] | None = field(default=None, kw_only=True, repr=False)


@frozen
class CallbackURL:
    """Ask the service to post to *url* when a task ends.

    *field* is its name in the request: ``callback_url`` (the default) or ``callBackUrl``, as older
    documentation of the service has it.
    """

    url: str = field(validator=validators.matches_re(r"https?://[^\s/]\S*"))
    field: Literal["callback_url", "callBackUrl"] = field(
        default="callback_url", validator=validators.in_(("callback_url", "callBackUrl"))
    )
