"""The ladder of one client: where it stands, what was tried, and which rung comes next.

``TRANSITIONS`` is the whole machine. What was tried is not counted in here: attempts are facts that the
caller keeps, and only those that the device accepted are charged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from infoscreen.domain.recovery.policy import UNANSWERED_TRIES, RecoveryPolicy, Rung
from infoscreen.domain.recovery.reasons import Reason


class Trouble(StrEnum):
    """What is wrong with a client, as far as it decides what can be done."""

    CRASHED = "crashed"
    SERVICE_FAILED = "service_failed"
    NOT_SHOWING = "not_showing"
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
    """Everything was tried. What can be tried again without harm is; else a person has to come."""
    GONE = "gone"
    """Silent for a day together with others: it is counted nowhere until it is heard again."""


class Step(StrEnum):
    """What can happen to a ladder."""

    UNWELL = "unwell"
    BACK = "back"
    CONFIRMED = "confirmed"
    FORGOTTEN = "forgotten"
    GIVEN_UP = "given_up"
    REACHABLE = "reachable"
    LOST = "lost"
    ACKNOWLEDGED = "acknowledged"


P, S = Phase, Step

TRANSITIONS: Mapping[Phase, Mapping[Step, Phase]] = {
    P.REST: {S.UNWELL: P.CLIMBING},
    P.CLIMBING: {S.BACK: P.PROVING, S.GIVEN_UP: P.NEEDS_HUMAN, S.LOST: P.GONE},
    P.PROVING: {S.UNWELL: P.CLIMBING, S.CONFIRMED: P.WELL},
    P.WELL: {S.UNWELL: P.CLIMBING, S.FORGOTTEN: P.REST},
    # Being back is not enough to leave it, only being well is. ``REACHABLE``: something can be tried again.
    P.NEEDS_HUMAN: {S.CONFIRMED: P.WELL, S.REACHABLE: P.CLIMBING, S.ACKNOWLEDGED: P.REST, S.LOST: P.GONE},
    P.GONE: {S.BACK: P.PROVING},
}


class Ladder(NamedTuple):
    """Where a client stands, as it is stored. Plain values; a tuple, as there may be tens of thousands.

    Attempts decided at or after ``began_at`` belong to it. ``unwell_since`` is when the client was last well,
    as far as that was ever confirmed; ``changed_at`` when the phase changed. ``rung`` is the one reached,
    ``returns`` how often the client came back without help. ``incident`` is the key of the incident that it
    is, or was when that ended, part of.
    """

    phase: Phase
    began_at: datetime
    unwell_since: datetime
    changed_at: datetime
    rung: Rung
    returns: int = 0
    incident: str | None = None

    def of_incident(self, key: str | None) -> "Ladder":
        """Return it as part of an incident, or of none."""
        return Ladder(*self[:-1], key)


class Outcome(StrEnum):
    """What came of an attempt. Only ``HELPED`` and ``NO_EFFECT`` are charged: the device had accepted it."""

    HELPED = "helped"
    """Its effect was verified, or the client was back."""
    NO_EFFECT = "no_effect"
    """Its time passed and the client was still unwell, or was again soon after."""
    REFUSED = "refused"
    """The device answered that it would not; ``error_code`` says why."""
    UNANSWERED = "unanswered"
    """It was sent, and the device never answered."""
    UNDELIVERED = "undelivered"
    """It was sent while no command of ours reached any device; says nothing of this one."""
    NOT_SENT = "not_sent"
    """It never left the server."""


CHARGED = frozenset({Outcome.HELPED, Outcome.NO_EFFECT})


ENTRY: Mapping[Trouble, Rung] = {
    Trouble.CRASHED: Rung.RESTART_APP,
    Trouble.SERVICE_FAILED: Rung.RESTART_APP,
    Trouble.NOT_SHOWING: Rung.RESTART_APP,
    Trouble.HUNG: Rung.REBOOT_HOST,
    Trouble.UNREACHABLE: Rung.POWER_CYCLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt, under way while ``outcome`` is None; written with its decision, under its command's id.

    ``published_at`` is when its command left for the broker, ``accepted_at`` when the device took it on.
    ``incident`` is the key of the group that it was made for.
    """

    command_id: str
    client_uuid: str
    rung: Rung
    decided_at: datetime
    incident: str | None = None
    published_at: datetime | None = None
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    error_code: str | None = None

    @property
    def charged(self) -> bool:
        """Tell whether it counts: the device has accepted it."""
        return self.accepted_at is not None and (self.outcome is None or self.outcome in CHARGED)


def is_asked_again(attempts: Sequence[Attempt]) -> bool:
    """Tell whether a device did nothing at the last attempt that ended, and has not accepted another since.

    It refused or did not answer. Asking it again is no new beginning: a call for help stays.
    """
    for one in reversed(attempts):
        if one.charged:
            return False
        if one.outcome in {Outcome.REFUSED, Outcome.UNANSWERED}:
            return True
    return False


class Next(NamedTuple):
    """The rung that comes next; for ``HUMAN``, ``because`` says why."""

    rung: Rung
    because: Reason | None = None


def entry(trouble: Trouble) -> Rung:
    """Return the lowest rung that makes sense: a command never reaches an unreachable client."""
    return ENTRY[trouble]


def allowed(rung: Rung, trouble: Trouble, policy: RecoveryPolicy) -> int:
    """Return how often ``rung`` is tried; systemd has already tried a failed service's restart for us."""
    attempts = policy.attempts(rung)
    return min(1, attempts) if trouble is Trouble.SERVICE_FAILED and rung is Rung.RESTART_APP else attempts


def next_rung(
    trouble: Trouble,
    ladder: Ladder,
    attempts: Sequence[Attempt],
    policy: RecoveryPolicy,
    *,
    can: Iterable[str],
    outlet: bool,
    floor: Rung = Rung.RESTART_APP,
) -> Next:
    """Return the lowest rung that has attempts left and fits, never below ``floor`` or one already tried.

    ``can`` are the actions that the device announced, none if it announced nothing.
    """
    charged: dict[Rung, int] = {}
    unanswered: dict[Rung, int] = {}
    for one in attempts:
        if one.decided_at < ladder.began_at:
            continue
        if one.charged:
            charged[one.rung] = charged.get(one.rung, 0) + 1
        elif one.outcome is Outcome.UNANSWERED:
            unanswered[one.rung] = unanswered.get(one.rung, 0) + 1
    lowest = max([entry(trouble), floor, *charged])
    announced = frozenset(can)
    without_outlet = silent = False
    for rung in (Rung.RESTART_APP, Rung.REBOOT_HOST, Rung.POWER_CYCLE):
        left = allowed(rung, trouble, policy) - charged.get(rung, 0)
        if rung < lowest or left <= 0:
            continue
        if rung is Rung.POWER_CYCLE:
            if outlet:
                return Next(rung)
            without_outlet = True
        elif announced and rung.action not in announced:
            continue
        elif unanswered.get(rung, 0) >= UNANSWERED_TRIES:
            silent = True
        else:
            return Next(rung)
    if silent:
        return Next(Rung.HUMAN, Reason.UNANSWERED)
    return Next(Rung.HUMAN, Reason.NO_OUTLET if without_outlet else Reason.EXHAUSTED)


def begun(now: datetime, unwell_since: datetime, rung: Rung) -> Ladder:
    """Return the ladder of a client that is unwell and was not before."""
    return Ladder(TRANSITIONS[P.REST][S.UNWELL], now, unwell_since, now, rung)


def stepped(ladder: Ladder, step: Step, now: datetime) -> Ladder | None:
    """Return the ladder after ``step``, None when it is at rest; a step not in the table changes nothing."""
    phase = TRANSITIONS[ladder.phase].get(step)
    if phase is None:
        return ladder
    if phase is P.REST:
        return None
    if ladder.phase is P.WELL:
        return ladder._replace(phase=phase, unwell_since=now, changed_at=now)
    return ladder._replace(phase=phase, changed_at=now)


def acknowledged(ladder: Ladder | None, now: datetime) -> Ladder | None:
    """Return the ladder after somebody has taken notice; recovery may then begin from the start again."""
    return None if ladder is None else stepped(ladder, Step.ACKNOWLEDGED, now)


def moved(ladder: Ladder, stepped_at: datetime, step: timedelta, now: datetime) -> Ladder:
    """Return the ladder after the host's clock was set; see ``moved_time``."""
    return ladder._replace(
        began_at=moved_time(ladder.began_at, stepped_at, step, now),
        unwell_since=moved_time(ladder.unwell_since, stepped_at, step, now),
        changed_at=moved_time(ladder.changed_at, stepped_at, step, now),
    )


def moved_time(at: datetime, stepped_at: datetime, step: timedelta, now: datetime) -> datetime:
    """Return a stored time as it is on a clock that was set by ``step``, ``stepped_at`` by the new time.

    What lies between the step and now was written with the new clock already.
    """
    return at if stepped_at <= at <= now else at + step
