"""Outages and budgets: when the many say it is not the clients' fault, and how many are helped at once."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from infoscreen.domain.clients import Condition
from infoscreen.domain.recovery import (
    Census,
    Incident,
    IncidentKind,
    Observer,
    Patient,
    Reason,
    Rung,
    Verb,
    can_witness,
    count_up_to,
    counted_since,
)
from tests.recovery import (
    LONG_AGO,
    NOW,
    POLICY,
    ago,
    ahead,
    attempt,
    client,
    command,
    decision_for,
    ladder,
    patient,
    plan_for,
)

C, K = Condition, IncidentKind


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def many(
    number: int, status: Condition = C.HUNG, since: float = 120, *, first: int = 0, **of: object
) -> list[Patient]:
    return [patient(status, since, of={"uuid": uuid(first + one)} | of) for one in range(number)]


def reasons(patients: Iterable[Patient], **world: object) -> set[Reason]:
    return {decision.reason for decision in plan_for(*patients, **world).decisions}  # type: ignore[arg-type]


def heard(online: int) -> Census:
    return Census(online=online, asked=min(40, online), heard=min(40, online))


def unheard(online: int, share: float) -> Census:
    asked = min(40, online)
    return Census(online=online, asked=asked, heard=round(asked * (1 - share)))


FLEET = Incident(kind=K.FLEET_OUTAGE, began_at=ago(1_000))
SITE = Incident(kind=K.SITE_OUTAGE, began_at=ago(1_000), site="ulm")


# The observer.


@pytest.mark.parametrize(
    ("observer", "reason", "until"),
    [
        (Observer(listening_since=None, started_at=LONG_AGO), Reason.BROKER_DISCONNECTED, None),
        (Observer(listening_since=ago(359), started_at=LONG_AGO), Reason.OBSERVER_GRACE, ahead(1)),
        (Observer(listening_since=LONG_AGO, started_at=ago(300)), Reason.OBSERVER_GRACE, ahead(60)),
        (
            Observer(listening_since=LONG_AGO, started_at=LONG_AGO, ingest_lag=timedelta(seconds=10.1)),
            Reason.INGEST_LAG,
            None,
        ),
        (
            Observer(listening_since=LONG_AGO, started_at=LONG_AGO, loop_lag=timedelta(seconds=5.1)),
            Reason.INGEST_LAG,
            None,
        ),
    ],
)
def test_nothing_moves_while_the_observer_may_be_wrong(
    observer: Observer, reason: Reason, until: datetime | None
) -> None:
    standing = ladder(rung=Rung.REBOOT_HOST)
    patients = [patient(), patient(C.HUNG), patient(C.ONLINE, 90, heartbeats_in_a_row=9, ladder=standing)]
    plan = plan_for(*patients, observer=observer, incidents=(FLEET,), fleet=heard(10_000))
    assert {(one.verb, one.reason, one.until) for one in plan.decisions} == {(Verb.HOLD, reason, until)}
    assert [one.ladder for one in plan.decisions] == [one.ladder for one in patients]
    assert FLEET in plan.incidents


def test_the_observer_has_an_incident_of_its_own_but_a_start_is_none() -> None:
    gone = Observer(listening_since=None, started_at=LONG_AGO)
    back = Observer(listening_since=ago(10), started_at=LONG_AGO)
    (begun,) = plan_for(observer=gone).incidents
    assert begun == Incident(kind=K.OBSERVER, began_at=NOW)
    assert plan_for(observer=back, incidents=(begun,)).incidents == (begun,)
    assert plan_for(incidents=(begun,)).incidents == (replace(begun, ended_at=NOW),)
    assert plan_for(observer=back).incidents == ()
    assert plan_for(observer=Observer(listening_since=None, started_at=ago(359))).incidents == ()
    assert plan_for(observer=Observer(listening_since=None, started_at=ago(360))).incidents == (begun,)


# Outages.


@pytest.mark.parametrize(
    ("silent", "online", "dark"),
    [(55, 45, True), (54, 46, False), (3, 2, True), (2, 0, False), (3, 3, False), (3, 0, True)],
)
def test_an_outage_begins_when_more_than_half_are_silent(silent: int, online: int, dark: bool) -> None:
    plan = plan_for(*many(silent), fleet=heard(online))
    assert (plan.incidents == (Incident(kind=K.FLEET_OUTAGE, began_at=NOW, silent=silent),)) is dark
    assert ({one.reason for one in plan.decisions} == {Reason.FLEET_OUTAGE}) is dark


def test_the_long_dead_do_not_make_an_outage() -> None:
    dead = [patient(C.UNREACHABLE, 86_400, of={"uuid": uuid(one)}) for one in range(60)]
    assert Reason.FLEET_OUTAGE not in reasons(dead, fleet=heard(40))


def test_silence_that_a_command_explains_does_not_make_an_outage() -> None:
    ordered = [replace(one, command=command()) for one in many(60)]
    assert reasons(ordered, fleet=heard(40)) == {Reason.COMMAND_IN_FLIGHT}
    ours = [replace(one, attempts=(attempt(Rung.REBOOT_HOST, 60),), ladder=ladder()) for one in many(60)]
    assert reasons(ours, fleet=heard(40)) == {Reason.WAITING_FOR_VERIFICATION}


@pytest.mark.parametrize(
    ("silent", "calm_since", "after"),
    [
        (60, None, FLEET),
        (45, None, FLEET),
        (39, None, replace(FLEET, calm_since=NOW)),
        (39, ago(299), replace(FLEET, calm_since=ago(299))),
        (45, ago(299), FLEET),
        (39, ago(300), replace(FLEET, calm_since=ago(300), ended_at=NOW)),
    ],
)
def test_an_outage_ends_with_hysteresis_and_a_time_to_settle(
    silent: int, calm_since: datetime | None, after: Incident
) -> None:
    before = replace(FLEET, calm_since=calm_since)
    patients = many(silent, since=1_100)
    plan = plan_for(*patients, fleet=heard(100 - silent), incidents=(before,))
    assert plan.incidents == (replace(after, silent=silent),)
    if after.ended_at is None:
        reason = Reason.FLEET_OUTAGE if after.calm_since is None else Reason.FLEET_SETTLING
        assert {one.reason for one in plan.decisions} == {reason}
    else:
        assert {one.reason for one in plan.decisions} == {Reason.ACT_REBOOT_HOST, Reason.BUDGET}


def test_an_outage_settles_for_as_long_as_clients_keep_coming_back_but_not_for_ever() -> None:
    def after(calm_since: float, silent_before: int) -> Incident:
        before = replace(FLEET, calm_since=ago(calm_since), silent=silent_before)
        (incident,) = plan_for(*many(5, since=1_100), fleet=heard(95), incidents=(before,)).incidents
        return incident

    assert after(300, 5).ended_at == NOW
    assert (after(300, 6).ended_at, after(300, 6).returned_at) == (None, NOW)
    assert after(1_799, 6).ended_at is None
    assert after(1_800, 6).ended_at == NOW


def test_a_long_outage_does_not_end_because_nobody_was_well_lately() -> None:
    began = ago(20_000)
    incident = Incident(kind=K.FLEET_OUTAGE, began_at=began)
    patients = many(60, since=20_100)
    assert counted_since((incident,), None, NOW) == began - timedelta(minutes=10)
    assert plan_for(*patients, fleet=heard(40), incidents=(incident,)).incidents == (
        replace(incident, silent=60),
    )


def test_a_dark_site_is_held_and_the_rest_of_the_fleet_goes_on() -> None:
    dark = many(6, site="ulm")
    elsewhere = many(1, first=100, site="bonn")
    alone = many(1, C.CRASHED, first=200)
    sites = {"ulm": heard(2), "bonn": heard(10)}
    plan = plan_for(*dark, *elsewhere, *alone, sites=sites, fleet=heard(990))
    assert plan.incidents == (Incident(kind=K.SITE_OUTAGE, site="ulm", began_at=NOW, silent=6),)
    assert [one.reason for one in plan.decisions] == [
        *[Reason.SITE_OUTAGE] * 6,
        Reason.ACT_REBOOT_HOST,
        Reason.ACT_RESTART_APP,
    ]


def test_within_an_outage_of_the_fleet_no_site_has_one_but_what_stays_dark_keeps_its_own() -> None:
    dark = many(6, since=500, site="ulm")
    others = many(60, since=500, first=100)
    during = plan_for(*dark, *others, sites={"ulm": heard(1)}, fleet=heard(30))
    assert [one.kind for one in during.incidents] == [K.FLEET_OUTAGE]
    settling = plan_for(*dark, sites={"ulm": heard(1)}, fleet=heard(90), incidents=(FLEET,))
    assert [(one.kind, one.site) for one in settling.incidents] == [
        (K.FLEET_OUTAGE, None),
        (K.SITE_OUTAGE, "ulm"),
    ]


def test_a_site_that_is_gone_has_no_outage_any_more() -> None:
    (ended,) = plan_for(incidents=(replace(SITE, calm_since=ago(300)),)).incidents
    assert ended.ended_at == NOW


# Outages in the making.


def test_an_outage_that_shows_slowly_is_suspected_from_those_who_are_not_heard() -> None:
    fast = many(2)
    assert reasons(fast, fleet=heard(998)) == {Reason.ACT_REBOOT_HOST}
    assert reasons(fast, fleet=unheard(998, 1.0)) == {Reason.OUTAGE_SUSPECTED}
    assert reasons(fast, fleet=unheard(998, 0.5)) == {Reason.OUTAGE_SUSPECTED}
    assert reasons(fast, fleet=unheard(998, 0.2)) == {Reason.ACT_REBOOT_HOST}
    assert reasons(many(1, C.CRASHED), fleet=unheard(998, 1.0)) == {Reason.ACT_RESTART_APP}


def test_the_same_at_a_site() -> None:
    fast = many(2, site="ulm")
    assert reasons(fast, sites={"ulm": heard(8)}) == {Reason.ACT_REBOOT_HOST}
    assert reasons(fast, sites={"ulm": unheard(8, 1.0)}) == {Reason.OUTAGE_SUSPECTED}


def test_two_silent_screens_of_three_are_no_outage() -> None:
    assert reasons(many(1), fleet=unheard(2, 0.5), size=3) == {Reason.ACT_REBOOT_HOST}


def test_without_witnesses_time_tells() -> None:
    quiet = Census(online=50, asked=0, heard=0)
    one = patient(C.HUNG, 194)  # heard until 239 s ago
    decision = decision_for(one, fleet=quiet)
    assert (decision.reason, decision.until) == (Reason.NO_WITNESS, ahead(1))
    assert decision_for(one, fleet=quiet, now=ahead(1)).reason is Reason.ACT_REBOOT_HOST
    assert decision_for(one, fleet=Census(online=1), size=2).reason is Reason.ACT_REBOOT_HOST


def test_only_who_beats_often_enough_can_witness() -> None:
    def beating(interval: float | None, deviation: float | None) -> bool:
        one = client(C.ONLINE, heartbeat_interval_seconds=interval, heartbeat_deviation_seconds=deviation)
        return can_witness(one, POLICY)

    assert beating(60, 15)
    assert not beating(60, 16)
    assert not beating(None, None)


def test_many_that_fall_silent_together_are_held_until_the_storm_has_passed() -> None:
    storm = many(100, since=120)
    assert reasons(storm, fleet=heard(900)) == {Reason.STORM}
    (until,) = {one.until for one in plan_for(*storm, fleet=heard(900)).decisions}
    assert until == ahead(180)
    assert Reason.ACT_REBOOT_HOST in reasons(many(100, since=300), fleet=heard(900))
    assert Reason.ACT_REBOOT_HOST in reasons(many(99, since=120), fleet=heard(901))
    crashed = [patient(of={"uuid": uuid(one)}) for one in range(100)]
    assert Reason.ACT_RESTART_APP in reasons(crashed, fleet=heard(900))


def test_counting_may_stop_where_more_would_change_nothing() -> None:
    for silent in (1, 2, 3, 50):
        capped = count_up_to(silent)
        assert reasons(many(silent), fleet=heard(capped)) == reasons(many(silent), fleet=heard(100_000))


# The budget.


def test_the_oldest_are_helped_first_and_only_so_many() -> None:
    crashed = [patient(since=100 + one, of={"uuid": uuid(one)}) for one in range(20)]
    plan = plan_for(*crashed)
    acted = [one.client_uuid for one in plan.decisions if one.verb is Verb.ACT]
    assert acted == [uuid(one) for one in (15, 16, 17, 18, 19)]
    held = [one for one in plan.decisions if one.verb is not Verb.ACT]
    assert {one.reason for one in held} == {Reason.BUDGET}
    assert plan.budget.started == 5


@pytest.mark.parametrize(
    ("size", "in_flight", "started"), [(1_000, 0, 5), (99, 0, 1), (200, 0, 2), (1_000, 3, 2), (1_000, 7, 0)]
)
def test_the_budget_counts_what_is_in_flight(size: int, in_flight: int, started: int) -> None:
    flying = [
        patient(of={"uuid": uuid(one)}, attempts=(attempt(Rung.RESTART_APP, 10),), ladder=ladder())
        for one in range(in_flight)
    ]
    waiting = [patient(of={"uuid": uuid(100 + one)}) for one in range(10)]
    plan = plan_for(*flying, *waiting, size=size)
    assert (plan.budget.in_flight, plan.budget.started) == (in_flight, started)
    assert sum(one.verb is Verb.ACT for one in plan.decisions) == started


def test_the_next_step_is_never_later_than_the_next_poll() -> None:
    assert plan_for().next_at == ahead(15)
    assert plan_for(patient(since=55)).next_at == ahead(5)
