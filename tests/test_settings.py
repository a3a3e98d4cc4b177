"""Settings have the defaults that their docstrings argue for, and refuse what makes no sense."""

from __future__ import annotations

import pickle
import re
from typing import Any

import attrs
import pytest

from ruxa_async import Budget, CallbackURL, Downloads, Limits, Polling, RateLimit, Retries, Timeouts
from ruxa_async._price_list import PriceList

FINITE = "a finite number above 0 is needed"
WHOLE = "a whole number of at least 1 is needed"
INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("made", "defaults"),
    [
        (
            Limits(),
            {
                "max_in_flight": 100,
                "max_concurrent_creates": 16,
                "max_concurrent_queries": 32,
                "create_rate": None,
                "query_rate": None,
            },
        ),
        (Polling(), {"min_interval": 0.25, "max_interval": 30.0, "price": None}),
        (
            Retries(),
            {
                "max_retry_after": 120.0,
                "throttled_timeout": 600.0,
                "unreachable_timeout": None,
                "query_retry_timeout": 600.0,
                "resend_unknown": False,
            },
        ),
        (
            Timeouts(),
            {
                "connect": 10.0,
                "create": 120.0,
                "query": 30.0,
                "create_drain": 10.0,
                "callback_wait": 60.0,
                "task": None,
            },
        ),
        (
            Downloads(),
            {
                "max_concurrent": 8,
                "max_bytes": 1 << 30,
                "min_rate": 1024.0,
                "timeout": 1800.0,
                "allow_private": False,
            },
        ),
        (RateLimit(20), {"count": 20, "per": 1.0, "burst": None}),
        (
            CallbackURL("https://me.example/hook"),
            {"url": "https://me.example/hook", "field": "callback_url"},
        ),
    ],
)
def test_the_defaults_are_what_the_docstrings_say(made: Any, defaults: dict[str, object]) -> None:
    assert attrs.asdict(made) == defaults


@pytest.mark.parametrize("cls", [Limits, Polling, Retries, Timeouts])
def test_each_default_is_stated_in_the_docstring(cls: Any) -> None:
    numbers = [value for value in attrs.asdict(cls()).values() if type(value) in (int, float)]
    assert numbers
    assert [value for value in numbers if f"{value:g}" not in cls.__doc__] == []


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        *((Limits, name) for name in ("max_in_flight", "max_concurrent_creates", "max_concurrent_queries")),
        *((Downloads, name) for name in ("max_concurrent", "max_bytes")),
        (RateLimit, "count"),
        (RateLimit, "burst"),
    ],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "3", True, NAN, [1]])
def test_a_count_is_a_whole_number(cls: Any, name: str, value: object) -> None:
    fields = {"count": 10, name: value} if cls is RateLimit else {name: value}
    with pytest.raises(ValueError) as caught:
        cls(**fields)
    assert str(caught.value) == f"{name}={value!r} is not valid: {WHOLE}"


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (RateLimit, "per"),
        *((Polling, name) for name in ("min_interval", "max_interval", "price")),
        *((Retries, name) for name in ("max_retry_after", "throttled_timeout", "query_retry_timeout")),
        *(
            (Timeouts, name)
            for name in ("connect", "create", "query", "create_drain", "callback_wait", "task")
        ),
    ],
)
@pytest.mark.parametrize("value", [0, -1, -0.5, INF, -INF, NAN, "3", True, [1]])
def test_a_time_is_a_finite_number_above_zero(cls: Any, name: str, value: object) -> None:
    fields = {"count": 10, name: value} if cls is RateLimit else {name: value}
    with pytest.raises(ValueError) as caught:
        cls(**fields)
    assert str(caught.value) == f"{name}={value!r} is not valid: {FINITE}"


@pytest.mark.parametrize("cls", [Limits, Polling, Retries, Timeouts])
def test_settings_are_given_by_name(cls: Any) -> None:
    with pytest.raises(TypeError):
        cls(1)


def test_a_burst_cannot_exceed_the_count() -> None:
    assert RateLimit(10, 1, 10).burst == 10
    with pytest.raises(ValueError) as caught:
        RateLimit(10, 1, 11)
    assert str(caught.value) == "burst=11 is not valid: it cannot exceed count=10"


def test_the_intervals_of_polling_are_in_order() -> None:
    assert Polling(min_interval=5, max_interval=5).max_interval == 5
    with pytest.raises(ValueError) as caught:
        Polling(min_interval=5, max_interval=2)
    assert str(caught.value) == "max_interval=2 is not valid: it is below min_interval=5"


@pytest.mark.parametrize("name", ["create_rate", "query_rate"])
@pytest.mark.parametrize("value", [5, 0.5, "5/s", (5, 1)])
def test_a_rate_is_a_rate_limit(name: str, value: object) -> None:
    fields: Any = {name: value}
    with pytest.raises(ValueError) as caught:
        Limits(**fields)
    assert str(caught.value) == f"{name}={value!r} is not valid: a RateLimit(count, per) or None is needed"


@pytest.mark.parametrize("value", ["no", "false", 1, 0, None])
def test_buying_again_is_switched_on_by_true_alone(value: Any) -> None:
    assert Retries(resend_unknown=True).resend_unknown
    with pytest.raises(ValueError) as caught:
        Retries(resend_unknown=value)
    assert str(caught.value) == f"resend_unknown={value!r} is not valid: True or False is needed"


@pytest.mark.parametrize("url", ["https://me.example", "http://127.0.0.1:8000/hook?job=1", "https://[::1]/x"])
def test_a_callback_goes_to_an_http_address(url: str) -> None:
    assert CallbackURL(url).url == url


@pytest.mark.parametrize(
    "url", ["", "me.example/hook", "ftp://me.example", "https:///hook", "https://a b", "https://"]
)
def test_a_callback_goes_nowhere_else(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        CallbackURL(url)


def test_a_callback_has_one_of_two_names() -> None:
    assert CallbackURL("https://me.example", "callBackUrl").field == "callBackUrl"
    wrong: Any = "callbackUrl"
    with pytest.raises(ValueError, match=r"'field' must be in \('callback_url', 'callBackUrl'\)"):
        CallbackURL("https://me.example", wrong)


@pytest.mark.parametrize(
    "made",
    [
        Limits(create_rate=RateLimit(20, 10, 5)),
        Polling(),
        Retries(),
        Timeouts(task=60),
        CallbackURL("https://me.example"),
    ],
)
def test_settings_are_values(made: Any) -> None:
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(attrs.evolve(made)) == hash(made)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, attrs.fields(type(made))[0].name, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "needs max_tasks or max_credits"),
        ({"prices": {"a": 1}}, "needs max_tasks or max_credits"),
        ({"max_tasks": -1}, "max_tasks=-1 is not valid: a whole number of at least 0"),
        ({"max_tasks": 2.0}, "max_tasks=2.0"),
        ({"max_tasks": True}, "max_tasks=True"),
        ({"max_credits": -0.5}, "max_credits=-0.5"),
        ({"max_credits": float("nan")}, "max_credits=nan"),
        ({"max_credits": float("inf")}, "max_credits=inf"),
        ({"max_credits": "10"}, "max_credits='10'"),
        ({"max_tasks": 1, "prices": [("a", 1)]}, "{model: credits} is needed"),
        ({"max_tasks": 1, "prices": {"": 1}}, "the id of a model is needed"),
        ({"max_tasks": 1, "prices": {5: 1}}, "5 is not valid: the id of a model is needed"),
        *(
            (
                {"max_tasks": 1, "prices": {key: 1}},
                f"prices: {key!r} is not valid: the id of a model is needed",
            )
            for key in (
                "a[]",
                "a[4k]",
                "a[size=]",
                "a[=4k]",
                "a[size=4k",
                "a[b=1,b=2]",
                "[b=1]",
                "a [b=1]",
                "a[b=c=d]",
            )
        ),
        ({"max_tasks": 1, "prices": {"a": -1}}, "-1 for 'a' is not valid"),
        ({"max_tasks": 1, "prices": {"a": float("nan")}}, "nan for 'a' is not valid"),
    ],
)
def test_a_budget_that_limits_nothing_or_cannot_be_kept_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Budget(**wrong)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "a"),
        ({"size": "1k"}, "a"),
        ({"size": "4k"}, "a[size=4k]"),
        ({"size": " 4K "}, "a[size=4k]"),
        ({"size": ["4k"]}, "a"),
        ({"size": "4k", "seconds": "10"}, "a[size=4k, seconds=10]"),
        ({"size": "4K", "seconds": 10.0}, "a[size=4k, seconds=10]"),
        ({"seconds": 10}, "a[seconds=10]"),
        ({"seconds": 10.5}, "a"),
        ({"seconds": 10**400}, "a"),
        ({"hd": True, "size": "4k"}, "a[hd=true]"),  # dearer than a[size=4k]
        ({"hd": 1}, "a"),
    ],
)
def test_the_price_with_the_most_matching_parameters_counts(given: dict[str, Any], key: str) -> None:
    keys = ("a", "a[size=4k]", "a[hd=true]", "a[seconds=10]", "a[size=4k, seconds=10]")
    assert PriceList({key: price for price, key in enumerate(keys)}).key_of("a", given) == key


def test_without_a_matching_price_the_key_names_what_prices_name() -> None:
    prices = PriceList({"a[size=4k]": 2, "a[hd=true]": 3, "b": 1})
    assert prices.key_of("a", {"size": "2K", "prompt": "x"}) == "a[size=2k]"
    assert prices.key_of("a", {"size": "2k", "hd": False}) == "a[hd=false,size=2k]"
    assert prices.key_of("a", {"size": "4k,hd=true]"}) == 'a[size="4k,hd=true]"]'
    assert prices.key_of("a", {"prompt": "x"}) == "a"
    assert prices.key_of("b", {"size": "4k"}) == "b"
    assert prices.key_of("c", {"size": "4k"}) == "c"
    assert (prices.has_parameters("a"), prices.has_parameters("b")) == (True, False)


def test_a_budget_keeps_its_own_prices_and_may_be_of_nothing() -> None:
    prices = {"a": 1}
    budget = Budget(max_tasks=0, prices=prices)
    prices["a"] = 2
    assert budget.prices == {"a": 1}
    assert len({budget, Budget(max_tasks=0, prices={"a": 1})}) == 1
