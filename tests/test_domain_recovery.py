"""The recovery's rules as arithmetic: evidence, coincidence, incidents, waves and charging."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.recovery import (
    FLEET,
    Attempt,
    Closing,
    Decision,
    Incident,
    IncidentKind,
    Ladder,
    Observer,
    Outcome,
    Patient,
    Phase,
    Plan,
    Population,
    Reason,
    RecoveryPolicy,
    Rung,
    Scope,
    ScopeKind,
    Sent,
    Snapshot,
    Verb,
    decide,
    moved_time,
    network_of,
    usual_rate,
)
from infoscreen.domain.recovery.coincidence import chance, clusters, least_unlikely
from infoscreen.domain.recovery.waves import pace_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=3)
POLICY = RecoveryPolicy(enabled=True)
OBSERVER = Observer(listening_since=LONG_AGO, started_at=LONG_AGO)
THRESHOLD = timedelta(seconds=95)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def speaking(number: int, since: float = 120, **facts: object) -> Patient:
    """A client that has reported a crash for so long, beating every 30 s."""
    told: dict[str, object] = {
        "uuid": f"{number:08}",
        "status": Condition.CRASHED,
        "status_since": ago(since),
        "last_alive": ago(5),
        "last_heard_at": ago(5),
        "stale_at": NOW + timedelta(seconds=90),
        "stale_after": 95.0,
        "interval": 30.0,
        "beats": 100,
        "reports": 1 + int(since // 30),
        "presence": Presence.ONLINE,
        "process_status": ProcessStatus.CRASHED,
    }
    return Patient(**(told | facts))  # type: ignore[arg-type]


def silent(number: int, heard: float = 2_000, *, hung: bool = True, **facts: object) -> Patient:
    """A client that was heard last so long ago."""
    told: dict[str, object] = {
        "uuid": f"{number:08}",
        "status": Condition.HUNG if hung else Condition.UNREACHABLE,
        "status_since": ago(heard - 95),
        "last_alive": ago(heard),
        "last_heard_at": ago(heard),
        "stale_at": ago(heard - 95),
        "stale_after": 95.0,
        "interval": 30.0,
        "beats": 100,
        "reports": 1,
        "presence": Presence.ONLINE if hung else Presence.OFFLINE,
        "process_status": ProcessStatus.RUNNING,
    }
    return Patient(**(told | facts))  # type: ignore[arg-type]


def plan_of(
    *patients: Patient,
    fleet: int = 1_000,
    policy: RecoveryPolicy = POLICY,
    now: datetime = NOW,
    sites: dict[str, int] | None = None,
    **world: object,
) -> Plan:
    populations = {FLEET: Population(fleet, THRESHOLD)}
    for site, size in (sites or {}).items():
        populations[Scope(ScopeKind.SITE, site)] = Population(size, THRESHOLD)
    told: dict[str, object] = {"observer": OBSERVER, "patients": patients, "populations": populations}
    return decide(Snapshot(**(told | world)), policy, now)  # type: ignore[arg-type]


def reason_of(patient: Patient, **world: object) -> Reason:
    return only(plan_of(patient, **world)).reason  # type: ignore[arg-type]


def only(plan: Plan) -> Decision:
    (decision,) = plan.decisions
    return decision


def ladder(**facts: object) -> Ladder:
    told: dict[str, object] = {
        "phase": Phase.CLIMBING,
        "began_at": ago(7_000),
        "unwell_since": ago(7_000),
        "changed_at": ago(7_000),
        "rung": Rung.RESTART_APP,
    }
    return Ladder(**(told | facts))  # type: ignore[arg-type]


def attempt(number: int, seconds_ago: float, outcome: Outcome | None = None, **facts: object) -> Attempt:
    at = ago(seconds_ago)
    accepted = None if outcome in {Outcome.REFUSED, Outcome.UNANSWERED} else at
    told: dict[str, object] = {
        "command_id": f"c{number}",
        "client_uuid": f"{number:08}",
        "rung": Rung.RESTART_APP,
        "decided_at": at,
        "published_at": at,
        "accepted_at": accepted,
        "ended_at": None if outcome is None else at + timedelta(seconds=30),
        "outcome": outcome,
    }
    return Attempt(**(told | facts))  # type: ignore[arg-type]


# --- chance


def test_three_within_a_minute_are_no_chance_among_a_thousand_but_three_in_an_hour_are() -> None:
    assert least_unlikely(1_000, 60, 0.05) == 3
    assert least_unlikely(1_000, 3_600, 0.05) > 6
    assert least_unlikely(50_000, 60, 0.05) > 6


@settings(deadline=None)
@given(st.integers(0, 60), st.floats(0.001, 200))
def test_the_chance_is_a_probability_that_falls_with_the_count(count: int, expected: float) -> None:
    here, further = chance(count, expected), chance(count + 1, expected)
    assert 0 <= further <= here + 1e-9
    assert here <= 1


@pytest.mark.parametrize(
    ("count", "days", "rate"), [(0, 0, 0.05), (0, 100, 0.01), (7, 70, 0.1), (900, 9, 0.5)]
)
def test_the_usual_rate_is_learned_within_bounds(count: int, days: float, rate: float) -> None:
    assert usual_rate(count, days) == rate


def test_a_burst_explains_nothing_that_happens_half_an_hour_later() -> None:
    times = [float(second) for second in range(40)] + [1_800.0]
    assert clusters(times, 1_000, 0.05) == [list(range(40))]


def test_a_staggered_outage_is_one() -> None:
    times = [120.0 * number for number in range(60)]
    assert clusters(times, 1_000, 0.05) == [list(range(60))]


@settings(deadline=None)
@given(st.lists(st.floats(0, 7_200), max_size=60), st.integers(1, 5_000))
def test_clusters_share_no_member(times: list[float], population: int) -> None:
    found = clusters(sorted(times), population, 0.05)
    members = [one for cluster in found for one in cluster]
    assert len(members) == len(set(members))
    assert all(len(cluster) >= 3 for cluster in found)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1", None),
        (None, None),
        ("nonsense", None),
        ("a:b", None),
    ],
)
def test_the_network_of_an_address(address: str | None, network: str | None) -> None:
    assert network_of(address) == network


# --- the device says so


def test_a_crash_is_acted_on_once_reports_outlast_the_grace() -> None:
    assert reason_of(speaking(1, 45)) is Reason.GRACE
    assert reason_of(speaking(1, 65, last_alive=ago(40))) is Reason.GRACE
    assert reason_of(speaking(1, 120)) is Reason.ACT_RESTART_APP


def test_the_grace_is_counted_from_the_return_and_not_from_an_earlier_silence() -> None:
    earlier = ladder(phase=Phase.PROVING, unwell_since=ago(4_000))
    assert reason_of(speaking(1, 30, ladder=earlier)) is Reason.GRACE


def test_a_boot_is_no_crash_yet() -> None:
    assert reason_of(speaking(1, 200, booted_at=ago(210))) is Reason.BOOTING
    assert reason_of(speaking(1, 400, booted_at=ago(410))) is Reason.ACT_RESTART_APP


def test_two_reports_in_a_row_are_not_enough_of_one_that_keeps_starting_again_by_itself() -> None:
    slow: dict[str, object] = {"interval": 120.0, "stale_after": 400.0, "reports": 2}
    loops = ladder(returns=2, began_at=ago(3_000), changed_at=ago(125))
    assert reason_of(speaking(1, 125, **slow)) is Reason.ACT_RESTART_APP
    assert reason_of(speaking(1, 125, ladder=loops, **slow)) is Reason.FLAPPING
    told_again = speaking(1, 245, ladder=loops, **(slow | {"reports": 3}))
    assert reason_of(told_again) is Reason.ACT_RESTART_APP


def test_no_outage_holds_a_client_that_speaks() -> None:
    dark = [silent(number, 2_000 + number % 30) for number in range(2, 602)]
    plan = plan_of(speaking(1), *dark)
    assert plan.decisions[0].reason is Reason.ACT_RESTART_APP
    assert {one.reason for one in plan.decisions[1:]} == {Reason.FLEET_OUTAGE}
    (incident,) = plan.incidents
    assert (incident.kind, incident.members) == (IncidentKind.FLEET_OUTAGE, 600)


def test_a_failed_service_whose_application_is_reported_running_is_left_alone() -> None:
    facts: dict[str, object] = {"status": Condition.SERVICE_FAILED, "failed_at": ago(120)}
    assert reason_of(speaking(1, **facts)) is Reason.ACT_RESTART_APP
    assert reason_of(speaking(1, **facts, process_status=ProcessStatus.RUNNING)) is Reason.RUNS_AGAIN


# --- silence


def test_connected_but_silent_is_evidence_after_one_and_a_half_keepalives() -> None:
    assert reason_of(silent(1, 400)) is Reason.KEEPALIVE
    assert reason_of(silent(1, 460)) is Reason.ACT_REBOOT_HOST
    assert reason_of(silent(1, 200, keepalive=60.0)) is Reason.ACT_REBOOT_HOST


def test_an_unreachable_client_gets_no_reboot_and_a_human_only_after_a_credible_absence() -> None:
    assert reason_of(silent(1, 800, hung=False)) is Reason.MAY_BE_REBOOTING
    assert reason_of(silent(1, 950, hung=False)) is Reason.NO_OUTLET
    assert reason_of(silent(1, 950, hung=False, outlet=True)) is Reason.ACT_POWER_CYCLE


def test_a_client_heard_once_may_beat_as_rarely_as_any() -> None:
    assert reason_of(silent(1, 1_000, interval=None)) is Reason.RHYTHM_UNKNOWN


def test_coming_back_by_itself_doubles_the_patience() -> None:
    again = ladder(returns=3, began_at=ago(600), changed_at=ago(300))
    assert reason_of(silent(1, 560, ladder=again)) is Reason.FLAPPING


def test_a_single_silence_elsewhere_is_not_held_by_the_outage_of_a_site() -> None:
    dark = [silent(number, 2_000 + number, site="Messe") for number in range(20)]
    plan = plan_of(silent(100, 1_500, site="Depot"), *dark, sites={"Messe": 20, "Depot": 30})
    assert plan.decisions[0].reason is Reason.ACT_REBOOT_HOST
    assert {one.reason for one in plan.decisions[1:]} == {Reason.SITE_OUTAGE}


def test_many_small_sites_are_one_incident() -> None:
    dark = [silent(number, 2_000 + number % 50, site=f"s{number // 2}") for number in range(600)]
    plan = plan_of(*dark, sites={f"s{number}": 2 for number in range(300)})
    assert [one.kind for one in plan.incidents] == [IncidentKind.FLEET_OUTAGE]


def test_a_slow_client_joins_the_outage_that_it_is_missed_in_later() -> None:
    open_one = Incident(
        key="k", kind=IncidentKind.FLEET_OUTAGE, began_at=ago(4_030), members=20, facts={"well": 1_000}
    )
    member = ladder(incident="k", began_at=ago(3_900))
    dark = [silent(number, 4_000 + number, ladder=member) for number in range(20)]
    late = silent(100, 4_300, interval=600.0, stale_after=1_800.0)
    plan = plan_of(*dark, late, incidents=[open_one])
    assert plan.decisions[-1].reason is Reason.FLEET_OUTAGE
    assert plan.joined == {"k": ["00000100"]}


def test_an_outage_that_spreads_is_one_incident() -> None:
    """Two bursts four minutes apart, and somebody in between, in a fleet in which silence is rare."""
    open_one = Incident(
        key="k", kind=IncidentKind.FLEET_OUTAGE, began_at=ago(2_030), members=4, facts={"well": 60}
    )
    member = ladder(incident="k", began_at=ago(1_900))
    dark = [silent(number, 2_000 + number, ladder=member, hung=False) for number in range(4)]
    later = [silent(number, 1_720 + number, hung=False) for number in range(10, 13)]
    plan = plan_of(*dark, *later, fleet=60, incidents=[open_one])
    assert [(one.key, one.members) for one in plan.incidents] == [("k", 7)]
    assert {one.reason for one in plan.decisions} == {Reason.FLEET_OUTAGE}


@pytest.mark.parametrize(
    ("fleet", "hung", "reasons"),
    [
        (20, False, {Reason.FLEET_OUTAGE}),
        # One more within so long is no wonder among so many.
        (20_000, False, {Reason.FLEET_OUTAGE, Reason.NO_OUTLET}),
        # Where something can be done, it is not held back by that.
        (20, True, {Reason.FLEET_OUTAGE, Reason.ACT_REBOOT_HOST}),
    ],
)
def test_nobody_is_called_singly_for_one_more_of_an_outage(
    fleet: int, hung: bool, reasons: set[Reason]
) -> None:
    open_one = Incident(
        key="k", kind=IncidentKind.FLEET_OUTAGE, began_at=ago(2_030), members=4, facts={"well": fleet}
    )
    member = ladder(incident="k", began_at=ago(1_900))
    dark = [silent(number, 2_000 + number, ladder=member, hung=False) for number in range(4)]
    plan = plan_of(*dark, silent(9, 1_600, hung=hung), fleet=fleet, incidents=[open_one])
    assert {one.reason for one in plan.decisions} == reasons


@pytest.mark.parametrize(("fleet", "calls", "incidents"), [(5, 0, 1), (1_000, 2, 0)])
def test_two_that_become_unreachable_together_are_one_alarm_in_a_small_fleet(
    fleet: int, calls: int, incidents: int
) -> None:
    # The second one has not been away for long enough yet to be called for.
    plan = plan_of(silent(1, 905, hung=False), silent(2, 880, hung=False), fleet=fleet)
    assert len(plan.incidents) == incidents
    plan = plan_of(silent(1, 1_000, hung=False), silent(2, 980, hung=False), fleet=fleet)
    assert sum(one.verdict.rung is Rung.HUMAN for one in plan.decisions) == calls
    assert len(plan.incidents) == incidents


def test_an_outage_is_over_when_most_have_been_back_for_ten_minutes() -> None:
    incident = Incident(
        key="k",
        kind=IncidentKind.SITE_OUTAGE,
        began_at=ago(5_000),
        site="Messe",
        members=10,
        calm_since=ago(700),
    )
    left = [silent(n, 5_000, hung=n > 0, ladder=ladder(incident="k", began_at=ago(4_900))) for n in (0, 1)]
    plan = plan_of(*left, incidents=[incident])
    assert plan.incidents[0].closing is Closing.OVER
    assert [one.reason for one in plan.decisions] == [Reason.NO_OUTLET, Reason.ACT_REBOOT_HOST]


def test_those_left_behind_are_one_alarm() -> None:
    left = [silent(n, 5_000, hung=False, ladder=ladder(incident="k", began_at=ago(4_900))) for n in range(4)]
    plan = plan_of(*left)
    assert {(one.reason, one.verdict.rung) for one in plan.decisions} == {(Reason.LEFT_BEHIND, None)}
    assert {one.ladder.phase for one in plan.decisions if one.ladder} == {Phase.NEEDS_HUMAN}
    assert [one.kind for one in plan.incidents] == [IncidentKind.LEFT_BEHIND]


def test_clients_left_behind_by_an_outage_later_are_another_alarm() -> None:
    """The incident about the first ones has ended, and what ended stays so."""

    def left(*numbers: int, incident: str) -> list[Patient]:
        member = ladder(incident=incident, began_at=ago(4_900))
        return [silent(number, 5_000, hung=False, ladder=member) for number in numbers]

    (first,) = plan_of(*left(1, 2, incident="k")).incidents
    earlier = replace(first, key=first.key.replace(f"{NOW.timestamp():.0f}", "1770000000"))
    # Still open: who was left since joins it, and who is part of it is not counted again.
    plan = plan_of(*left(1, 2, incident=earlier.key), *left(3, incident="k"), incidents=[earlier])
    assert [(one.key, one.members) for one in plan.incidents] == [(earlier.key, 3)]
    # It has ended. Its members, too, and those of the outage are one alarm, with a key of its own.
    plan = plan_of(*left(1, 2, incident=earlier.key), *left(3, incident="k"))
    assert [(one.key, one.members) for one in plan.incidents] == [(first.key, 3)]
    assert {one.verdict.incident for one in plan.decisions} == {first.key} != {earlier.key}


def test_those_left_behind_are_one_alarm_also_if_one_of_them_would_be_called_for_first() -> None:
    patient = ladder(incident="k", began_at=ago(4_900), returns=6)
    left = [
        silent(n, 5_000, hung=False, ladder=patient._replace(returns=6 * (n > 0)), status_since=ago(1_000))
        for n in range(3)
    ]
    late = [one._replace(stale_at=ago(1_000)) for one in left]
    assert {one.reason for one in plan_of(*late).decisions} == {Reason.LEFT_BEHIND}


def test_after_a_day_the_members_are_gone() -> None:
    incident = Incident(key="k", kind=IncidentKind.FLEET_OUTAGE, began_at=ago(86_500), members=5)
    dark = [silent(n, 86_500, ladder=ladder(incident="k", began_at=ago(86_400))) for n in range(5)]
    plan = plan_of(*dark, incidents=[incident])
    assert plan.incidents[0].closing is Closing.GONE
    assert {(one.reason, one.verdict.rung) for one in plan.decisions} == {(Reason.GONE, None)}
    assert {one.ladder.phase for one in plan.decisions if one.ladder} == {Phase.GONE}


# --- we cannot judge


def test_blindness_moves_nothing() -> None:
    observer = Observer(listening_since=None, started_at=LONG_AGO)
    plan = plan_of(speaking(1), silent(2), observer=observer)
    assert {one.reason for one in plan.decisions} == {Reason.BROKER_DISCONNECTED}
    assert [one.ladder for one in plan.decisions] == [None, None]
    assert [one.kind for one in plan.incidents] == [IncidentKind.OBSERVER]


def test_silence_is_not_judged_until_we_have_listened_for_long_enough() -> None:
    observer = Observer(listening_since=ago(100), started_at=ago(100))
    assert reason_of(silent(1, 3_000), observer=observer) is Reason.OBSERVER_GRACE
    assert reason_of(speaking(1, 3_000), observer=observer) is Reason.ACT_RESTART_APP


def test_commands_that_nobody_answers_are_our_own_trouble() -> None:
    sent = [Sent(f"{number:08}", ago(100 + number), False) for number in range(5)]
    plan = plan_of(speaking(9), sent=sent)
    assert only(plan).reason is Reason.COMMANDS_UNANSWERED
    assert [one.kind for one in plan.incidents] == [IncidentKind.COMMANDS_UNANSWERED]
    answered = [*sent[:4], Sent("x", ago(90), True)]
    assert reason_of(speaking(9), sent=answered) is Reason.ACT_RESTART_APP


# --- charging


def test_a_refusal_is_no_attempt_and_calls_for_a_human() -> None:
    refused = [attempt(1, 200, Outcome.REFUSED, error_code="expired")]
    decision = only(plan_of(speaking(1, 3_000, ladder=ladder(), attempts=refused)))
    assert decision.reason is Reason.REFUSED
    assert decision.verdict.arguments["code"] == "expired"
    later = [attempt(1, 4_000, Outcome.REFUSED, error_code="expired")]
    again = only(plan_of(speaking(1, 5_000, ladder=ladder(), attempts=later)))
    assert (again.reason, again.verdict.attempt) == (Reason.ACT_RESTART_APP, 1)


def test_the_ladder_is_climbed_by_what_was_accepted() -> None:
    tried = [attempt(1, 2_000, Outcome.NO_EFFECT), attempt(1, 1_500, Outcome.NO_EFFECT)]
    assert reason_of(speaking(1, 5_000, ladder=ladder(), attempts=tried)) is Reason.ACT_REBOOT_HOST
    tried.append(attempt(1, 1_000, Outcome.NO_EFFECT, rung=Rung.REBOOT_HOST))
    assert reason_of(speaking(1, 5_000, ladder=ladder(), attempts=tried)) is Reason.NO_OUTLET


def test_so_many_actions_a_day_and_then_one_at_night() -> None:
    used = [attempt(number, 80_000 + number, Outcome.HELPED) for number in range(6)]
    tired = speaking(1, 5_000, ladder=ladder(), attempts=used)
    assert reason_of(tired) is Reason.LIMIT_REACHED
    assert reason_of(tired, night=True) is Reason.ACT_RESTART_APP


def test_an_attempt_helped_when_its_client_is_back_and_not_if_it_relapses() -> None:
    back = speaking(1, status=Condition.ONLINE, process_status=ProcessStatus.RUNNING)
    running = attempt(1, 60)
    assert plan_of(back._replace(ladder=ladder(), attempts=[running])).outcomes == {"c1": Outcome.HELPED}
    again = speaking(1, 30, ladder=ladder(), attempts=[attempt(1, 100, Outcome.HELPED)])
    assert plan_of(again).outcomes == {"c1": Outcome.NO_EFFECT}


def test_a_refusal_is_asked_again_once_an_hour_and_stays_one_call() -> None:
    called = ladder(phase=Phase.NEEDS_HUMAN, rung=Rung.HUMAN)
    refused = attempt(1, 3_500, Outcome.REFUSED, error_code="expired")
    waits = only(plan_of(speaking(1, 5_000, ladder=called, attempts=[refused])))
    assert (waits.reason, waits.verdict.rung) == (Reason.REFUSED, Rung.HUMAN)
    refused = attempt(1, 3_610, Outcome.REFUSED, error_code="expired")
    again = only(plan_of(speaking(1, 5_000, ladder=called, attempts=[refused])))
    assert again.reason is Reason.ACT_RESTART_APP
    assert again.ladder is not None
    assert again.ladder.phase is Phase.NEEDS_HUMAN
    ordered = attempt(2, 10, accepted_at=None)
    asked = only(plan_of(speaking(1, 5_000, ladder=called, attempts=[refused, ordered])))
    assert (asked.reason, asked.verdict.rung) == (Reason.REFUSED, Rung.HUMAN)


def test_a_busy_device_is_asked_again_soon_twice_and_then_once_an_hour() -> None:
    busy = [attempt(1, 300, Outcome.REFUSED, error_code="busy")]
    assert reason_of(speaking(1, 5_000, ladder=ladder(), attempts=busy)) is Reason.ACT_RESTART_APP
    soon = [attempt(1, 100, Outcome.REFUSED, error_code="busy")]
    assert only(plan_of(speaking(1, 5_000, ladder=ladder(), attempts=soon))).verdict.rung is Rung.RESTART_APP
    thrice = [attempt(n, 900 - 200 * n, Outcome.REFUSED, error_code="busy") for n in range(3)]
    called = only(plan_of(speaking(1, 5_000, ladder=ladder(), attempts=thrice)))
    assert (called.reason, called.verdict.rung) == (Reason.REFUSED, Rung.HUMAN)


def test_many_that_refuse_alike_are_one_incident_however_far_apart() -> None:
    refusing = [
        speaking(
            number,
            9_000 + 3_000 * number,
            ladder=ladder(),
            attempts=[attempt(number, 600, Outcome.REFUSED, error_code="expired")],
        )
        for number in range(4)
    ]
    plan = plan_of(*refusing)
    assert [(one.kind, one.members) for one in plan.incidents] == [(IncidentKind.ALIKE, 4)]
    assert {(one.reason, one.verdict.rung) for one in plan.decisions} == {(Reason.REFUSED, None)}


def test_a_group_that_refuses_everything_stops_and_calls_for_nobody_singly() -> None:
    group = Incident(key="g", kind=IncidentKind.ALIKE, began_at=ago(3_000), trouble="crashed", members=40)
    member = ladder(incident="g", unwell_since=ago(3_000))
    tries = [attempt(n, 2_000 - n, Outcome.REFUSED, incident="g", error_code="expired") for n in range(10)]
    ill = [
        speaking(
            number, 3_000, ladder=member, attempts=[one for one in tries if one.client_uuid == f"{number:08}"]
        )
        for number in range(40)
    ]
    plan = plan_of(*ill, incidents=[group], waves={"g": tries})
    assert sum(one.verb is Verb.ACT for one in plan.decisions) <= 1
    assert not [one for one in plan.decisions if one.verdict.rung is Rung.HUMAN]


def test_a_client_heard_once_is_no_part_of_a_coincidence() -> None:
    slow = [silent(number, 400 + number, interval=None, beats=1) for number in range(30)]
    plan = plan_of(*slow)
    assert ({one.reason for one in plan.decisions}, plan.incidents) == ({Reason.RHYTHM_UNKNOWN}, ())


def test_those_that_fell_silent_in_our_own_absence_get_time_to_come_back_before_it_is_an_outage() -> None:
    away = [silent(number, 700 + number) for number in range(30)]
    back = Observer(listening_since=ago(150), started_at=LONG_AGO)
    plan = plan_of(*away, observer=back)
    assert ({one.reason for one in plan.decisions}, plan.incidents) == ({Reason.OBSERVER_GRACE}, ())
    back = Observer(listening_since=ago(200), started_at=LONG_AGO)
    plan = plan_of(*away, observer=back)
    assert [(one.kind, one.members) for one in plan.incidents] == [(IncidentKind.FLEET_OUTAGE, 30)]


@pytest.mark.parametrize(
    ("heard", "count", "hung", "acts"),
    [(1_700, 3, True, 0), (1_850, 3, True, 3), (1_850, 3, False, 0), (1_850, 12, True, 0)],
)
def test_a_few_that_stay_connected_long_after_an_outage_of_few_began_are_hung(
    heard: float, count: int, hung: bool, acts: int
) -> None:
    plan = plan_of(*(silent(n, heard + n, hung=hung, keepalive=60) for n in range(count)), fleet=25)
    assert [one.members for one in plan.incidents] == [count]
    assert sum(one.verb is Verb.ACT for one in plan.decisions) == acts
    later = plan_of(
        *(
            silent(n, 9_000 + n, hung=hung, ladder=ladder(incident=plan.incidents[0].key))
            for n in range(count)
        ),
        fleet=25,
        incidents=plan.incidents,
    )
    assert [one for one in later.decisions if one.verdict.rung is Rung.HUMAN] == []


def unanswered(number: int, seconds_ago: float, tries: int = 2) -> Patient:
    made = [
        attempt(10 * number + n, seconds_ago + 300 * (tries - n), Outcome.UNANSWERED) for n in range(tries)
    ]
    return speaking(number, 6_000, ladder=ladder(), attempts=made)


def test_while_nobody_answers_nobody_is_called_for_and_one_is_tried_now_and_then() -> None:
    mute = [unanswered(number, 100) for number in range(8)]
    sent = [Sent(f"{number:08}", ago(400 + number), False) for number in range(6)]
    plan = plan_of(*mute, sent=sent)
    assert {(one.reason, one.verdict.rung) for one in plan.decisions} == {(Reason.COMMANDS_UNANSWERED, None)}
    assert [one.kind for one in plan.incidents] == [IncidentKind.COMMANDS_UNANSWERED]


@pytest.mark.parametrize(
    ("began", "last", "probed"),
    [(290, 400, False), (310, 400, True), (1_000, 310, False), (2_000, 1_010, True), (90_000, 3_590, False)],
)
def test_whether_commands_arrive_again_is_tried_soon_and_then_ever_more_rarely(
    began: float, last: float, probed: bool
) -> None:
    lost = Incident(key="v", kind=IncidentKind.COMMANDS_UNANSWERED, began_at=ago(began))
    mute = [unanswered(number, last - 300, 2) for number in range(8)]
    plan = plan_of(*mute, incidents=[lost])
    acts = [one.reason for one in plan.decisions if one.verb is Verb.ACT]
    # What nobody answered leads to no higher rung.
    assert acts == [Reason.ACT_RESTART_APP] * probed
    assert [one.ended_at for one in plan.incidents] == [None]


def test_a_client_in_trouble_since_commands_do_not_arrive_is_asked_once() -> None:
    lost = Incident(key="v", kind=IncidentKind.COMMANDS_UNANSWERED, began_at=ago(200))
    plan = plan_of(unanswered(0, 100), speaking(1, 150), incidents=[lost])
    assert [one.verb for one in plan.decisions] == [Verb.HOLD, Verb.ACT]


def test_two_that_do_not_answer_are_asked_again_later_and_are_one_incident() -> None:
    sent = [Sent(f"{number:08}", ago(400 + number), False) for number in range(2)]
    plan = plan_of(unanswered(0, 100, 1), unanswered(1, 700, 1), speaking(2), sent=sent)
    assert [one.reason for one in plan.decisions] == [
        Reason.COMMANDS_UNANSWERED,
        Reason.ACT_RESTART_APP,
        Reason.ACT_RESTART_APP,
    ]
    assert plan.incidents == ()
    given_up = unanswered(0, 100, 4)
    given_up = given_up._replace(
        attempts=[
            *given_up.attempts[:2],
            *(replace(one, rung=Rung.REBOOT_HOST) for one in given_up.attempts[2:]),
        ]
    )
    plan = plan_of(given_up, unanswered(1, 700, 1), sent=sent)
    assert [one.kind for one in plan.incidents] == [IncidentKind.COMMANDS_UNANSWERED]
    assert {(one.reason, one.verdict.rung) for one in plan.decisions} == {(Reason.COMMANDS_UNANSWERED, None)}
    # One alone is no doubt.
    assert only(plan_of(given_up, sent=sent[:1])).reason is Reason.UNANSWERED
    assert only(plan_of(unanswered(0, 100), sent=sent[:1])).reason is Reason.ACT_REBOOT_HOST


def test_an_answer_ends_it_and_what_did_not_arrive_does_not_count() -> None:
    lost = Incident(key="v", kind=IncidentKind.COMMANDS_UNANSWERED, began_at=ago(1_000))
    plan = plan_of(unanswered(0, 100), incidents=[lost], sent=[Sent("x", ago(20), True)])
    assert plan.incidents[0].closing is Closing.OVER
    assert set(plan.outcomes.values()) == {Outcome.UNDELIVERED}
    assert len(plan.outcomes) == 2


def test_a_device_that_hears_nothing_is_given_up_and_not_asked_every_hour() -> None:
    reboots = [attempt(n, 9_000 - 300 * n, Outcome.UNANSWERED, rung=Rung.REBOOT_HOST) for n in range(2)]
    deaf = silent(0, 9_500, ladder=ladder(began_at=ago(9_400)), attempts=reboots)
    assert reason_of(deaf) is Reason.UNANSWERED


# --- waves


def test_a_few_that_can_all_be_tried_at_once_are_no_incident() -> None:
    plan = plan_of(*(speaking(number) for number in range(3)))
    assert ([one.verb for one in plan.decisions], plan.incidents) == ([Verb.ACT] * 3, ())
    plan = plan_of(*(speaking(number) for number in range(4)))
    assert [(one.kind, one.members) for one in plan.incidents] == [(IncidentKind.ALIKE, 4)]


def test_a_few_that_are_not_helped_are_one_incident_and_their_tries_count() -> None:
    since = ladder(began_at=ago(300), unwell_since=ago(300))
    tried = [speaking(n, 300, ladder=since, attempts=[attempt(n, 130, Outcome.NO_EFFECT)]) for n in range(3)]
    plan = plan_of(*tried)
    assert [(one.kind, one.members) for one in plan.incidents] == [(IncidentKind.ALIKE, 3)]
    assert [one.verb for one in plan.decisions] == [Verb.ACT] * 3
    more = [speaking(n, 300, ladder=since) for n in range(3, 90)]
    ten = [speaking(n, 300, ladder=since, attempts=[attempt(n, 130, Outcome.NO_EFFECT)]) for n in range(10)]
    plan = plan_of(*ten, *more[10:])
    assert sum(one.verb is Verb.ACT for one in plan.decisions) == 0


def test_one_that_was_not_helped_beside_a_group_that_was_not_is_no_call_of_its_own() -> None:
    group = Incident(key="g", kind=IncidentKind.ALIKE, began_at=ago(3_900), trouble="crashed", members=3)
    rungs = (Rung.RESTART_APP, Rung.RESTART_APP, Rung.REBOOT_HOST)

    def climbed(number: int, since: float, key: str | None) -> Patient:
        tried = [
            attempt(number, since - 100 - 120 * step, Outcome.NO_EFFECT, rung=rung, incident=key)
            for step, rung in enumerate(rungs)
        ]
        at = ladder(began_at=ago(since), unwell_since=ago(since), incident=key)
        return speaking(number, since, ladder=at, attempts=tried)

    stuck = [climbed(number, 3_900 - number, "g") for number in range(3)]
    tries = [one for patient in stuck for one in patient.attempts]
    for since, fleet, calls in ((4_000, 40, 0), (6_000, 40, 1), (4_000, 5_000, 1)):
        plan = plan_of(climbed(9, since, None), *stuck, fleet=fleet, incidents=[group], waves={"g": tries})
        assert sum(one.verdict.rung is Rung.HUMAN for one in plan.decisions) == calls
    # A refusal has a reason of its own.
    told = [attempt(9, 300, Outcome.REFUSED, error_code="expired")]
    at = ladder(began_at=ago(4_000), unwell_since=ago(4_000))
    refuses = speaking(9, 4_000, ladder=at, attempts=told)
    plan = plan_of(refuses, *stuck, fleet=40, incidents=[group], waves={"g": tries})
    assert (plan.decisions[0].reason, plan.decisions[0].verdict.rung) == (Reason.REFUSED, Rung.HUMAN)


def test_a_call_for_a_human_stands_while_nothing_new_is_known() -> None:
    told = ladder(phase=Phase.NEEDS_HUMAN, rung=Rung.HUMAN)
    refused = [attempt(1, 600, Outcome.REFUSED, error_code="expired")]
    patient = speaking(1, 7_000, ladder=told, attempts=refused)
    listening = Observer(listening_since=ago(20), started_at=LONG_AGO)
    blind = Observer(listening_since=None, started_at=LONG_AGO)
    for observer, reason in (
        (OBSERVER, Reason.REFUSED),
        (listening, Reason.OBSERVER_GRACE),
        (blind, Reason.BROKER_DISCONNECTED),
    ):
        decision = only(plan_of(patient, observer=observer))
        assert (decision.reason, decision.verdict.rung) == (reason, Rung.HUMAN)
    # Where an incident was the call, it stays the only one.
    decision = only(plan_of(patient._replace(ladder=told.of_incident("left_behind/k")), observer=blind))
    assert decision.verdict.rung is None


def test_a_careful_try_at_night_takes_no_call_back() -> None:
    told = ladder(phase=Phase.NEEDS_HUMAN, rung=Rung.HUMAN, began_at=ago(100_000))
    rungs = (Rung.RESTART_APP, Rung.RESTART_APP, Rung.REBOOT_HOST)
    tried = [attempt(1, 90_000 - 1_000 * n, Outcome.NO_EFFECT, rung=rung) for n, rung in enumerate(rungs)]
    patient = speaking(1, 95_000, ladder=told, attempts=tried)
    decision = only(plan_of(patient, night=True))
    assert (decision.reason, decision.ladder) == (Reason.ACT_RESTART_APP, told)
    assert only(plan_of(patient._replace(can=("reboot_host",)), night=True)).verb is Verb.HOLD
    under_way = [*tried, attempt(2, 30)]
    decision = only(plan_of(patient._replace(attempts=under_way), night=True))
    assert (decision.reason, decision.verdict.rung) == (Reason.WAITING_FOR_VERIFICATION, Rung.HUMAN)


def crowd(count: int) -> list[Patient]:
    return [speaking(number, 120 + number % 20, site=f"s{number % 7}") for number in range(count)]


def test_many_with_the_same_trouble_begin_with_three_of_different_sites() -> None:
    plan = plan_of(*crowd(900))
    acts = [one for one in plan.decisions if one.verb is Verb.ACT]
    assert len(acts) == 3
    assert [(one.kind, one.members) for one in plan.incidents] == [(IncidentKind.ALIKE, 900)]
    assert {one.reason for one in plan.decisions} == {Reason.ACT_RESTART_APP, Reason.WAVE}


def test_a_single_crash_beside_a_stopped_group_goes_as_ever() -> None:
    group = Incident(
        key="g",
        kind=IncidentKind.ALIKE,
        began_at=ago(9_000),
        trouble="crashed",
        members=300,
        stopped_at=ago(5),
    )
    member = ladder(incident="g", unwell_since=ago(8_000))
    tries = [attempt(number, 3_000 - number, Outcome.NO_EFFECT, incident="g") for number in range(10)]
    stuck = [speaking(number, 8_000, ladder=member) for number in range(300)]
    plan = plan_of(speaking(999), *stuck, incidents=[group], waves={"g": tries})
    assert plan.decisions[0].reason is Reason.ACT_RESTART_APP
    assert sum(one.verb is Verb.ACT for one in plan.decisions[1:]) <= 1


def waves(*sizes: tuple[int, Outcome | None]) -> list[Attempt]:
    made: list[Attempt] = []
    for position, (size, outcome) in enumerate(sizes):
        made += [attempt(100 * position + number, 3_600 - 300 * position, outcome) for number in range(size)]
    return made


@pytest.mark.parametrize(
    ("sizes", "allowed", "stopped"),
    [
        ([], 3, False),
        ([(3, None)], 0, False),
        ([(3, Outcome.HELPED)], 9, False),
        ([(3, Outcome.NO_EFFECT)], 3, False),
        ([(3, Outcome.NO_EFFECT)] * 3, 1, False),
        ([(3, Outcome.NO_EFFECT)] * 3 + [(1, Outcome.NO_EFFECT)], 1, True),
        ([(3, Outcome.HELPED), (9, Outcome.HELPED)], 27, False),
        ([(3, Outcome.HELPED), (9, Outcome.HELPED), (40, Outcome.HELPED), (50, None)], 50, False),
        ([(3, Outcome.REFUSED)], 3, False),
        ([(1, None)], 2, False),
        ([(2, Outcome.HELPED), (1, None)], 2, False),
        ([(1, Outcome.NO_EFFECT)] * 9 + [(1, None)], 0, False),
    ],
)
def test_the_pace_of_a_group(sizes: list[tuple[int, Outcome | None]], allowed: int, stopped: bool) -> None:
    pace = pace_of(waves(*sizes), 100, NOW)
    assert (pace.allowed, pace.stopped) == (allowed, stopped)


def test_a_few_that_are_not_helped_climb_beside_each_other() -> None:
    tries = [attempt(n % 5, 3_600 - 60 * n, Outcome.NO_EFFECT) for n in range(12)]
    pace = pace_of(tries, 100, NOW)
    assert (pace.allowed, pace.stopped) == (3, False)


def test_a_group_whose_members_have_all_just_come_back_is_not_over() -> None:
    group = Incident(key="g", kind=IncidentKind.ALIKE, began_at=ago(100), trouble="crashed", members=3)
    back = ladder(phase=Phase.PROVING, changed_at=ago(5), incident="g")
    tried = [attempt(1, 20, Outcome.HELPED, incident="g")]
    well = speaking(
        1, 5, status=Condition.ONLINE, process_status=ProcessStatus.RUNNING, ladder=back, attempts=tried
    )
    assert [one.ended_at for one in plan_of(well, incidents=[group], waves={"g": tried}).incidents] == [None]
    # Those that crash now are of the same group: it is known what has been tried.
    more = [speaking(n, 80, ladder=ladder(unwell_since=ago(80))) for n in range(2, 9)]
    member = back._replace(unwell_since=ago(90))
    plan = plan_of(well._replace(ladder=member), *more, incidents=[group], waves={"g": tried})
    assert [(one.key, one.members) for one in plan.incidents] == [("g", 10)]


def test_a_success_of_a_moment_does_not_open_the_large_waves() -> None:
    fresh = [attempt(number, 40, Outcome.HELPED) for number in range(3)]
    assert pace_of(fresh, 100, NOW).allowed == 7
    assert pace_of([*fresh, *(attempt(n, 30, Outcome.HELPED) for n in range(3, 10))], 100, NOW).allowed == 0


def test_a_success_counts_only_once_a_slow_client_would_have_told_of_the_next_crash() -> None:
    tries = [attempt(number, 130, Outcome.HELPED) for number in range(3)]
    tries += [attempt(number, 129, Outcome.HELPED) for number in range(3, 10)]
    assert pace_of(tries, 100, NOW).allowed == 21
    slow = dict.fromkeys((one.client_uuid for one in tries), 120.0)
    assert pace_of(tries, 100, NOW, slow).allowed == 0
    # In the decision: the canaries have run for over a minute, and their next heartbeat is still to come.
    group = Incident(key="g", kind=IncidentKind.ALIKE, began_at=ago(400), trouble="crashed", members=100)
    made = [replace(one, incident="g") for one in tries]
    back = ladder(phase=Phase.PROVING, unwell_since=ago(400), changed_at=ago(100), incident="g")
    well: dict[str, object] = {"status": Condition.ONLINE, "process_status": ProcessStatus.RUNNING}
    for interval, acts in ((30.0, 21), (120.0, 0)):
        told = {"interval": interval, "stale_after": 400.0, "stale_at": NOW + timedelta(seconds=90)}
        proving = [speaking(n, 100, ladder=back, attempts=[made[n]], **(well | told)) for n in range(10)]
        member = ladder(unwell_since=ago(400), incident="g")
        waiting = [speaking(n, 400, ladder=member, **told) for n in range(10, 100)]
        plan = plan_of(*proving, *waiting, incidents=[group], waves={"g": made})
        assert sum(one.verb is Verb.ACT for one in plan.decisions) == acts


def test_one_that_proves_itself_counts_once_also_beside_two_kinds_of_trouble() -> None:
    back = ladder(phase=Phase.PROVING, began_at=ago(100), unwell_since=ago(100), changed_at=ago(5))
    tried = [attempt(99, 20, Outcome.HELPED)]
    told: dict[str, object] = {"status": Condition.ONLINE, "process_status": ProcessStatus.RUNNING}
    well = speaking(99, 5, ladder=back, attempts=tried, **told)
    since = ladder(unwell_since=ago(80))
    failed = {"status": Condition.SERVICE_FAILED, "failed_at": ago(80)}
    crashed = [speaking(n, 80, ladder=since) for n in range(6)]
    stopped = [speaking(n, 80, ladder=since, **failed) for n in range(10, 16)]
    plan = plan_of(well, *crashed, *stopped)
    assert sorted(one.members for one in plan.incidents) == [6, 7]
    # Part of one of the groups already, it draws nobody of the other trouble into it.
    (group,) = [one for one in plan.incidents if one.trouble == "crashed"]
    member = back._replace(incident=group.key)
    plan = plan_of(well._replace(ladder=member), *stopped, incidents=[group])
    assert [(one.trouble, one.members) for one in plan.incidents if one.key != group.key] == [
        ("service_failed", 6)
    ]


def test_the_members_of_a_dismissed_group_are_treated_singly() -> None:
    member = ladder(incident="alike/crashed/1/x", unwell_since=ago(8_000))
    tries = [
        attempt(number, 3_000 - number, Outcome.NO_EFFECT, incident=member.incident) for number in range(10)
    ]
    stuck = [speaking(number, 8_000, ladder=member) for number in range(20, 320)]
    plan = plan_of(*stuck, waves={"alike/crashed/1/x": tries})
    assert plan.incidents == ()
    # As many at a time as may be, whatever was tried on the group.
    assert sum(one.verb is Verb.ACT for one in plan.decisions) == 100
    assert {one.reason for one in plan.decisions} == {Reason.ACT_RESTART_APP, Reason.WAVE}


def test_a_crash_told_after_an_outage_does_not_wait_for_those_left_behind() -> None:
    member = ladder(incident="fleet_outage/k")
    tries = [attempt(number, 60, incident="fleet_outage/k", rung=Rung.REBOOT_HOST) for number in range(3)]
    hung = [silent(number, 5_000, ladder=member) for number in range(10, 20)]
    plan = plan_of(speaking(1, ladder=member), *hung, waves={"fleet_outage/k": tries})
    assert [one.reason for one in plan.decisions] == [Reason.ACT_RESTART_APP] + [Reason.WAVE] * 10


def test_a_dry_run_decides_the_same() -> None:
    dry = replace(POLICY, enabled=False)
    assert reason_of(speaking(1), policy=dry) is Reason.ACT_RESTART_APP


# --- one clock


@pytest.mark.parametrize("step", [-86_400, -600, 600, 86_400])
def test_stored_times_move_along_with_the_clock(step: float) -> None:
    by = timedelta(seconds=step)
    stepped = NOW
    before = NOW - by - timedelta(hours=1)
    assert moved_time(before, stepped, by, NOW + timedelta(seconds=3)) == before + by
    written_since = NOW + timedelta(seconds=1)
    assert moved_time(written_since, stepped, by, NOW + timedelta(seconds=3)) == written_since


def test_a_receipt_from_the_future_dates_nothing() -> None:
    odd = silent(1, -80_000, status_since=ago(2_000))
    assert reason_of(odd) is Reason.ACT_REBOOT_HOST


# --- always


conditions = st.sampled_from(list(Condition))
times = st.floats(-90_000, 90_000).map(ago)
patients = st.builds(
    Patient,
    uuid=st.uuids().map(str),
    status=conditions,
    status_since=times,
    site=st.sampled_from([None, "a", "b"]),
    network=st.sampled_from([None, "10.0.0.0/24"]),
    last_alive=st.none() | times,
    last_heard_at=st.none() | times,
    stale_at=st.none() | times,
    stale_after=st.none() | st.floats(45, 1_800),
    interval=st.none() | st.floats(1, 600),
    reports=st.integers(0, 10),
    presence=st.none() | st.sampled_from(Presence),
    process_status=st.none() | st.sampled_from(ProcessStatus),
    booted_at=st.none() | times,
    failed_at=st.none() | times,
    start_due_at=st.none() | times,
    refused_until=st.none() | times,
    maintenance_until=st.none() | times,
    can=st.just(()),
    keepalive=st.none() | st.floats(1, 600),
    ladder=st.none(),
    attempts=st.just(()),
    command=st.none(),
    locked_until=st.none(),
    pause=st.none(),
    hold=st.none(),
    within_hours=st.booleans(),
    hours_since=st.none() | times,
    expected_by=st.none() | times,
    next_change_at=st.none() | times,
)


@settings(deadline=None)
@given(st.lists(patients, max_size=30, unique_by=lambda one: one.uuid))
def test_whatever_the_world_everybody_gets_one_decision_with_a_reason(some: list[Patient]) -> None:
    plan = plan_of(*some)
    assert [one.client_uuid for one in plan.decisions] == [one.uuid for one in some]
    for patient, decision in zip(some, plan.decisions, strict=True):
        if patient.status in {
            Condition.ONLINE,
            Condition.MAINTENANCE,
            Condition.SHUT_DOWN,
            Condition.OFF_HOURS,
        }:
            assert decision.verb is not Verb.ACT
        if patient.status is Condition.UNREACHABLE and not patient.outlet:
            assert decision.verb is not Verb.ACT
