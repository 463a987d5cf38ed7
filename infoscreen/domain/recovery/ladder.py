"""The ladder of one client: where it stands, which rung comes next, and when it is well again.

``TRANSITIONS`` is the whole machine. What was tried is not counted in here: the attempts are facts that the
caller keeps, and only those that were really published count. So a ladder can be stored, read after a crash
and used again without anything being lost or counted twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from infoscreen.domain.clients import Client, Condition, Presence, ProcessStatus
from infoscreen.domain.presence import conditions_of, is_stale
from infoscreen.domain.recovery.policy import RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Reason


class Trouble(StrEnum):
    """What is wrong with a client, as far as it decides where it enters the ladder."""

    CRASHED = "crashed"
    SERVICE_FAILED = "service_failed"
    HUNG = "hung"
    UNREACHABLE = "unreachable"


SILENT = frozenset({Trouble.HUNG, Trouble.UNREACHABLE})
"""Known only from not hearing anything, which may be the network's fault or our own."""


class Phase(StrEnum):
    """Where the ladder is; a client that was never unwell, or long ago, has none (``REST``)."""

    REST = "rest"
    CLIMBING = "climbing"
    """Unwell: something is due, held, or awaited."""
    PROVING = "proving"
    """Back, but not for long enough to count as well."""
    WELL = "well"
    """Well again; a relapse goes on where it was."""
    NEEDS_HUMAN = "needs_human"
    """Nothing further is done until somebody acknowledges it, or it is well."""


class Step(StrEnum):
    """What can happen to a ladder."""

    UNWELL = "unwell"
    BACK = "back"
    CONFIRMED = "confirmed"
    FORGOTTEN = "forgotten"
    GIVEN_UP = "given_up"
    REACHABLE = "reachable"
    ACKNOWLEDGED = "acknowledged"


P, S = Phase, Step

TRANSITIONS: Mapping[Phase, Mapping[Step, Phase]] = {
    P.REST: {S.UNWELL: P.CLIMBING},
    P.CLIMBING: {S.BACK: P.PROVING, S.GIVEN_UP: P.NEEDS_HUMAN},
    P.PROVING: {S.UNWELL: P.CLIMBING, S.CONFIRMED: P.WELL},
    P.WELL: {S.UNWELL: P.CLIMBING, S.FORGOTTEN: P.REST},
    # Being back is not enough to leave it, only being well is. ``REACHABLE``: nothing had been tried because
    # nothing could be, and now something can.
    P.NEEDS_HUMAN: {S.CONFIRMED: P.WELL, S.REACHABLE: P.CLIMBING, S.ACKNOWLEDGED: P.REST},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Where a client stands, as it is stored. Plain values.

    Attempts decided at or after ``began_at`` belong to it. ``unwell_since`` is when the client was last well,
    as far as that was ever confirmed; ``changed_at`` when the phase changed. ``rung`` is the one reached,
    ``returns`` how often the client came back without help. ``because`` is why it needs a human, ``limited``
    the rung whose limit is reached, ``tried`` how many attempts there had been by then. ``would`` marks the
    ladder of a dry run, which counts for nothing once recovery is switched on.
    """

    phase: Phase
    began_at: datetime
    unwell_since: datetime
    changed_at: datetime
    rung: Rung
    returns: int = 0
    because: Reason | None = None
    limited: Rung | None = None
    tried: int = 0
    would: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt, as it is stored: written with its decision, charged once it is published.

    ``published_at`` is when its command left for the broker, or its power was switched; in a dry run, when
    it would have been. ``dropped`` means it never left and never will.
    """

    rung: Rung
    decided_at: datetime
    published_at: datetime | None = None
    dropped: bool = False
    would: bool = False


class Next(NamedTuple):
    """The rung that comes next; for ``HUMAN``, ``because`` says why and ``limit`` of which rung."""

    rung: Rung
    because: Reason | None = None
    limited: Rung | None = None


OUT_OF_REACH = frozenset({Condition.INCOMPREHENSIBLE, Condition.DUPLICATE})
"""Conditions in which nothing automatic is done, whatever else is wrong."""


def trouble_of(client: Client, now: datetime, listening_since: datetime | None) -> Trouble | None:
    """Return what is to be recovered from, or None.

    A failed service outranks silence in what is shown, but not here: a command would not arrive. And once the
    application runs again, there is nothing left to recover even though the failure stays shown until it is
    acknowledged.
    """
    if not OUT_OF_REACH.isdisjoint(conditions_of(client, now, listening_since)):
        return None
    match client.status:
        case Condition.CRASHED:
            return Trouble.CRASHED
        case Condition.HUNG:
            return Trouble.HUNG
        case Condition.UNREACHABLE:
            return Trouble.UNREACHABLE
        case Condition.SERVICE_FAILED:
            if client.last_alive is None or is_stale(client, now, listening_since):
                return Trouble.HUNG if client.presence is Presence.ONLINE else Trouble.UNREACHABLE
            return None if _runs_again(client) else Trouble.SERVICE_FAILED
        case _:
            return None


def _runs_again(client: Client) -> bool:
    """Tell whether the application runs, by what the device has said since its service failed.

    What it said before was forgotten when the failure was reported, so no times are compared: neither clock
    would do, and the failed unit may be another one.
    """
    return client.process_status is ProcessStatus.RUNNING


def entry(trouble: Trouble, client: Client) -> Rung:
    """Return the lowest rung that makes sense.

    A command reaches an unreachable client only if the broker keeps it for a persistent session.
    """
    match trouble:
        case Trouble.CRASHED | Trouble.SERVICE_FAILED:
            return Rung.RESTART_APP
        case Trouble.HUNG:
            return Rung.REBOOT_HOST
        case Trouble.UNREACHABLE:
            return Rung.REBOOT_HOST if client.persistent_session else Rung.POWER_CYCLE


def charged(attempts: Iterable[Attempt], since: datetime, *, would: bool) -> list[Attempt]:
    """Return the attempts since then that count: published, and of this mode; oldest first."""
    counted = [
        one
        for one in attempts
        if one.published_at is not None and one.would is would and one.decided_at >= since
    ]
    return sorted(counted, key=lambda one: one.decided_at)


def next_rung(
    trouble: Trouble,
    client: Client,
    ladder: Ladder,
    attempts: Sequence[Attempt],
    policy: RecoveryPolicy,
    now: datetime,
    *,
    outlet: bool,
) -> Next:
    """Return the lowest rung that has attempts left and fits, never below one already tried.

    ``attempts`` are all that are known of the client, also those before this ladder, which count for the
    limits.
    """
    tried = charged(attempts, ladder.began_at, would=ladder.would)
    lowest = max([entry(trouble, client), *(one.rung for one in tried)])
    without_outlet = False
    for rung in (Rung.RESTART_APP, Rung.REBOOT_HOST, Rung.POWER_CYCLE):
        if rung < lowest or not _can(client, rung):
            continue
        if sum(one.rung is rung for one in tried) >= allowed(rung, trouble, policy):
            continue
        if rung is Rung.POWER_CYCLE and not outlet:
            without_outlet = True
            continue
        if _past_limit(rung, attempts, policy, now, would=ladder.would):
            return Next(Rung.HUMAN, Reason.LIMIT_REACHED, rung)
        return Next(rung)
    return Next(Rung.HUMAN, Reason.NO_OUTLET if without_outlet else Reason.EXHAUSTED)


def allowed(rung: Rung, trouble: Trouble, policy: RecoveryPolicy) -> int:
    """Return how often ``rung`` is tried; systemd has already tried a failed service's restart for us."""
    attempts = policy.attempts(rung)
    return min(1, attempts) if trouble is Trouble.SERVICE_FAILED and rung is Rung.RESTART_APP else attempts


def _can(client: Client, rung: Rung) -> bool:
    """Tell whether the device handles the action; one that announced nothing is taken to."""
    return rung is Rung.POWER_CYCLE or not client.capabilities or rung.action in client.capabilities


def _past_limit(
    rung: Rung, attempts: Sequence[Attempt], policy: RecoveryPolicy, now: datetime, *, would: bool
) -> bool:
    limit = policy.limit(rung)
    if limit is None:
        return False
    most, within = limit
    done = [one.published_at for one in attempts if one.rung is rung and one.would is would]
    return sum(at is not None and at > now - within for at in done) >= most


def begun(now: datetime, unwell_since: datetime, rung: Rung, *, would: bool) -> Ladder:
    """Return the ladder of a client that is unwell and was not before."""
    return Ladder(
        phase=TRANSITIONS[P.REST][S.UNWELL],
        began_at=now,
        unwell_since=unwell_since,
        changed_at=now,
        rung=rung,
        would=would,
    )


def stepped(ladder: Ladder, step: Step, now: datetime) -> Ladder | None:
    """Return the ladder after ``step``, None when it is at rest; a step not in the table changes nothing."""
    phase = TRANSITIONS[ladder.phase].get(step)
    if phase is None:
        return ladder
    if phase is P.REST:
        return None
    relapsed = ladder.phase is P.WELL
    return replace(
        ladder,
        phase=phase,
        changed_at=now,
        unwell_since=now if relapsed else ladder.unwell_since,
        because=None,
        limited=None,
        tried=0,
    )


def acknowledged(ladder: Ladder | None, now: datetime) -> Ladder | None:
    """Return the ladder after somebody has taken notice; recovery may then begin from the start again."""
    return None if ladder is None else stepped(ladder, Step.ACKNOWLEDGED, now)


def is_confirmed(
    client: Client, ladder: Ladder, heartbeats_in_a_row: int, policy: RecoveryPolicy, now: datetime
) -> bool:
    """Tell whether a client that is back has been so for long enough to count as well."""
    return heartbeats_in_a_row >= policy.recovered_heartbeats and now >= confirmed_from(
        client, ladder, policy
    )


def confirmed_from(client: Client, ladder: Ladder, policy: RecoveryPolicy) -> datetime:
    """Return from when on a client that is back may count as well."""
    # A failed service stays shown; there, being back is what the ladder saw.
    since = client.status_since if client.status is Condition.ONLINE else ladder.changed_at
    return since + policy.recovered_after
