"""What a user may set, and why each default is what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, cast

from attrs import Attribute, field, frozen, validators

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


def _a_flag(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{attribute.name}={value!r} is not valid: True or False is needed")  # noqa: TRY004


@frozen
class RateLimit:
    """At most *count* requests in any *per* seconds, counted from when each answer came.

    *burst* of them may go back to back; the default is all of them, less if the service refuses that. With it the
    limit is the service's bucket, and requests count from when they left, so that no time is lost to trips. A limit that is told is kept exactly, so that
    nothing is refused; leave a rate out to have it found.
    """

    count: int = field(validator=_at_least_one)
    per: float = field(default=1.0, validator=_positive)
    burst: int | None = field(default=None, validator=validators.optional(_at_least_one))

    def __attrs_post_init__(self) -> None:
        if self.burst is not None and self.burst > self.count:
            raise ValueError(f"burst={self.burst} is not valid: it cannot exceed count={self.count}")


def _a_rate(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, RateLimit):
        raise ValueError(
            f"{attribute.name}={value!r} is not valid: a RateLimit(count, per) or None is needed"
        )


@frozen(kw_only=True)
class Limits:
    """How much may happen at once, for everything that one client does.

    *max_in_flight* bounds the tasks running at the service: 100, what the sibling service allows an account.
    *max_concurrent_creates* bounds the creates on the wire: 16, so that a kill leaves few unknowns, and at 0.5 s
    a create still makes 32 a second. *max_concurrent_queries* bounds the queries on the wire: 32, enough for
    several hundred a second. *create_rate* and *query_rate* are the account's own limits where they are known;
    None leaves the client to meet and respect them.
    """

    max_in_flight: int = field(default=100, validator=_at_least_one)
    max_concurrent_creates: int = field(default=16, validator=_at_least_one)
    max_concurrent_queries: int = field(default=32, validator=_at_least_one)
    create_rate: RateLimit | None = field(default=None, validator=_a_rate)
    query_rate: RateLimit | None = field(default=None, validator=_a_rate)


@frozen(kw_only=True)
class Polling:
    """When a running task is asked for its state.

    How long tasks of a model take is learned, and each is asked when asking is worth most. *min_interval* and
    *max_interval* bound the seconds between two queries of one task: 0.25, faster than any generation is worth, and
    30, so that nothing finished waits longer unseen. *price* is what one query is worth in seconds of lateness; None,
    the default, takes a few percent of what a task takes, which comes to five or six queries a task, and more while
    the limit on queries binds.
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
    """How long to keep trying; what may be tried again at all is not a setting.

    *max_retry_after*: a create told to wait longer than this many seconds raises `RateLimitedError`; 120, two of
    the longest windows seen. *throttled_timeout*: so does one that was only ever refused for its rate for so many
    seconds, or that found the service failing for so long; 600. *unreachable_timeout*: a create raises `NotSentError` when
    the service has never answered for this many seconds; None, the default, means *throttled_timeout*. *query_retry_timeout*: polling of a task stops after so many seconds without one good answer; 600,
    longer than an ordinary outage. (A refusal for the rate is waited out and costs no patience.) *resend_unknown*: send a create of unknown outcome again, up to three times.
    It may buy twice, so it is off, and nobody but the person who pays should turn it on.
    """

    max_retry_after: float = field(default=120.0, validator=_positive)
    throttled_timeout: float = field(default=600.0, validator=_positive)
    unreachable_timeout: float | None = field(default=None, validator=validators.optional(_positive))
    query_retry_timeout: float = field(default=600.0, validator=_positive)
    resend_unknown: bool = field(default=False, validator=_a_flag)


@frozen(kw_only=True)
class Timeouts:
    """Deadlines in seconds.

    *connect* covers DNS, TCP and TLS: 10. *create* covers a whole create: 120, long, because one that runs out
    is of unknown outcome. *query* covers a whole query: 30; another one follows. *create_drain*: how long leaving
    may wait for creates on the wire: 10. *callback_wait*: how long a create of unknown outcome is held for its
    callback before it surfaces, where a callback receiver is used: 60. *task*: how long to wait for one task by
    default, None for no limit.
    """

    connect: float = field(default=10.0, validator=_positive)
    create: float = field(default=120.0, validator=_positive)
    query: float = field(default=30.0, validator=_positive)
    create_drain: float = field(default=10.0, validator=_positive)
    callback_wait: float = field(default=60.0, validator=_positive)
    task: float | None = field(default=None, validator=validators.optional(_positive))


@frozen(kw_only=True)
class Downloads:
    """How outputs are fetched; each is tried again, and goes on where it was cut off if its server can do that.

    *max_concurrent* bounds the outputs that are fetched at once: 8, which fill an ordinary line and are no burden on one
    host. *max_bytes* bounds one output: 1 GiB, many times the longest video. *min_rate* is the least that has to come
    in bytes a second, measured over 30 s: 1,024, slower than any line that is any use. *timeout* bounds one output in
    seconds, with all attempts and pauses: 1,800, which is 200 MB at 1 Mbit/s. *allow_private* lets links lead to addresses that are
    not public: off, because a link is an address that somebody else chose. Links to the service's own host are
    always followed. A proxy looks names up by itself, so behind one only hosts that are given as numbers, and
    localhost, are refused here: what else it connects to is for the proxy to decide.
    """

    max_concurrent: int = field(default=8, validator=_at_least_one)
    max_bytes: int = field(default=1 << 30, validator=_at_least_one)
    min_rate: float = field(default=1024.0, validator=_positive)
    timeout: float = field(default=1800.0, validator=_positive)
    allow_private: bool = field(default=False, validator=_a_flag)


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _an_amount(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not _is_amount(value):
        raise ValueError(f"{attribute.name}={value!r} is not valid: a finite number of at least 0 is needed")


def _a_number_of_tasks(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{attribute.name}={value!r} is not valid: a whole number of at least 0 is needed")


def _copied(value: Mapping[str, float]) -> Mapping[str, float]:
    known = cast("object", value)  # what a type checker was promised is checked by the validator
    return dict(known) if isinstance(known, Mapping) else value


def _a_price_list(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004
            f"{attribute.name}={value!r} is not valid: {{model: credits}} is needed"
        )
    for model, price in value.items():
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"{attribute.name}: {model!r} is not valid: the id of a model is needed")
        if not _is_amount(price):
            raise ValueError(
                f"{attribute.name}: {price!r} for {model!r} is not valid: a finite number of at least 0 is needed"
            )


@frozen(kw_only=True)
class Budget:
    """What one client may spend: it stops buying before *max_tasks* or *max_credits* would be exceeded.

    Everything counts that was bought or may have been: creates on the wire, running tasks, tasks that failed after they
    were accepted, requests of unknown outcome. So does what the journal says that earlier runs bought, for each run that
    is gone on with (``as_completed(resume=)``, ``ruxa-async batch``); other runs of the same journal do not.

    *prices* says what a task of each model costs, in credits: give the dearest that you will ask for. It counts until the
    service reports what was charged; that figure counts then instead. A report above the price also raises what every
    other task of the model counts for, and one for a model without a price stands in for it: the service knows its
    prices better than any table. Without either, *max_credits* cannot be kept, so nothing of that model is bought.

    What does not fit is not sent: `submit` and `generate` raise `BudgetExceededError`, ``as_completed`` halts. 0 buys
    nothing and still sees running tasks to their end. Credits that the service gives back for a failed task are free
    again once it reports so. Raises ValueError for what is no limit or no price, and without any limit at all.
    """

    max_tasks: int | None = field(default=None, validator=_a_number_of_tasks)
    max_credits: float | None = field(default=None, validator=_an_amount)
    prices: Mapping[str, float] = field(factory=dict, converter=_copied, validator=_a_price_list, hash=False)

    def __attrs_post_init__(self) -> None:
        if self.max_tasks is None and self.max_credits is None:
            raise ValueError("a budget needs max_tasks or max_credits: without either it limits nothing")


def _a_name(_instance: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{attribute.name}={value!r} is not valid: a text that names the run is needed")


@frozen
class Resume:
    """How ``as_completed`` goes on with the run called *name* in the client's journal; its name alone will do as well.

    *retry_failed*: buy again what was bought and failed. *resend_unknown*: buy again what may have been charged; it may
    buy twice, so it is off, and nobody but the person who pays should turn it on. *on_match* is called for each request
    with its index and the `ruxa_async.journal.Match` that says what the journal knew of it, before its outcome.
    """

    name: str = field(validator=_a_name)
    retry_failed: bool = field(default=False, validator=_a_flag, kw_only=True)
    resend_unknown: bool = field(default=False, validator=_a_flag, kw_only=True)
    on_match: Callable[[int, Any], object] | None = field(default=None, kw_only=True, repr=False)


@frozen
class CallbackURL:
    """Ask the service to post to *url* when a task ends.

    *field* is the name it goes out under: the service's pages write both ``callback_url`` (newer) and
    ``callBackUrl`` (older).
    """

    url: str = field(validator=validators.matches_re(r"https?://[^\s/]\S*"))
    field: Literal["callback_url", "callBackUrl"] = field(
        default="callback_url", validator=validators.in_(("callback_url", "callBackUrl"))
    )
