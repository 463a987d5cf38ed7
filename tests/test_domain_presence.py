"""Staleness by learned rhythm, lockout, failed services and throttled logins: arithmetic without a clock."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoscreen.domain.accounts import FREE_FAILURES, LONGEST_DELAY, login_blocked_until
from infoscreen.domain.clients import Client, Condition, Presence, ProcessStatus
from infoscreen.domain.lockout import LockoutPolicy, locked_until
from infoscreen.domain.presence import (
    BEATS_UNTIL_LEARNED,
    LONGEST_SECONDS,
    Beat,
    Rhythm,
    StalePolicy,
    beaten,
    condition_of,
    is_stale,
    stale_from,
)

NOW = datetime(2026, 3, 1, 7, 0, tzinfo=UTC)
POLICY = StalePolicy(45, 180)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def beat_for(interval: float, beats: int, rhythm: Rhythm | None = None) -> Rhythm:
    rhythm = rhythm or Rhythm()
    last = None
    for number in range(beats):
        at = NOW + seconds(interval * number)
        rhythm = beaten(rhythm, last, last, "b", Beat(at, at, "b"), NOW, POLICY)
        last = at
    return rhythm


def client(**facts: object) -> Client:
    base: dict[str, object] = {
        "uuid": "u",
        "created_at": NOW,
        "status": Condition.ONLINE,
        "status_since": NOW,
        "last_alive": NOW,
        "last_heard_at": NOW,
        "stale_after_seconds": 60.0,
        "stale_at": NOW + seconds(60),
    }
    return Client(**(base | facts))


def test_until_five_heartbeats_are_known_the_unlearned_threshold_holds() -> None:
    assert beat_for(10, BEATS_UNTIL_LEARNED - 1).threshold_seconds(POLICY) == 180


def test_a_screen_that_beats_every_ten_seconds_is_missed_after_the_minimum() -> None:
    assert beat_for(10, 40).threshold_seconds(POLICY) == 45


def test_a_screen_that_beats_every_minute_is_missed_after_three() -> None:
    assert beat_for(60, 60).threshold_seconds(POLICY) == pytest.approx(180, abs=1)


def test_a_rhythm_in_between_is_missed_after_about_three_intervals() -> None:
    assert beat_for(30, 60).threshold_seconds(POLICY) == pytest.approx(90, abs=1)


def test_a_burst_of_heartbeats_that_waited_does_not_teach_a_rhythm_of_milliseconds() -> None:
    rhythm = beat_for(60, 60)
    last_received, last_device = NOW, NOW
    for number in range(1, 50):
        received, device = NOW + seconds(0.001 * number), NOW + seconds(60 * number)
        rhythm = beaten(rhythm, last_received, last_device, "b", Beat(received, device, "b"), NOW, POLICY)
        last_received, last_device = received, device
    assert rhythm.threshold_seconds(POLICY) == pytest.approx(180, abs=2)


@pytest.mark.parametrize(
    ("last_boot", "boot", "listening"),
    [("a", "b", NOW), ("a", "a", NOW + seconds(5)), ("a", "a", None)],
    ids=["across a reboot", "across a time of not listening", "not listening"],
)
def test_gaps_that_are_not_the_clients_own_teach_nothing(
    last_boot: str, boot: str, listening: datetime | None
) -> None:
    before = beat_for(10, 20)
    later = NOW + seconds(40)
    after = beaten(before, NOW, NOW, last_boot, Beat(later, later, boot), listening, POLICY)
    assert (after.interval, after.deviation) == (before.interval, before.deviation)


def test_one_long_gap_is_no_new_rhythm() -> None:
    before = beat_for(30, 60)
    later = NOW + seconds(7_200)
    after = beaten(before, NOW, NOW, "b", Beat(later, later, "b"), NOW, POLICY)
    assert after.threshold_seconds(POLICY) < 200
    assert beat_for(30, 20, after).threshold_seconds(POLICY) == pytest.approx(90, abs=10)


@pytest.mark.parametrize("first", [0.1, 5, 10, 30, 60])
@pytest.mark.parametrize("then", [120, 300, 600])
def test_a_slower_rhythm_is_learned_within_ten_beats(first: float, then: float) -> None:
    rhythm = beat_for(then, 11, beat_for(first, 60))
    assert rhythm.threshold_seconds(POLICY) > then


@pytest.mark.parametrize("interval", [120, 300, 600])
def test_a_slow_client_is_healthy_as_soon_as_one_gap_is_known(interval: float) -> None:
    for beats in range(2, 60):
        assert beat_for(interval, beats).threshold_seconds(POLICY) >= min(1_800, 2 * interval)


@given(st.lists(st.floats(min_value=0.001, max_value=10_000), min_size=1, max_size=60))
def test_whatever_the_gaps_the_threshold_stays_within_its_bounds(gaps: list[float]) -> None:
    rhythm, last = Rhythm(), NOW
    for gap in gaps:
        at = last + seconds(gap)
        rhythm = beaten(rhythm, last, last, "b", Beat(at, at, "b"), NOW, POLICY)
        last = at
    assert POLICY.minimum_seconds <= rhythm.threshold_seconds(POLICY) <= LONGEST_SECONDS


@pytest.mark.parametrize("jump", [86_400.0, 1.0, 0.0, -86_400.0])
def test_a_devices_clock_does_not_stretch_its_threshold(jump: float) -> None:
    rhythm, device = beat_for(10, 20), NOW
    for number in range(1, 50):
        at, before = NOW + seconds(10 * number), device
        device = before + seconds(jump)
        rhythm = beaten(rhythm, at - seconds(10), before, "b", Beat(at, device, "b"), NOW, POLICY)
    assert rhythm.threshold_seconds(POLICY) == POLICY.minimum_seconds


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("interval", [5, 30, 120, 600])
def test_jitter_and_loss_do_not_make_a_client_stale(interval: float, seed: int) -> None:
    chance = Random(seed)
    rhythm, last, at, missed = Rhythm(), None, NOW, 0
    for _ in range(1_000):
        at += seconds(interval * chance.uniform(0.7, 1.3))
        if chance.random() < 0.01:
            continue
        if last is not None:
            missed += (at - last).total_seconds() > rhythm.threshold_seconds(POLICY)
        rhythm, last = beaten(rhythm, last, last, "b", Beat(at, at, "b"), NOW, POLICY), at
    assert missed <= 1


def test_silence_counts_only_while_we_listened() -> None:
    silent = client()
    assert is_stale(silent, NOW + seconds(61), NOW - seconds(100))
    assert not is_stale(silent, NOW + seconds(61), NOW + seconds(30))
    assert stale_from(silent, NOW + seconds(30)) == NOW + seconds(90)
    assert not is_stale(silent, NOW + seconds(10_000), None)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Condition.ONLINE),
        ({"last_alive": None}, Condition.NEVER_SEEN),
        ({"process_status": ProcessStatus.CRASHED}, Condition.CRASHED),
        ({"service_failed_at": NOW, "process_status": ProcessStatus.CRASHED}, Condition.SERVICE_FAILED),
        ({"maintenance_until": NOW + seconds(100), "service_failed_at": NOW}, Condition.MAINTENANCE),
        ({"maintenance_until": NOW + seconds(10)}, Condition.ONLINE),
        ({"shut_down_at": NOW, "maintenance_until": NOW + seconds(100)}, Condition.SHUT_DOWN),
    ],
)
def test_the_worst_condition_wins_in_the_designs_order(facts: dict[str, object], expected: Condition) -> None:
    assert condition_of(client(**facts), NOW + seconds(20), NOW) is expected


@pytest.mark.parametrize(
    ("presence", "expected"),
    [
        (Presence.ONLINE, Condition.HUNG),
        (Presence.OFFLINE, Condition.UNREACHABLE),
        (None, Condition.UNREACHABLE),
    ],
)
def test_presence_tells_hung_from_unreachable(presence: Presence | None, expected: Condition) -> None:
    assert condition_of(client(presence=presence), NOW + seconds(61), NOW) is expected


def test_what_was_stale_stays_stale_after_our_own_restart_until_it_is_heard() -> None:
    stale = client(status=Condition.UNREACHABLE, status_since=NOW + seconds(60))
    assert condition_of(stale, NOW + seconds(70), NOW + seconds(69)) is Condition.UNREACHABLE


# --- lockout

LOCKOUT = LockoutPolicy(3, seconds(900))


def test_two_commands_do_not_lock() -> None:
    assert locked_until([NOW, NOW], LOCKOUT, NOW) is None


def test_the_third_command_locks_until_the_oldest_of_them_leaves_the_window() -> None:
    times = [NOW - seconds(600), NOW - seconds(300), NOW]
    assert locked_until(times, LOCKOUT, NOW) == NOW + seconds(300)


@given(st.lists(st.integers(min_value=0, max_value=2_000), max_size=8))
def test_a_lockout_ends_exactly_when_it_says(ages: list[int]) -> None:
    times = [NOW - seconds(age) for age in ages]
    until = locked_until(times, LOCKOUT, NOW)
    if until is not None:
        assert until > NOW
        assert locked_until(times, LOCKOUT, until) is None
        assert locked_until(times, LOCKOUT, until - seconds(0.001)) is not None


# --- logins


def test_mistyping_a_few_times_costs_nothing_and_then_the_delay_doubles() -> None:
    assert login_blocked_until(FREE_FAILURES - 1, NOW, NOW) is None
    delays = [login_blocked_until(FREE_FAILURES + more, NOW, NOW) for more in range(4)]
    assert delays == [NOW + seconds(one) for one in (1, 2, 4, 8)]


def test_the_delay_has_an_end() -> None:
    assert login_blocked_until(10_000, NOW, NOW) == NOW + LONGEST_DELAY
