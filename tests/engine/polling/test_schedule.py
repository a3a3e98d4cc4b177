"""Tasks are polled when they likely end, by the samples of their model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async import Polling
from ruxa_async._engine.polling.schedule import PollingSchedule

NORMAL = NormalDist()


def durations(count: int, median: float, sigma: float) -> list[float]:
    """Return quantiles of the distribution, in an order that mixes short and long ones."""
    return [
        median * math.exp(sigma * NORMAL.inv_cdf((i * 0.6180339887498949 + 0.5) % 1))
        for i in range(1, count + 1)
    ]


def asked(polling: PollingSchedule, model: str | None, duration: float) -> list[float]:
    """Return the ages at which a task of *duration* is polled, the last one after its end."""
    ages = [polling.next_poll(model, 0.0)]
    while ages[-1] < duration:
        ages.append(polling.next_poll(model, ages[-1]))
    return ages


def taught(median: float = 10.0, sigma: float = 0.4, count: int = 200, **asking: float) -> PollingSchedule:
    polling = PollingSchedule(Polling(**asking))
    teach(polling, "m", durations(count, median, sigma))
    return polling


def teach(polling: PollingSchedule, model: str | None, some: list[float]) -> None:
    for duration in some:
        ages = [0.0, *asked(polling, model, duration)]
        polling.ended(model, ages[-2], ages[-1])


# ---- knowing nothing


def test_exploration_polls_are_at_ages_that_grow_by_13_percent() -> None:
    ages = asked(PollingSchedule(Polling()), "m", 10.0)
    assert [round(age, 2) for age in ages[:6]] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert all(later / age == pytest.approx(1.13) for age, later in pairwise(ages[8:]))
    assert len(ages) == 22


def test_four_tasks_explore_and_the_others_wait() -> None:
    polling = PollingSchedule(Polling())
    assert [polling.next_poll("m", 0.0) for _ in range(6)] == [0.25, 0.25, 0.25, 0.25, 30.0, 30.0]
    assert polling.next_poll("another", 0.0) == 0.25


def test_another_task_explores_a_step_of_age_that_lacks_polls() -> None:
    polling = PollingSchedule(Polling())
    assert [polling.next_poll("m", 10.0) for _ in range(5)] == pytest.approx([11.3] * 4 + [40.0])
    assert polling.next_poll("m", 11.3) == pytest.approx(11.3 * 1.13)


def test_an_old_task_is_polled_soon() -> None:
    polling = PollingSchedule(Polling())
    assert [polling.next_poll("m", 3600.0, 0.0) for _ in range(6)] == [3600.25] * 6
    assert taught().next_poll("m", 3600.0, 0.0) == 3600.25


def test_the_first_end_reschedules_waiting_queries() -> None:
    polling = PollingSchedule(Polling())
    assert polling.median("m") is None
    assert polling.next_poll("m", 0.0) == 0.25
    assert polling.median("m") is None
    assert polling.ended("m", 9.0, 10.0)
    assert 8.0 < polling.next_poll("m", 9.0) - 1.0 < 12.0
    assert 1.0 < polling.next_poll("m", 0.0) < 8.0
    assert polling.median("m") == pytest.approx(9.6, rel=0.1)
    assert polling.median("another") is None


def test_running_tasks_keep_the_first_end_from_becoming_the_median() -> None:
    alone, beside = PollingSchedule(Polling()), PollingSchedule(Polling())
    assert alone.ended("a-picture", 5.0, 5.5)
    assert beside.ended("a-picture", 5.0, 5.5, None, lambda: [5.0, 5.0, 5.0, 0.0])
    early, right = alone.median("a-picture"), beside.median("a-picture")
    assert early is not None
    assert right is not None
    assert right > 1.15 * early


def test_running_tasks_are_left_out_after_48_samples() -> None:
    asked_for = list[int]()

    def running() -> list[float]:
        asked_for.append(len(ended))
        return []

    polling, ended = PollingSchedule(Polling()), list[float]()
    for duration in durations(300, 10.0, 0.4):
        ended.append(duration)
        polling.ended("m", duration, duration, None, running)
    assert asked_for[:5] == [1, 2, 3, 4, 6]
    assert asked_for[-1] < 100


@pytest.mark.parametrize(
    ("model", "low", "high"),
    [
        ("google/nano-banana", 9.0, 11.0),
        ("a-video-model", 90.0, 130.0),
        ("sora-2", 90.0, 130.0),
        ("kling-image-to-video", 90.0, 130.0),
        ("wan2.2-i2v", 90.0, 130.0),
        ("swan", 20.0, 40.0),
        (None, 20.0, 40.0),
    ],
)
def test_the_prior_follows_from_the_name_of_the_model(model: str | None, low: float, high: float) -> None:
    polling = PollingSchedule(Polling())
    polling.ended(model, 0.0, 1e6)  # says almost nothing
    median = polling.median(model)
    assert median is not None
    assert low < median < high


# ---- knowing the law


def test_a_task_is_polled_five_or_six_times_around_its_likely_end() -> None:
    polling = taught()
    counts = [len(asked(polling, "m", duration)) for duration in durations(200, 10.0, 0.4)]
    assert 4.5 < sum(counts) / 200 < 6.0
    assert 4.0 < polling.next_poll("m", 0.0) < 8.0


@pytest.mark.parametrize(("median", "sigma"), [(10.0, 0.4), (10.0, 0.15), (120.0, 0.6)])
def test_the_median_is_found_from_the_intervals_between_its_own_queries(median: float, sigma: float) -> None:
    assert taught(median, sigma).median("m") == pytest.approx(median, rel=0.05)


def test_a_doubled_median_is_followed_within_a_hundred_tasks() -> None:
    polling = taught()
    teach(polling, "m", durations(100, 20.0, 0.4))
    assert polling.median("m") == pytest.approx(20.0, rel=0.2)
    teach(polling, "m", durations(100, 20.0, 0.4))
    assert polling.median("m") == pytest.approx(20.0, rel=0.1)


def test_a_halved_median_is_followed_within_a_hundred_tasks() -> None:
    polling = taught()
    teach(polling, "m", durations(200, 5.0, 0.4))
    assert polling.median("m") == pytest.approx(5.0, rel=0.15)


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_three_outliers_in_a_row_replace_the_fit(factor: float) -> None:
    polling = taught(sigma=0.15)
    new = 10.0 * factor
    news = [polling.ended("m", new, new, None, lambda: [new, 0.0]) for _ in range(3)]
    assert news == [False, False, True]
    assert polling.median("m") == pytest.approx(new, rel=0.15)


def test_one_outlier_changes_little() -> None:
    polling = taught(sigma=0.15)
    for _ in range(2):
        assert not polling.ended("m", 40.0, 40.0)
        polling.ended("m", 10.0, 10.0)
    assert polling.median("m") == pytest.approx(10.0, rel=0.1)


def test_reported_durations_are_used() -> None:
    polling = PollingSchedule(Polling())
    for _ in range(20):
        polling.ended("m", 5.0, 30.0, 10.0)
    assert polling.median("m") == pytest.approx(10.0, rel=0.01)


def test_models_are_learned_apart() -> None:
    polling = taught()
    teach(polling, "slow", durations(100, 60.0, 0.3))
    assert polling.median("m") == pytest.approx(10.0, rel=0.05)
    assert polling.median("slow") == pytest.approx(60.0, rel=0.05)


def test_waiting_queries_are_rescheduled_only_if_the_fit_moves() -> None:
    polling = PollingSchedule(Polling())
    news = [polling.ended("m", each, each) for each in durations(400, 10.0, 0.4)]
    assert news[0]
    assert sum(news[:100]) < 15
    assert sum(news[200:]) <= 1


def test_after_a_failed_query_the_plan_starts_from_the_last_pending_age() -> None:
    polling = taught()
    planned = polling.next_poll("m", 5.0)
    assert polling.next_poll("m", 6.0, pending_at=5.0) == max(planned, 6.25)
    assert polling.next_poll("m", 20.0, pending_at=5.0) == 20.25


def test_a_task_far_beyond_the_distribution_is_polled_less_and_less_often() -> None:
    polling = taught(max_interval=1e6)
    gaps = [polling.next_poll("m", age) - age for age in (100.0, 1000.0, 1e4, 1e5)]
    assert all(later > 3 * gap for gap, later in pairwise(gaps))
    assert taught().next_poll("m", 1e5) == 1e5 + 30.0


def test_failures_teach_until_a_task_succeeds() -> None:
    polling = PollingSchedule(Polling())
    for _ in range(8):
        polling.ended("m", 1.9, 2.1, succeeded=False)
    assert polling.median("m") == pytest.approx(2.0, rel=0.1)
    assert polling.next_poll("m", 0.0) < 3.0
    polling.ended("m", 59.0, 61.0)
    assert polling.median("m") == pytest.approx(40.0, rel=0.5)  # between the prior and the success
    before = polling.median("m")
    assert not polling.ended("m", 1.9, 2.1, succeeded=False)
    assert polling.median("m") == before


def test_failures_do_not_change_a_loaded_distribution() -> None:
    polling = PollingSchedule(Polling())
    polling.load({"m": {"mu": math.log(60.0), "sigma": 0.3}})
    before = polling.median("m")
    for _ in range(8):
        assert not polling.ended("m", 1.9, 2.1, succeeded=False)
    assert polling.median("m") == before


def test_an_infinite_duration_is_ignored() -> None:
    polling = PollingSchedule(Polling())
    assert not polling.ended("m", 0.0, math.inf)
    assert not polling.ended("m", math.nan, 1.0)
    assert polling.median("m") is None


# ---- the price


def test_a_price_in_seconds_is_taken_as_it_is() -> None:
    few, many = taught(price=3.0), taught(price=0.03)
    assert len(asked(few, "m", 15.0)) <= 3
    assert len(asked(many, "m", 15.0)) >= 10
    assert PollingSchedule(Polling(price=0.5)).price == 1.0


def test_the_price_rises_with_late_queries_and_falls_with_punctual_ones_within_1_and_30() -> None:
    polling = PollingSchedule(Polling())
    polling.on_poll(late=False)
    assert polling.price == 1.0
    polling.on_poll(late=True)
    assert polling.price == 1.04
    polling.on_poll(late=False)
    assert polling.price == 1.04 / 1.01
    for _ in range(200):
        polling.on_poll(late=True)
    assert polling.price == 30.0
    for _ in range(400):
        polling.on_poll(late=False)
    assert polling.price == 1.0


def test_the_price_stays_where_one_query_in_five_is_late() -> None:
    polling = PollingSchedule(Polling())
    for i in range(500):
        polling.on_poll(late=i % 5 == 0 or i < 20)
    assert 1.5 < polling.price < 4.0


def test_late_queries_thin_out_the_polls() -> None:
    polling = taught()
    before = len(asked(polling, "m", 15.0))
    for _ in range(60):
        polling.on_poll(late=True)
    dear = len(asked(polling, "m", 15.0))
    for _ in range(400):
        polling.on_poll(late=False)
    assert dear <= before / 2
    assert len(asked(polling, "m", 15.0)) == before


# ---- from run to run


def test_a_loaded_distribution_fades() -> None:
    written = json.dumps(taught().export())
    polling = PollingSchedule(Polling())
    polling.load(json.loads(written))
    assert polling.median("m") == pytest.approx(10.0, rel=0.05)
    assert 4.0 < polling.next_poll("m", 0.0) < 8.0
    teach(polling, "m", durations(60, 40.0, 0.3))
    assert polling.median("m") == pytest.approx(40.0, rel=0.2)


def test_samples_before_a_load_count_more() -> None:
    polling = PollingSchedule(Polling())
    teach(polling, "m", durations(100, 40.0, 0.3))
    polling.load(taught().export())
    assert polling.median("m") == pytest.approx(40.0, rel=0.1)


def test_models_without_name_or_fit_are_not_exported() -> None:
    polling = PollingSchedule(Polling())
    polling.ended(None, 1.0, 2.0)
    polling.next_poll("m", 0.0)
    assert polling.export() == {}


@pytest.mark.parametrize("mu", [math.nan, math.inf, 1e300])
def test_a_damaged_export_is_ignored(mu: float) -> None:
    polling = PollingSchedule(Polling())
    polling.load({"m": {"mu": mu, "sigma": 1.0}})
    assert polling.median("m") is None


# ---- random sequences

AGES = st.floats(0.0, 1e9) | st.floats(0.0, 60.0)
MODELS = st.sampled_from(["m", "sora-2", None])
GAPS = st.floats(1e-3, 1e4)
Event = Callable[[PollingSchedule], object]


def ending(model: str | None, low: float, high: float, exact: float | None, running: list[float]) -> Event:
    return lambda polling: polling.ended(model, low, high, exact, lambda: running)


def leaving(count: int, late: bool) -> Event:
    def leave(polling: PollingSchedule) -> None:
        for _ in range(count):
            polling.on_poll(late=late)

    return leave


EXACT = st.none() | st.floats() | AGES
EVENTS = st.lists(
    st.builds(ending, MODELS, AGES, AGES, EXACT, st.lists(AGES, max_size=4))
    | st.builds(lambda m, at: ending(m, at, at, None, []), MODELS, AGES)
    | st.builds(ending, MODELS, st.floats(), st.floats(), st.floats(), st.lists(st.floats(), max_size=2))
    | st.builds(leaving, st.integers(1, 60), st.booleans()),
    max_size=12,
)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(
    bounds=st.tuples(GAPS, GAPS),
    price=st.none() | st.floats(1e-6, 1e300),
    events=EVENTS,
    model=MODELS,
    age=AGES,
    back=AGES,
)
def test_every_poll_is_within_the_allowed_intervals(
    bounds: tuple[float, float],
    price: float | None,
    events: list[Event],
    model: str | None,
    age: float,
    back: float,
) -> None:
    asking = Polling(min_interval=min(bounds), max_interval=max(bounds), price=price)
    polling = PollingSchedule(asking)
    for event in events:
        event(polling)
    earliest, latest = age + asking.min_interval, age + asking.max_interval
    assert earliest <= polling.next_poll(model, age, 0.0) <= latest
    assert earliest <= polling.next_poll(model, age) <= latest
    assert earliest <= polling.next_poll(model, age, max(age - back, 0.0)) <= latest
    median = polling.median(model)
    assert median is None or 1e-3 < 1.1 * median < 1.2e9


@settings(max_examples=100, deadline=None)
@given(events=EVENTS, model=MODELS, duration=st.floats(0.0, 2000.0))
def test_every_end_is_detected_within_a_bounded_number_of_queries(
    events: list[Event], model: str | None, duration: float
) -> None:
    polling = PollingSchedule(Polling())
    for event in events:
        event(polling)
    ages = asked(polling, model, duration)
    assert ages[-1] - duration <= 30.0
    assert len(ages) <= 2 + duration / 0.25


def test_the_cache_of_shapes_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ruxa_async._engine.polling.schedule._MAX_SHAPES", 2)
    polling = PollingSchedule(Polling())
    polling.load({f"m{i}": {"mu": 2.0, "sigma": 0.1 * 2.0**i} for i in range(4)})
    firsts = [polling.next_poll(f"m{i}", 0.0) for i in range(4)]
    assert len(polling._shapes) == 2
    assert firsts == sorted(firsts, reverse=True)  # the larger sigma, the sooner the first poll
