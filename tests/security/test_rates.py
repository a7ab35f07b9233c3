"""Token buckets and the guard before passwords, on a clock turned by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.security.rates import Bucket, Buckets, LoginGuard, neighbourhood


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unknown", "unknown"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_who_counts_as_one(address: str, seen: str) -> None:
    assert neighbourhood(address) == seen


def test_a_bucket_gives_its_burst_then_its_rate(clock: Clock) -> None:
    bucket = Bucket(2.0, 3, clock)
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.now += 0.25
    assert bucket.take() == 0.25
    clock.now += 0.25
    assert bucket.take() == 0.0
    clock.now += 1000
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_refusal_costs_nothing_and_the_wait_is_true(clock: Clock) -> None:
    bucket = Bucket(0.1, 1, clock)
    bucket.take()
    for _ in range(100):
        wait = bucket.take()
    clock.now += wait
    assert bucket.take() == 0.0


def test_more_than_the_burst_never_comes(clock: Clock) -> None:
    assert Bucket(1.0, 5, clock).take(6) == math.inf
    assert Buckets(1.0, 5, clock=clock).take("x", 6) == math.inf
    assert Buckets(0.0, 1, clock=clock).take("x", 1) == 0.0


def test_a_clock_that_goes_back_gives_nothing_away(clock: Clock) -> None:
    bucket = Bucket(1.0, 1, clock)
    clock.now = 100
    bucket.take()
    clock.now = 50
    assert bucket.take() > 0
    clock.now = 50.5
    assert bucket.take() > 0


def test_keys_do_not_know_of_each_other(clock: Clock) -> None:
    buckets = Buckets(1.0, 1, clock=clock)
    assert [buckets.take("a"), buckets.take("a"), buckets.take("b"), buckets.take(1)] == [0.0, 1.0, 0.0, 0.0]
    buckets.forget("a")
    assert buckets.take("a") == 0.0
    buckets.give_back("a")
    assert buckets.take("a") == 0.0


def test_keys_are_bounded_and_the_busiest_stay(clock: Clock) -> None:
    buckets = Buckets(0.001, 1, max_keys=100, clock=clock)
    buckets.take("hammer")
    for number in range(10_000):
        buckets.take(number)
        assert buckets.take("hammer") > 0
    assert len(buckets) == 100


@given(
    st.floats(0.1, 50),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 3)), max_size=60),
)
def test_never_more_than_burst_plus_rate_times_time(
    rate: float, burst: int, calls: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket, buckets = Bucket(rate, burst, clock), Buckets(rate, burst, clock=clock)
    granted = 0.0
    for pause, amount in calls:
        clock.now += pause
        wait = bucket.take(amount)
        assert wait == buckets.take("key", amount)  # the same arithmetic
        granted += amount if wait == 0 else 0
        assert granted <= burst + rate * clock.now + 1e-6


# The guard before passwords --------------------------------------------------------------------------


def tries(guard: LoginGuard, count: int, account: str = "nina", address: str = "a") -> list[float]:
    """Wrong passwords, one after the other; the waits."""
    waits = []
    for _ in range(count):
        wait = guard.attempt(account, address)
        if not wait:
            guard.failed(account)
        waits.append(wait)
    return waits


def test_five_tries_a_minute_then_waits_that_double(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    assert tries(guard, 6) == [0, 0, 0, 0, 0, 60]
    waits = []
    for _ in range(7):
        wait = guard.attempt("nina", "a")
        waits.append(wait)
        clock.now += wait
        assert guard.attempt("nina", "a") == 0  # exactly one try after each wait
    assert waits == [60, 120, 240, 480, 900, 900, 900]


def test_hammering_while_waiting_does_not_make_it_longer(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    tries(guard, 6)
    for _ in range(1000):
        assert guard.attempt("nina", "a") == 60
    clock.now += 60
    assert guard.attempt("nina", "a") == 0


def test_slow_tries_are_never_refused(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    for _ in range(100):
        assert guard.attempt("nina", "a") == 0
        clock.now += 12.5


def test_a_right_password_starts_anew(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    tries(guard, 4)
    guard.succeeded("nina", "a")
    assert tries(guard, 6) == [0, 0, 0, 0, 0, 60]
    clock.now += 60
    assert guard.attempt("nina", "a") == 0
    guard.succeeded("nina", "a")
    assert tries(guard, 6) == [0, 0, 0, 0, 0, 60]


def test_waits_are_forgiven_after_a_quiet_time(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    tries(guard, 6)
    clock.now += 60 + 900 + 60 + 1
    assert tries(guard, 6) == [0, 0, 0, 0, 0, 60]


def test_other_addresses_and_accounts_are_not_concerned(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    tries(guard, 6)
    assert guard.attempt("nina", "b") == 0
    assert guard.attempt("dora", "a") == 0


def test_what_could_not_be_judged_does_not_count(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    for _ in range(50):
        assert guard.attempt("nina", "a") == 0
        guard.uncounted("nina", "a")


def test_half_a_login_after_a_wait_costs_no_further_wait(clock: Clock) -> None:
    """Password first, the code with the next request: as browsers do it."""
    guard = LoginGuard(5, clock=clock)
    while not (wait := guard.attempt("nina", "a")):
        guard.failed("nina")
    for _ in range(3):
        clock.now += wait
        for _ in range(10):
            assert guard.attempt("nina", "a") == 0
            guard.uncounted("nina", "a")
        assert guard.attempt("nina", "a") == 0  # the whole of it, and wrong
        guard.failed("nina")
        longer = guard.attempt("nina", "a")
        assert longer >= 2 * wait
        guard.uncounted("somebody else", "a")
        assert guard.attempt("nina", "a") == longer
        wait = longer


def test_an_attack_from_many_addresses_slows_and_never_locks(clock: Clock) -> None:
    guard = LoginGuard(5, clock=clock)
    pauses = []
    for number in range(2000):
        assert guard.attempt("nina", f"address {number}") == 0
        pauses.append(guard.pause("nina"))
        guard.failed("nina")
    assert pauses[:11] == [0.0] * 11  # a person who mistypes a few times notices nothing
    assert pauses[-1] == LoginGuard.LONGEST_PAUSE
    assert pauses == sorted(pauses)
    assert guard.attempt("nina", "home") == 0  # the owner gets in, a little later
    assert guard.pause("dora") == 0.0
    clock.now += 3600 * 2
    assert guard.pause("nina") == 0.0


def test_the_guard_is_bounded(clock: Clock) -> None:
    guard = LoginGuard(5, max_keys=50, clock=clock)
    for number in range(1000):
        guard.attempt(number, "a")
        guard.failed(number)
    assert len(guard._pairs) == 50 and len(guard._failures) == 50
