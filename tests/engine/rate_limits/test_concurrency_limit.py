"""A cap on running tasks: how it becomes suspected, tentative, confirmed, lowered, raised and unknown."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async._engine.rate_limits.concurrency_limit import ConcurrencyLimit


@attrs.define(eq=False)
class Account:
    """A client of a service that accepts a create while fewer than *cap* run; a response takes *rtt* s."""

    cap: float
    rtt: float = 0.0
    rated: bool = False
    now: float = 0.0
    running: int = 0  # as we see it
    unseen: int = 0  # of these
    found: ConcurrencyLimit = attrs.field(factory=ConcurrencyLimit)
    explained: bool = False
    settled: bool = False

    def create(self) -> bool:
        """Send one create without asking the limit; return whether it was accepted."""
        create = object()
        sent_at = self.now
        if self.found.active:
            self.found.on_send(create, self.running)
        self.now += self.rtt
        if self.running - self.unseen >= self.cap:
            self.explained = self.found.on_reject(
                create, self.running, self.now, sent_at=sent_at, is_rate_known=self.rated
            )
            return False
        self.settled = self.found.on_accept(create, self.running, self.now, sent_at=sent_at)
        self.running += 1
        return True

    def fill(self) -> None:
        """Send creates until one is rejected."""
        while self.create():
            self.now += 0.01

    def ends(self, count: int = 1) -> None:
        self.running -= count
        self.found.on_end(self.running, self.now)

    def turn(self, times: int = 1) -> int:
        """*times* times, end a task and send what the limit allows; return the number of rejections."""
        refused = 0
        for _ in range(times):
            self.ends()
            self.now += 0.1
            while self.found.ready_at(self.running, self.now) <= self.now:
                if not self.create():
                    refused += 1
                    if not self.explained:
                        break  # the rate limiter makes it wait
        return refused


def suspected(cap: int, rejections: int = 2) -> Account:
    """Return an account after *rejections* in a row while *cap* tasks ran and none ended."""
    account = Account(cap)
    account.fill()
    for _ in range(rejections - 1):
        account.now += 1.0
        assert not account.create()
    return account


def tentative(cap: int) -> Account:
    account = suspected(cap)
    account.ends()
    account.now += 1.0
    assert account.create()
    assert account.found.is_tentative
    return account


def confirmed(cap: int) -> Account:
    account = tentative(cap)
    account.turn(3)
    assert account.found.is_confirmed
    return account


def test_nothing_is_suspected_at_first() -> None:
    found = ConcurrencyLimit()
    assert not found.active
    assert not found.watching
    assert not found.binds(1000)
    assert found.cap == math.inf
    assert found.ready_at(1000, 5.0) == 5.0
    assert not found.is_test_due(0, 0)


def test_two_rejections_while_no_task_ended_are_a_suspicion() -> None:
    account = suspected(20, rejections=1)
    assert account.found.is_suspected
    assert account.found.watching
    states = [account.found.active]
    account.now += 1.0
    account.create()
    assert [*states, account.found.active] == [False, True]
    assert account.found.binds(20)
    assert not account.found.binds(15)
    assert not account.explained


def test_a_rejection_while_no_task_of_ours_runs_is_no_suspicion() -> None:
    account = suspected(0, rejections=3)
    assert not account.found.is_suspected
    assert not account.found.watching


def test_responses_to_creates_sent_before_the_rejection_was_known_are_ignored() -> None:
    found = ConcurrencyLimit()
    for _ in range(4):
        assert not found.on_reject(object(), 19, 1.2, sent_at=1.0, is_rate_known=False)
        assert not found.on_accept(object(), 19, 1.2, sent_at=1.0)
    assert not found.active
    assert found.is_suspected


def test_an_end_makes_the_next_create_a_test() -> None:
    account = suspected(20)
    assert not account.found.is_test_due(20, 0)
    assert not account.found.is_test_due(19, 1)  # one is in flight already
    assert account.found.is_test_due(19, 0)


def test_an_accepted_test_makes_the_cap_tentative() -> None:
    account = tentative(20)
    assert account.found.cap == 20
    assert not account.settled
    assert account.found.active
    assert not account.found.is_confirmed
    assert account.found.ready_at(19, account.now) == account.now
    assert account.found.ready_at(20, account.now) == account.now + 60.0


def test_a_rejected_test_ends_the_suspicion_and_delays_the_next() -> None:
    account = suspected(20)
    account.ends()
    account.cap = 19
    account.now += 1.0
    assert not account.create()
    assert not account.found.active
    assert account.found.watching
    account.now += 1.0
    assert not account.create()
    assert not account.found.is_suspected
    account.cap = 1000
    for _ in range(31):
        account.create()
    states = [account.found.watching]
    account.create()
    assert [*states, account.found.watching] == [True, False]
    account.cap = 10
    assert not account.create()
    assert account.found.is_suspected


def test_an_accepted_create_without_an_end_drops_a_suspicion_of_two_rejections() -> None:
    account = suspected(20)
    account.cap = 21
    assert account.create()
    assert not account.found.active
    assert not account.found.is_in_doubt


@pytest.mark.parametrize("seen", [True, False])
def test_an_accepted_create_after_three_rejections_makes_us_look_for_an_unseen_end(seen: bool) -> None:
    account = suspected(20, rejections=3)
    account.unseen, account.rtt = 1, 0.5
    assert account.create()
    assert account.found.is_in_doubt
    assert account.found.ready_at(21, account.now) == account.now + 0.1 + 2 * 0.5
    assert account.found.ready_at(19, account.now) == account.now
    if seen:
        account.unseen = 0
        account.ends()
        assert (account.found.cap, account.found.is_in_doubt) == (20, False)
        assert account.found.ready_at(20, account.now) == account.now + 60.0
        return
    account.now += 1.2
    assert account.found.ready_at(21, account.now) == account.now
    account.cap = 30
    account.ends()
    assert account.found.cap == math.inf  # it comes too late to say anything
    account.running = 21
    assert account.create()
    assert not account.found.active
    assert not account.found.is_in_doubt


def test_more_accepted_creates_while_we_look_for_an_end_change_nothing() -> None:
    account = suspected(20, rejections=3)
    account.unseen, account.rtt = 3, 0.5
    account.create()
    account.rtt = 0.0
    account.create()
    assert account.found.is_in_doubt


def test_no_end_is_looked_for_if_queries_cost_creates() -> None:
    found = suspected(20, rejections=3).found
    assert not found.on_accept(object(), 20, 9.0, sent_at=8.0, may_query_all=False)
    assert not found.is_in_doubt
    assert not found.active


def test_a_rejected_probe_confirms_the_cap() -> None:
    account = tentative(20)
    assert account.turn(2) == 1
    assert account.explained
    assert account.found.is_confirmed
    assert account.found.cap == 20


def test_a_tentative_cap_is_given_up_when_much_more_runs() -> None:
    account = tentative(20)
    account.cap = 1000
    account.turn(2)
    assert account.found.cap == math.inf
    assert not account.found.active
    assert account.running >= 28


def test_a_tentative_cap_is_given_up_after_a_rejection_far_below_it() -> None:
    account = tentative(20)
    account.ends(5)
    account.cap = 10
    account.now += 1.0
    assert not account.create()
    assert not account.explained
    assert account.found.cap == math.inf


def test_at_a_confirmed_cap_few_creates_are_rejected() -> None:
    account = confirmed(20)
    refused = account.turn(600)
    assert refused == 4
    assert account.running == 20
    assert account.found.cap == 20


@pytest.mark.parametrize("cap", [5, 10, 50])
def test_a_lowered_cap_is_found_within_a_few_rejections(cap: int) -> None:
    account = confirmed(2 * cap)
    account.turn(100)
    account.cap = cap
    assert account.turn(3 * cap) <= 8
    assert cap - 1 <= account.found.cap <= cap
    assert account.turn(300) <= 6
    assert account.found.cap == cap


@pytest.mark.parametrize("cap", [5, 20, 100])
def test_a_cap_that_doubles_is_found_by_the_next_probe(cap: int) -> None:
    account = confirmed(cap)
    account.cap = 2 * cap
    account.turn(40)
    assert account.found.cap == 2 * cap
    assert account.running == 2 * cap


def test_a_cap_that_rises_a_little_is_raised_by_one_after_three_climbs() -> None:
    account = confirmed(20)
    account.cap = 21
    account.turn(32 + 64 + 10)
    assert account.found.cap == 20
    account.turn(128)
    assert account.found.cap == 21


def test_rejections_below_a_confirmed_cap_cost_trust_until_they_count_for_the_rate() -> None:
    account = confirmed(100)
    explained = []
    for cap in range(98, 90, -1):
        account.running, account.cap = cap, cap
        account.now += 1.0
        account.create()
        explained.append(account.explained)
        account.running = 50
        account.create()  # not in a row
    assert explained == [True, True, *[False] * 6]


def test_accepted_creates_restore_trust() -> None:
    account = confirmed(20)
    account.turn(100)
    for cap in (18, 17, 16, 15):
        account.running, account.cap = cap, cap
        account.now += 1.0
        account.create()
        assert account.explained
        account.running = 5
        account.create()


def test_with_a_known_rate_a_rejection_far_below_the_cap_counts_for_the_rate() -> None:
    account = confirmed(20)
    account.rated, account.cap, account.running = True, 10, 10
    account.now += 1.0
    account.create()
    assert not account.explained
    assert account.found.cap == 20
    for at in (10, 9):  # nothing ended, then a test that fails
        account.cap = account.running = at
        account.now += 1.0
        account.create()
    account.running = 5
    account.now += 1.0
    assert account.create()
    assert account.settled
    assert account.found.cap == 9


def test_beside_a_confirmed_cap_five_failed_tests_end_a_suspicion() -> None:
    account = confirmed(20)
    account.rated = True
    for at in range(16, 10, -1):
        assert account.found.is_test_due(0, 0) is False
        account.cap = account.running = at
        account.now += 1.0
        account.create()
        assert account.found.is_suspected is (at > 11)


def test_a_create_is_sent_after_a_long_silence_in_spite_of_the_cap() -> None:
    account = confirmed(20)
    waits = []
    account.turn(1)
    for _ in range(6):
        opens = account.found.ready_at(20, account.now)
        assert opens > account.now
        waits.append(round(opens - account.now, 6))
        account.now = opens
        assert not account.create()
        assert account.explained
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 960.0]
    account.cap = 30
    account.now = account.found.ready_at(20, account.now)
    assert account.create()
    assert account.found.ready_at(100, account.now) == account.now + 60.0


def test_a_probe_without_an_answer_makes_room_for_another() -> None:
    account = confirmed(20)
    account.turn(1)
    at = account.found.ready_at(20, account.now)
    probe = object()
    account.found.on_send(probe, 20)
    assert account.found.ready_at(20, at) == math.inf
    account.found.on_inconclusive(probe)
    assert account.found.ready_at(20, at) == at


# ---- at any responses


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ok", "no", "lost", "end"]), st.floats(0.0, 30.0), st.booleans(), st.booleans()
        ),
        max_size=120,
    )
)
def test_creates_stay_below_the_cap_except_for_probes_and_are_never_held_back_for_ever(
    steps: list[tuple[str, float, bool, bool]],
) -> None:
    found = ConcurrencyLimit()
    now, wire, held = 0.0, list[tuple[object, float]](), 0
    for what, pause, rated, may_query_all in steps:
        now += pause
        running = held + len(wire)
        while len(wire) < 6 and found.ready_at(running, now) <= now:
            believed = max(found.cap, 0 if found._cap is None else found._cap.most_running)
            probes = max(4, 1 + 0.06 * found.cap)
            assert running < believed + probes or now >= found._silent_until
            create = object()
            if found.active:
                found.on_send(create, running)
            wire.append((create, now))
            running += 1
        if what == "end" and held:
            held -= 1
            found.on_end(held + len(wire), now)
        elif wire and what != "end":
            create, sent_at = wire.pop(0)
            if what == "ok":
                found.on_accept(create, held, now, sent_at=sent_at, may_query_all=may_query_all)
                held += 1
            elif what == "no":
                found.on_reject(create, held, now, sent_at=sent_at, is_rate_known=rated)
            else:
                found.on_inconclusive(create)
        assert found.cap >= 1
    for create, _ in wire:
        found.on_inconclusive(create)
    opens = found.ready_at(held, now)
    assert opens <= now + 960.0
    assert found.ready_at(held, opens) <= opens
    assert found.ready_at(0, opens) <= opens
