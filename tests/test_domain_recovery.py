"""The ladder of one client: where it enters, what it awaits, what holds it, when it is well again."""

import json
import string
from dataclasses import replace
from datetime import timedelta

import pytest

from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.recovery import (
    Ladder,
    Patient,
    Pause,
    Phase,
    Reason,
    RecoveryPolicy,
    Rung,
    Verb,
    acknowledged,
    sentence,
)
from infoscreen.domain.recovery.ladder import TRANSITIONS, Step, stepped
from infoscreen.domain.recovery.reasons import WORDS, Ending
from tests.recovery import (
    DRY,
    NOW,
    POLICY,
    ago,
    ahead,
    attempt,
    command,
    decision_for,
    ladder,
    patient,
)

C = Condition
PERSISTENT = {"persistent_session": True}


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (patient(C.CRASHED), Reason.ACT_RESTART_APP),
        (patient(C.SERVICE_FAILED), Reason.ACT_RESTART_APP),
        (patient(C.HUNG), Reason.ACT_REBOOT_HOST),
        (patient(C.UNREACHABLE, 700, of=PERSISTENT), Reason.ACT_REBOOT_HOST),
        (patient(C.UNREACHABLE, 700), Reason.NO_OUTLET),
        (patient(C.UNREACHABLE, 700, outlet=True), Reason.ACT_POWER_CYCLE),
        (patient(C.UNREACHABLE, 700, outlet=True, of=PERSISTENT), Reason.ACT_REBOOT_HOST),
        # A failed service outranks silence in what is shown, but a command would not arrive.
        (
            patient(C.SERVICE_FAILED, 700, of={"last_alive": ago(800), "stale_at": ago(755)}),
            Reason.ACT_REBOOT_HOST,
        ),
        (
            patient(
                C.SERVICE_FAILED,
                700,
                of={"last_alive": ago(800), "stale_at": ago(755), "presence": Presence.OFFLINE},
            ),
            Reason.NO_OUTLET,
        ),
        # A device that does not handle an action is spared it.
        (patient(C.CRASHED, of={"capabilities": ["reboot_host"]}), Reason.ACT_REBOOT_HOST),
    ],
)
def test_each_trouble_enters_the_ladder_at_its_rung(one: Patient, reason: Reason) -> None:
    assert decision_for(one).reason is reason


R1, R2, R3 = Rung.RESTART_APP, Rung.REBOOT_HOST, Rung.POWER_CYCLE


@pytest.mark.parametrize(
    ("condition", "tried", "outlet", "reason"),
    [
        (C.CRASHED, [], False, Reason.ACT_RESTART_APP),
        (C.CRASHED, [R1], False, Reason.ACT_RESTART_APP),
        (C.CRASHED, [R1, R1], False, Reason.ACT_REBOOT_HOST),
        (C.CRASHED, [R1, R1, R2], False, Reason.NO_OUTLET),
        (C.CRASHED, [R1, R1, R2], True, Reason.ACT_POWER_CYCLE),
        (C.CRASHED, [R1, R1, R2, R3], True, Reason.EXHAUSTED),
        (C.SERVICE_FAILED, [R1], False, Reason.ACT_REBOOT_HOST),
        (C.HUNG, [R2], False, Reason.NO_OUTLET),
        (C.HUNG, [R2], True, Reason.ACT_POWER_CYCLE),
        # Never below a rung that was tried: after a reboot a restart is no news.
        (C.CRASHED, [R2], False, Reason.NO_OUTLET),
        # What was crashed and went silent is rebooted, whatever is left of the first rung.
        (C.HUNG, [R1], False, Reason.ACT_REBOOT_HOST),
    ],
)
def test_the_ladder_is_climbed_rung_by_rung(
    condition: Condition, tried: list[Rung], outlet: bool, reason: Reason
) -> None:
    attempts = tuple(attempt(rung, 2_900 - 10 * number) for number, rung in enumerate(tried))
    one = patient(condition, outlet=outlet, attempts=attempts, ladder=ladder())
    assert decision_for(one).reason is reason


@pytest.mark.parametrize(
    ("rung", "seconds"), [(R1, 120), (R2, 600), (R3, 900)], ids=["restart_app", "reboot_host", "power_cycle"]
)
def test_an_attempt_is_given_time_to_show_its_effect(rung: Rung, seconds: float) -> None:
    def at(passed: float) -> Reason:
        return decision_for(patient(attempts=(attempt(rung, passed),), ladder=ladder(), outlet=True)).reason

    waiting = decision_for(patient(attempts=(attempt(rung, seconds - 1),), ladder=ladder(), outlet=True))
    assert (waiting.verb, waiting.reason, waiting.until) == (
        Verb.WAIT,
        Reason.WAITING_FOR_VERIFICATION,
        ahead(1),
    )
    assert at(seconds) is not Reason.WAITING_FOR_VERIFICATION


def test_an_attempt_that_never_left_is_not_charged() -> None:
    attempts = (attempt(R1, 400, published=False, dropped=True), attempt(R1, 300, published=False))
    decision = decision_for(patient(attempts=attempts, ladder=ladder()))
    assert (decision.reason, decision.attempt) == (Reason.ACT_RESTART_APP, 1)


def test_nothing_else_is_done_while_an_attempt_is_on_its_way_out() -> None:
    decision = decision_for(patient(attempts=(attempt(R1, 239, published=False),), ladder=ladder()))
    assert (decision.verb, decision.reason, decision.until) == (Verb.WAIT, Reason.ORDERED, ahead(1))


@pytest.mark.parametrize(
    ("one", "verb", "reason", "until"),
    [
        (patient(of={"maintenance_until": ahead(60)}), Verb.HOLD, Reason.MAINTENANCE, ahead(60)),
        (patient(C.SHUT_DOWN), Verb.HOLD, Reason.SHUT_DOWN, None),
        (patient(pause=Pause(until=ahead(90), why="painters")), Verb.HOLD, Reason.PAUSED, ahead(90)),
        (patient(of={"auto_recovery": False}), Verb.HOLD, Reason.AUTO_RECOVERY_OFF, None),
        (patient(command=command()), Verb.WAIT, Reason.COMMAND_IN_FLIGHT, ahead(230)),
        (patient(locked_until=ahead(300)), Verb.HOLD, Reason.LOCKOUT, ahead(300)),
        (patient(since=59), Verb.WAIT, Reason.GRACE, ahead(1)),
        (patient(C.HUNG, 59), Verb.WAIT, Reason.GRACE, ahead(1)),
        (patient(C.UNREACHABLE, 554), Verb.WAIT, Reason.MAY_BE_REBOOTING, ahead(1)),
        (patient(C.HUNG, 100, ladder=ladder(returns=1)), Verb.WAIT, Reason.FLAPPING, ahead(20)),
        (
            patient(C.HUNG, outlet=True, attempts=(attempt(R2, 1_500), attempt(R2, 3_000))),
            Verb.HOLD,
            Reason.LIMIT_REACHED,
            None,
        ),
        (patient(C.ONLINE, 30, ladder=ladder()), Verb.WAIT, Reason.CONFIRMING, ahead(30)),
        (patient(C.ONLINE, 30, ladder=ladder(Phase.WELL, 100)), Verb.WAIT, Reason.RELAPSE_WATCH, ahead(800)),
        (
            patient(C.SERVICE_FAILED, of={"process_status": ProcessStatus.RUNNING}),
            Verb.HOLD,
            Reason.RUNS_AGAIN,
            None,
        ),
        (patient(C.ONLINE), Verb.HOLD, Reason.NOTHING_TO_DO, None),
    ],
)
def test_what_speaks_against_acting_is_said(one: Patient, verb: Verb, reason: Reason, until: object) -> None:
    decision = decision_for(one)
    assert (decision.verb, decision.reason, decision.until) == (verb, reason, until)
    assert decision.action is None


def test_the_first_of_several_reasons_is_given() -> None:
    paused = {"pause": Pause(until=ahead(90), why="painters")}
    under_way = {"command": command(), "attempts": (attempt(R1, 10),), "ladder": ladder()}
    both = patient(of={"maintenance_until": ahead(60)}, **paused, **under_way)
    assert decision_for(both).reason is Reason.MAINTENANCE
    assert decision_for(patient(**paused, **under_way)).reason is Reason.PAUSED
    assert decision_for(patient(**under_way)).reason is Reason.COMMAND_IN_FLIGHT


# Well again.


def online(since: float, beats: int, standing: Ladder) -> Patient:
    return patient(C.ONLINE, since, heartbeats_in_a_row=beats, ladder=standing)


@pytest.mark.parametrize(
    ("since", "beats", "phase"),
    [
        (59, 30, Phase.PROVING),
        (600, 2, Phase.PROVING),
        (60, 3, Phase.WELL),
    ],
)
@pytest.mark.parametrize("before", [Phase.PROVING, Phase.NEEDS_HUMAN])
def test_well_again_takes_heartbeats_and_time(since: float, beats: int, phase: Phase, before: Phase) -> None:
    after = decision_for(online(since, beats, ladder(before))).ladder
    assert after is not None
    assert after.phase is (phase if phase is Phase.WELL else before)


def test_a_relapse_goes_on_where_the_ladder_was_and_a_later_trouble_begins_anew() -> None:
    attempts = (attempt(R1, 2_900), attempt(R1, 2_700))
    well = ladder(Phase.WELL, 3_000, changed_at=ago(899))
    relapsed = decision_for(patient(attempts=attempts, ladder=well))
    assert (relapsed.reason, relapsed.attempt) == (Reason.ACT_REBOOT_HOST, 1)
    forgotten = decision_for(online(1_000, 50, replace(well, changed_at=ago(900))))
    assert forgotten.ladder is None
    later = decision_for(patient(attempts=attempts))
    assert (later.reason, later.attempt) == (Reason.ACT_RESTART_APP, 1)


def test_moments_of_being_well_in_between_do_not_renew_the_grace_of_a_crashing_application() -> None:
    one = patient(C.CRASHED, 5, ladder=ladder(Phase.PROVING, 90))
    assert decision_for(one).reason is Reason.ACT_RESTART_APP


def test_whoever_comes_back_by_itself_is_waited_for_longer_each_time() -> None:
    back = decision_for(online(5, 1, ladder(seconds_ago=200))).ladder
    assert back is not None
    assert (back.phase, back.returns) == (Phase.PROVING, 1)
    helped = decision_for(
        patient(C.ONLINE, 5, ladder=ladder(seconds_ago=200), attempts=(attempt(R2, 100),))
    ).ladder
    assert helped is not None
    assert helped.returns == 0
    waits = [decision_for(patient(C.HUNG, 1, ladder=ladder(returns=times))).until for times in range(8)]
    assert waits == [ahead(59 + 60 * (2**n - 1)) if n < 4 else ahead(899) for n in range(8)]


def test_who_needs_a_human_is_left_alone_until_acknowledged() -> None:
    attempts = (attempt(R1, 2_900), attempt(R1, 2_700), attempt(R2, 2_500))
    given_up = decision_for(patient(attempts=attempts, ladder=ladder()))
    assert given_up.rung is Rung.HUMAN
    assert given_up.ladder is not None
    for seconds in (15, 86_400, 864_000):
        later = NOW + timedelta(seconds=seconds)
        # A day later the attempts are not even known any more.
        again = decision_for(
            patient(attempts=attempts if seconds < 86_400 else (), ladder=given_up.ladder), now=later
        )
        assert (again.verb, again.reason) == (Verb.HOLD, Reason.NO_OUTLET)
    anew = acknowledged(given_up.ladder, NOW)
    assert anew is None
    assert decision_for(patient(attempts=attempts, ladder=anew)).reason is Reason.ACT_RESTART_APP


def test_the_limits_outlive_an_acknowledgement() -> None:
    attempts = (attempt(R2, 3_000), attempt(R2, 1_000))
    assert decision_for(patient(C.HUNG, attempts=attempts)).reason is Reason.LIMIT_REACHED


def test_who_could_not_be_helped_is_helped_once_it_can_be() -> None:
    helpless = decision_for(patient(C.UNREACHABLE, 700)).ladder
    assert helpless is not None
    assert helpless.phase is Phase.NEEDS_HUMAN
    decision = decision_for(patient(C.CRASHED, ladder=helpless))
    assert decision.reason is Reason.ACT_RESTART_APP
    assert decision.ladder is not None
    assert decision.ladder.phase is Phase.CLIMBING


def test_a_rung_without_attempts_does_not_exist() -> None:
    policy = replace(POLICY, restart_attempts=0)
    assert decision_for(patient(), policy).reason is Reason.ACT_REBOOT_HOST
    nothing = RecoveryPolicy(enabled=True, restart_attempts=0, reboot_attempts=0, power_cycle_attempts=0)
    assert decision_for(patient(), nothing).reason is Reason.EXHAUSTED


def test_a_failed_service_is_well_once_the_application_is_said_to_run_after_the_failure() -> None:
    # What it said before is forgotten when the failure is reported; times are not compared.
    unknown = patient(C.SERVICE_FAILED, 120, of={"process_status": None})
    runs = patient(
        C.SERVICE_FAILED,
        120,
        of={"process_status": ProcessStatus.RUNNING, "app_started_at": ago(500)},
        ladder=ladder(),
    )
    assert decision_for(unknown).reason is Reason.ACT_RESTART_APP
    decision = decision_for(runs)
    assert decision.reason is not Reason.ACT_RESTART_APP
    assert decision.ladder is not None
    assert decision.ladder.phase is Phase.PROVING


# The dry run.


def test_a_dry_run_decides_the_same_and_says_that_it_would() -> None:
    for one in (patient(), patient(C.HUNG), patient(since=10)):
        real, dry = decision_for(one), decision_for(one, DRY)
        assert dry.would
        assert not real.would
        assert (dry.verb, dry.reason, dry.rung, dry.until) == (real.verb, real.reason, real.rung, real.until)


def test_attempts_of_a_dry_run_count_for_the_dry_run_alone() -> None:
    dry = (attempt(R1, 2_900, would=True), attempt(R1, 2_700, would=True))
    one = patient(attempts=dry, ladder=ladder(would=True))
    assert decision_for(one, DRY).reason is Reason.ACT_REBOOT_HOST
    assert (decision_for(one).reason, decision_for(one).attempt) == (Reason.ACT_RESTART_APP, 1)
    real = patient(attempts=(attempt(R1, 30),), ladder=ladder())
    assert decision_for(real, DRY).reason is Reason.ACT_RESTART_APP


# The table and the words.


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("step", Step)
def test_every_state_with_every_step(phase: Phase, step: Step) -> None:
    if phase is Phase.REST:
        return  # at rest there is no ladder that could step
    before = ladder(phase)
    after = stepped(before, step, NOW)
    wanted = TRANSITIONS[phase].get(step)
    if wanted is None:
        assert after is before
    elif wanted is Phase.REST:
        assert after is None
    else:
        assert after is not None
        assert (after.phase, after.changed_at, after.began_at) == (wanted, NOW, before.began_at)


def test_no_phase_is_a_dead_end() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert all(TRANSITIONS.values())


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_in_both_languages_with_the_same_gaps(reason: Reason) -> None:
    words = WORDS[reason]
    assert gaps(words.english) == gaps(words.german)
    assert words.english != words.german
    for text in (words.english, words.german):
        assert text[0].isupper() or text[0] == "{"
        assert text.endswith((".", "{why}"))


def test_a_sentence_names_actions_in_words_and_a_dry_run_as_one() -> None:
    english = sentence(Reason.ORDERED, {"action": "reboot_host"}, "en")
    assert english == "Reboot of the device has been ordered and is not sent yet."
    german = sentence(Reason.GRACE, {}, "de", would=True)
    assert german.startswith("Probelauf")


def test_what_a_person_wrote_is_not_taken_for_a_gap() -> None:
    assert sentence(Reason.PAUSED, {"why": "{nonsense} 100 %"}, "de").endswith("{nonsense} 100 %")


@pytest.mark.parametrize(
    "one",
    [
        patient(),
        patient(C.HUNG, 10),
        patient(pause=Pause(until=ahead(90), why="painters")),
        patient(C.ONLINE, 30, ladder=ladder()),
        patient(attempts=(attempt(R1, 10),), ladder=ladder()),
    ],
)
def test_a_decision_is_made_of_plain_values(one: Patient) -> None:
    decision = decision_for(one)
    assert json.loads(json.dumps(dict(decision.arguments))) == decision.arguments
    assert (decision.until is not None) == (decision.ending is Ending.TIME)
    assert decision.sentence("de") != decision.sentence("en")
