"""Random limits: their draws, the ideal time under them, and the judgement of a client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from benchmarks._draws import DISTURBANCES, FAMILIES, NAMED, REPORTING, TUNING, Draw, draw
from benchmarks._harness import Options
from benchmarks._ideal import ideal, schedule
from benchmarks._judge import batch, judged, patience, report, run
from benchmarks._outcomes import Outcome, baseline
from benchmarks._quota import KEY, Account, Quota
from benchmarks._recovery import recovered_after
from benchmarks._verdict import percentile, seeds_of, verdict
from benchmarks._virtual import StallingLoop, VaryingTransport
from ruxa_async.emulator import Changing, FixedWindow, ServiceRequest, SlidingWindow, TokenBucket
from ruxa_async.emulator._service import CREATE_PATH
from ruxa_async.transports import Request

ROOT = Path(__file__).parents[1]
BODY = json.dumps({"model": "google/nano-banana", "input": {"prompt": "p"}}).encode()
HEADERS = {"authorization": f"Bearer {KEY}"}


def bucket(rate: float, burst: int, **more: Any) -> Draw:
    return Draw(seed=0, family="bucket", limit=TokenBucket(rate, burst), rate=rate, burst=burst, **more)


# ---- draws


def test_equal_seeds_give_equal_draws_and_different_seeds_different_ones() -> None:
    assert [draw(seed) for seed in range(20)] == [draw(seed) for seed in range(20)]
    assert len({str(draw(seed)) for seed in range(200)}) == 200


def test_seeds_for_tuning_and_for_reporting_do_not_overlap() -> None:
    assert not set(TUNING) & set(REPORTING)
    assert seeds_of(Options(seed="tuning"), 5) == (range(5), "TUNING")
    assert seeds_of(Options(), 5) == (range(REPORTING.start, REPORTING.start + 5), "REPORTING")
    assert seeds_of(Options(seed="7"), 5) == (range(7, 12), "TUNING")
    assert seeds_of(Options(seed="9999"), 5)[1].startswith("neither")


def test_draws_have_the_intended_shares_of_each_kind() -> None:
    draws = [draw(seed) for seed in range(2000)]
    families = Counter(each.family for each in draws)
    disturbances = Counter(each.disturbance for each in draws)
    hints = Counter(each.hint for each in draws)
    assert all(0.2 < families[family] / len(draws) < 0.3 for family in FAMILIES)
    assert 0.36 < disturbances["nothing"] / len(draws) < 0.44
    assert all(0.04 < disturbances[name] / len(draws) < 0.1 for name in DISTURBANCES[1:])
    assert 0.35 < hints["none"] / len(draws) < 0.45
    assert 0.07 < sum(each.shared for each in draws) / len(draws) < 0.13


def test_draws_stay_within_their_bounds() -> None:
    for each in map(draw, range(1000)):
        assert 3 <= each.count <= 2000
        assert 0.001 <= each.rtt <= 0.4
        assert 0 <= each.jitter <= 0.5
        if each.per:
            assert 2 <= each.burst <= 300
            assert 1 <= each.per <= 60
        else:
            assert 0.5 <= each.rate <= 300
            assert 1 <= each.burst <= 200
        if each.storm:
            assert 3 <= each.storm[1] - each.storm[0] <= 30
        assert all(0.2 <= end - start <= 1.5 for start, end in each.stalls)
        assert each.cap is None or (each.cap >= 1 and not each.shared)


def test_a_shorter_draw_has_the_same_limit() -> None:
    for seed in range(40):
        long, short = draw(seed), draw(seed, longest=30.0)
        assert (long.family, long.rate, long.rtt, long.hint) == (
            short.family,
            short.rate,
            short.rtt,
            short.hint,
        )
        assert short.count <= long.count
        assert ideal(short) <= 30 + 3 * short.per + 60


def test_a_seed_below_zero_is_a_limit_by_name() -> None:
    assert str(draw(-1)) == NAMED[0].name == "100 in any 10 s"
    assert draw(-len(NAMED)).clients == 11


# ---- the account


def test_a_storm_rejects_everything_without_retry_after_and_takes_no_quota() -> None:
    account = Account(bucket(1, 2, storm=(1.0, 2.0), hint="seconds"))
    create = ServiceRequest("POST", CREATE_PATH, HEADERS, BODY)
    replies = [account.handle(create, at) for at in (0.0, 1.0, 1.9, 2.0, 2.5, 2.6)]
    assert [reply.status for reply in replies] == [200, 429, 429, 200, 200, 429]
    assert [reply.headers.get("retry-after") for reply in replies] == [None, None, None, None, None, "1"]


@pytest.mark.parametrize(
    ("hint", "header", "value"),
    [
        ("seconds", "retry-after", "2"),
        ("exact", "retry-after-ms", "2000"),
        ("rounded up", "retry-after", "3"),
        ("none", "retry-after", None),
    ],
)
def test_a_rejection_has_retry_after_in_the_form_that_was_drawn(
    hint: Any, header: str, value: str | None
) -> None:
    account = Account(bucket(0.5, 1, used_up=True, hint=hint))
    reply = account.handle(ServiceRequest("POST", CREATE_PATH, HEADERS, BODY), 0.0)
    assert (reply.status, reply.headers.get(header)) == (429, value)


def test_another_client_takes_its_share_at_any_rate_of_requests() -> None:
    for taken in (0.1, 0.5):
        quota = Quota(bucket(10, 1, taken=taken, gap=1.0))
        accepted = sum(not quota.take(tick / 100) for tick in range(50_000))
        assert accepted == pytest.approx(5_000 * (1 - taken), rel=0.06)


def test_time_counts_from_half_a_round_trip_before_the_first_request() -> None:
    quota = Quota(bucket(10, 1, rtt=0.2), clock_at_start=None)
    assert quota.since_start(500.0) == pytest.approx(0.1)
    assert quota.since_start(501.0) == pytest.approx(1.1)


# ---- the ideal


@pytest.mark.parametrize(
    "drawn",
    [
        bucket(1, 1),
        bucket(1, 2, used_up=True),
        bucket(2, 1, storm=(0.0, 2.0)),
        bucket(2, 2, storm=(0.5, 2.0)),
        bucket(2, 1, stalls=((0.25, 1.5),)),
        Draw(seed=0, family="sliding window", limit=SlidingWindow(2, 1.5), rate=4 / 3, burst=2),
        Draw(seed=0, family="fixed window", limit=FixedWindow(2, 2.0, -1.5), rate=1, burst=2),
        Draw(seed=0, family="fixed window", limit=FixedWindow(3, 2.0, -1.75), rate=1, burst=2, used_up=True),
        bucket(1, 1, changes_at=1.25, rate_after=2.0),
    ],
    ids=str,
)
def test_no_schedule_is_faster_than_the_ideal(drawn: Draw) -> None:
    if drawn.changes_at is not None:
        drawn = evolve(drawn, limit=Changing(TokenBucket(1), TokenBucket(2), drawn.changes_at))
    drawn = evolve(drawn, count=4, rtt=0.5)
    instants = [tick / 4 for tick in range(1, 18)]
    awake = [at for at in instants if not any(start <= at - 0.25 < end for start, end in drawn.stalls)]

    def accepted(arrivals: tuple[float, ...]) -> bool:
        quota = Quota(drawn)
        return not any(quota.take(at) for at in arrivals)

    fastest = min(each[-1] for each in combinations_with_replacement(awake, 4) if accepted(each))
    assert ideal(drawn) == pytest.approx(fastest + 0.25)
    assert accepted(tuple(schedule(drawn)))


def test_the_ideal_time_is_that_of_the_limit_and_a_round_trip() -> None:
    assert ideal(bucket(10, 20, count=120, rtt=0.1)) == pytest.approx(10.1)
    assert ideal(evolve(NAMED[0], rtt=0.0)) == pytest.approx(20.0)
    assert ideal(evolve(NAMED[2], rtt=0.0)) == pytest.approx(30.0)
    assert ideal(evolve(NAMED[4], rtt=0.0)) == pytest.approx(10.0)


def test_under_a_running_cap_the_ideal_waits_until_an_end_can_be_known() -> None:
    assert ideal(bucket(100, 100, cap=1, duration=2.0, rtt=0.5, count=3)) == pytest.approx(5.5)
    assert ideal(bucket(100, 100, cap=2, duration=2.0, rtt=0.5, count=3)) == pytest.approx(3.0)


def test_on_a_shared_quota_the_ideal_sends_one_query_for_each_task() -> None:
    assert ideal(bucket(10, 1, shared=True, duration=0.5, rtt=0.1, count=50)) == pytest.approx(10.0)
    # Nothing can be asked before the end of the last task.
    assert ideal(bucket(10, 1, shared=True, duration=9.0, rtt=0.1, count=50)) == pytest.approx(14.0)


# ---- the network in virtual time


def test_a_stall_delays_timers_but_not_requests_that_have_left() -> None:
    drawn = bucket(10, 1, rtt=0.2, stalls=((0.05, 0.5),))
    account = Account(drawn)

    async def exchange() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        request = Request(method="POST", url=f"http://localhost{CREATE_PATH}", headers=HEADERS, body=BODY)
        await VaryingTransport(account, drawn).send(request)
        read = loop.time()
        await asyncio.sleep(0.1)
        return read, loop.time()

    with asyncio.Runner(loop_factory=lambda: StallingLoop(drawn.stalls)) as runner:
        assert runner.run(exchange()) == pytest.approx((0.5, 0.6))
    assert account.ledger.entries[0].at == pytest.approx(0.1)


# ---- the judge


def paced(drawn: Draw, departures: list[float]) -> float:
    """Return the share of a client that sends at *departures* and ignores replies."""
    account = Account(drawn)
    transport = VaryingTransport(account, drawn)

    async def one(at: float) -> None:
        await asyncio.sleep(at)
        request = Request(method="POST", url=f"http://localhost{CREATE_PATH}", headers=HEADERS, body=BODY)
        await transport.send(request)

    async def everyone() -> None:
        await asyncio.gather(*map(one, departures))

    with asyncio.Runner(loop_factory=StallingLoop) as runner:
        runner.run(everyone())
    return judged(drawn, ideal(drawn), 1000.0, [report(account)]).share


@pytest.mark.parametrize("seed", range(30))
def test_a_client_that_sends_at_exactly_the_known_limit_has_a_share_of_one(seed: int) -> None:
    drawn = evolve(draw(seed, longest=8.0), jitter=0.0, shared=False, cap=None, stalls=())
    assert paced(drawn, [at - drawn.rtt / 2 for at in schedule(drawn)]) == pytest.approx(1.0, abs=1e-6)


def test_a_client_at_half_the_rate_has_a_share_of_one_half() -> None:
    drawn = bucket(20, 1, count=400, rtt=0.01)
    assert paced(drawn, [n / 10 for n in range(400)]) == pytest.approx(0.5, abs=0.01)


def test_the_judgement_of_a_draw_is_repeatable() -> None:
    for seed in (1, 3):
        first, second = run(draw(seed)), run(draw(seed))
        assert first == second
        assert 0 < first.share <= 1
        assert first.accepted == first.draw.count == first.creates - first.rejected


def test_of_several_clients_the_slowest_counts() -> None:
    drawn = bucket(10, 10, count=30, clients=3, rtt=0.01)
    result = run(drawn)
    assert result.accepted == 30
    assert result.creates == 90 + result.rejected


def test_a_batch_that_is_cut_off_counts_its_accepted_part() -> None:
    drawn = bucket(1, 1, count=10)
    found = {"creates": 9, "rejected": 4, "arrivals": [0.0, 1.0, 2.0, 3.0, 200.0], "last_result": None}
    result = judged(drawn, 9.0, patience(9.0), [found])
    assert patience(9.0) == 150
    assert (result.accepted, result.seconds) == (4, 150.0)
    assert result.share == pytest.approx(0.4 * 9 / 150)
    assert result.rejected_share == pytest.approx(4 / 9)


def test_a_batch_that_cannot_end_is_cut_off() -> None:
    drawn = bucket(0.001, 2, count=3)

    async def cut() -> float | None:
        return await batch(drawn, VaryingTransport(Account(drawn), drawn), "http://localhost", 50.0)

    with asyncio.Runner(loop_factory=StallingLoop) as runner:
        assert runner.run(cut()) is None


def test_a_shared_draw_lasts_until_the_last_result() -> None:
    drawn = bucket(10, 1, count=2, shared=True)
    found = {"creates": 2, "rejected": 0, "arrivals": [0.0, 0.1], "last_result": 8.0}
    assert judged(drawn, 4.0, 100.0, [found]).share == 0.5
    assert judged(drawn, 4.0, 100.0, [found | {"last_result": None}]).seconds == 100.0


# ---- recovery


def test_recovery_ends_at_four_fifths_of_the_possible_rate() -> None:
    drawn = bucket(10, 1, storm=(0.0, 5.0), disturbance="storm at start", count=100)
    slow, fast = [5.5 + n / 2 for n in range(10)], [10.5 + n / 9 for n in range(90)]
    assert recovered_after(drawn, slow + fast) == pytest.approx(5.0, abs=0.6)
    assert recovered_after(drawn, [5.0 + n / 10 for n in range(100)]) == 0.0
    assert recovered_after(drawn, slow) == slow[-1] - 5.0
    assert recovered_after(drawn, []) == 0.0


def test_recovery_from_a_removed_limit_lasts_until_everything_is_accepted() -> None:
    drawn = bucket(10, 1, changes_at=2.0, disturbance="removed")
    assert recovered_after(drawn, [1.0, 3.0, 7.0]) == 5.0


def test_recovery_counts_from_the_first_stall_or_the_first_instant_after_a_used_up_quota() -> None:
    steady = [3.0 + n / 10 for n in range(50)]
    assert recovered_after(bucket(10, 1, stalls=((1.0, 2.0), (8.0, 9.0))), steady) == pytest.approx(1.0)
    assert recovered_after(
        bucket(1, 1, used_up=True, rtt=0.0), [4.5 + n for n in range(50)]
    ) == pytest.approx(3.5)
    half = bucket(10, 1, cap=5, duration=1.0, rtt=0.0)
    assert recovered_after(half, [1.0 + n / 5 for n in range(50)]) == pytest.approx(1.0)


# ---- the tables


def outcome(seed: int, share: float, **more: Any) -> Outcome:
    told = {"draw": f"draw {seed}", "family": "bucket", "disturbance": "nothing", "hint": "none"}
    figures = {"rejected": 5.0, "ideal": 10.0, "seconds": 20.0, "accepted": 10, "count": 10, "recovered": 1.0}
    return Outcome(seed=seed, share=share, **(told | figures | more))


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert percentile([5.0], 0.1) == 5.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(11)], 0.1) == 1.0
    assert percentile([0.0, 10.0], 0.9) == 9.0


def test_every_table_compares_both_codes() -> None:
    storm = {"disturbance": "storm at start", "draw": "no limit"}
    ours = [*(outcome(seed, 10.0 * seed) for seed in range(11)), outcome(-1, 50.0, **storm)]
    before = [evolve(each, share=each.share / 2, accepted=9) for each in ours]
    rows = verdict({"this": ours, "002132c": before}, "TUNING", 2)
    whole = [row for row in rows if "seeds" in row]
    assert [(row["code"], row["draws"], row["cut off"]) for row in whole] == [
        ("this", 11, 0),
        ("002132c", 11, 11),
    ]
    assert [row["share p10, %"] for row in whole] == [10.0, 5.0]
    assert [row["share median, %"] for row in whole] == [50.0, 25.0]
    assert [row["the worst of this"] for row in rows if "the worst of this" in row] == ["draw 0", "draw 1"]
    named = [row for row in rows if "x possible" in row]
    assert [(row["limit"], row["code"], row["target"]) for row in named] == [
        ("no limit", "this", 1.75),
        ("no limit", "002132c", 1.75),
    ]


def test_an_outcome_survives_json() -> None:
    result = run(bucket(10, 10, count=30, rtt=0.01))
    made = Outcome.of(result)
    assert Outcome(**json.loads(json.dumps(made.kept()))).kept() == made.kept()
    assert (made.accepted, made.count) == (30, 30)


# ---- other code


def test_the_package_of_another_checkout_is_measured_by_the_benchmarks_of_this_one(tmp_path: Path) -> None:
    for package in ("ruxa_async", "benchmarks"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MARK = 'the other'\n", encoding="utf-8")
    program = (
        "import sys; from benchmarks._code import use_code; use_code(sys.argv[1]); "
        "import benchmarks._figures, ruxa_async; print(ruxa_async.MARK, hasattr(benchmarks, 'MARK'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["the", "other", "False"]


@pytest.mark.parametrize("name", ["random_limits", "random_limits_http"])
def test_the_baseline_has_the_same_seeds(name: str) -> None:
    seeds = [-1, *REPORTING[:5]]
    kept = baseline(name, seeds)["002132c"]
    assert [each.seed for each in kept] == seeds
    assert not baseline(name, [-1, *TUNING[:5]])
