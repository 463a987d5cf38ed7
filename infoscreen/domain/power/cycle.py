"""The one algorithm of a power cycle, for every driver. Pure: it says what to do next and is told the result.

Check the identity, write the intent down, OFF, see OFF, hold, ON, see ON; ON is sent again until it is seen.
The caller stores a cycle each time it changes and before it does the next step. An acknowledgement of the
outlet is never evidence: only what is read afterwards is. Every way out after the first OFF leads through ON.

``now`` is the wall time. A caller that runs for long should derive it from a clock that is never set.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from infoscreen.domain.power.outlet import NOTHING_SWITCHED, OutletIdentity, PowerFault, PowerState, Reading


class CycleStage(StrEnum):
    """How far a cycle is."""

    CHECKING = "checking"
    """Nothing has been switched yet."""
    TURNING_OFF = "turning_off"
    """OFF may have been sent."""
    HOLDING = "holding"
    """OFF was seen, and stays for the minimum time."""
    TURNING_ON = "turning_on"
    ENDED = "ended"


MAY_BE_OFF = frozenset({CycleStage.TURNING_OFF, CycleStage.HOLDING, CycleStage.TURNING_ON})
"""Stages in which the outlet may be off because of us."""


class Do(StrEnum):
    """What the caller has to do."""

    CHECK = "check"
    """Identify the outlet and read it, then ``Checked``."""
    OFF = "off"
    ON = "on"
    READ = "read"
    END = "end"


@dataclass(frozen=True, slots=True)
class CycleStep:
    """The next thing to do, not before ``at``."""

    do: Do
    at: datetime


@dataclass(frozen=True, slots=True)
class CyclePolicy:
    """Times of a cycle, with precedents in the power design.

    ``off_within``: how long OFF may take to be seen before it is sent once more, then given up.
    ``on_again``: ON is repeated at this interval while it is not seen, and at up to ``on_again_most``
    later. ``watch``: an OFF that was not seen, or was sent twice, may be carried out so much later; until
    then an outlet that says ON is still watched. ``left_off_after``: when an outlet that does not come on
    is an alarm. ``resume_within``: a cycle that was interrupted before OFF was seen is not taken up again
    later than this.
    """

    min_off: timedelta = timedelta(seconds=10)
    poll: timedelta = timedelta(seconds=1)
    off_within: timedelta = timedelta(seconds=30)
    off_sends: int = 2
    checks: int = 3
    on_again: timedelta = timedelta(seconds=5)
    on_again_most: timedelta = timedelta(seconds=30)
    left_off_after: timedelta = timedelta(seconds=60)
    watch: timedelta = timedelta(seconds=60)
    resume_within: timedelta = timedelta(seconds=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A power cycle as far as it got; all of it is stored.

    ``off_sent_at`` is None while the intent to send OFF is written down and OFF has not been sent yet.
    ``fault`` is why it failed; the first one stays. ``detail`` is the outlet's own text of the last trouble.
    """

    stage: CycleStage = CycleStage.CHECKING
    began_at: datetime
    checks: int = 0
    read_at: datetime | None = None
    off_sends: int = 0
    off_sent_at: datetime | None = None
    off_seen_at: datetime | None = None
    on_since: datetime | None = None
    on_sends: int = 0
    on_sent_at: datetime | None = None
    on_seen_at: datetime | None = None
    watts_before: float | None = None
    fault: PowerFault | None = None
    detail: str | None = None

    @property
    def has_switched(self) -> bool:
        """Tell whether OFF or ON may have been sent."""
        return self.off_sends > 0 or self.on_since is not None

    @property
    def may_be_off(self) -> bool:
        """Tell whether the outlet may be off because of this cycle."""
        return self.stage in MAY_BE_OFF

    def is_left_off(self, now: datetime, policy: CyclePolicy) -> bool:
        """Tell whether ON has not been seen for so long that people must know."""
        return (
            self.stage is CycleStage.TURNING_ON
            and self.on_seen_at is None
            and self.on_since is not None
            and now - self.on_since >= policy.left_off_after
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """The outlet was identified and read."""

    found: OutletIdentity
    reading: Reading


@dataclass(frozen=True, slots=True)
class SwitchSent:
    """OFF or ON was sent, and taken without complaint; that proves nothing."""


@dataclass(frozen=True, slots=True)
class Read:
    """The outlet was read."""

    reading: Reading


@dataclass(frozen=True, slots=True)
class Failed:
    """A step failed; whether it was carried out all the same is not known. ``during`` is the step."""

    during: Do
    fault: PowerFault
    detail: str


Event = Checked | SwitchSent | Read | Failed


def begun(now: datetime) -> Cycle:
    """Return a new cycle."""
    return Cycle(began_at=now)


def resumed(cycle: Cycle, now: datetime, policy: CyclePolicy) -> Cycle:
    """Return a stored cycle that goes on after the daemon was away.

    Whether OFF was sent is not known then. Shortly afterwards the cycle goes on; later the outlet is only
    switched on, because people may have begun to work on the device.
    """
    cycle = _not_in_the_future(cycle, now)
    if cycle.stage is CycleStage.CHECKING and now - cycle.began_at > policy.resume_within:
        return _ended(cycle, PowerFault.INTERRUPTED, now, None)
    if cycle.stage is not CycleStage.TURNING_OFF:
        return replace(cycle, on_sent_at=None, on_seen_at=None, read_at=None)
    if now - cycle.began_at > policy.resume_within:
        return _turn_on(replace(cycle, fault=cycle.fault or PowerFault.INTERRUPTED), now)
    return replace(cycle, off_sent_at=now, read_at=None)


def given_up(cycle: Cycle, fault: PowerFault, now: datetime, detail: str | None = None) -> Cycle:
    """Return a cycle that ends before anything was switched."""
    return _ended(cycle, fault, now, detail)


def next_step(cycle: Cycle, now: datetime, policy: CyclePolicy) -> tuple[Cycle, CycleStep]:
    """Return the cycle after the time that has passed, and what to do; the cycle is stored first."""
    cycle = _after_time(cycle, now, policy)
    poll = now if cycle.read_at is None else min(cycle.read_at, now) + policy.poll
    match cycle.stage:
        case CycleStage.CHECKING:
            return cycle, CycleStep(Do.CHECK, now if cycle.checks == 0 else poll)
        case CycleStage.TURNING_OFF:
            return cycle, CycleStep(Do.OFF, now) if cycle.off_sent_at is None else CycleStep(Do.READ, poll)
        case CycleStage.HOLDING:
            return cycle, CycleStep(Do.READ, min(poll, _hold_until(cycle, now, policy)))
        case CycleStage.TURNING_ON if cycle.on_seen_at is not None:
            return cycle, CycleStep(Do.READ, poll)
        case CycleStage.TURNING_ON:
            if cycle.on_sent_at is None or now - cycle.on_sent_at >= _on_again(cycle, policy):
                return cycle, CycleStep(Do.ON, now)
            return cycle, CycleStep(Do.READ, poll)
        case CycleStage.ENDED:
            return cycle, CycleStep(Do.END, now)


def advance(
    cycle: Cycle, event: Event, now: datetime, policy: CyclePolicy, *, expected: str | None = None
) -> Cycle:
    """Return the cycle after the result of a step; ``expected`` is the identity that the outlet must have."""
    match event:
        case Failed():
            return _after_failure(cycle, event, now, policy)
        case Checked():
            return _after_check(cycle, event, now, expected)
        case SwitchSent():
            return _after_sending(cycle, now)
        case Read():
            return _after_reading(replace(cycle, read_at=now), event.reading, now, policy)


def _after_time(cycle: Cycle, now: datetime, policy: CyclePolicy) -> Cycle:
    if cycle.stage is CycleStage.HOLDING and now >= _hold_until(cycle, now, policy):
        return _turn_on(cycle, now)
    if cycle.stage is not CycleStage.TURNING_OFF or cycle.off_sent_at is None:
        return cycle
    if now - cycle.off_sent_at < policy.off_within:
        return cycle
    if cycle.off_sends < policy.off_sends:
        return replace(cycle, off_sends=cycle.off_sends + 1, off_sent_at=None)
    return _turn_on(replace(cycle, fault=cycle.fault or PowerFault.OFF_NOT_SEEN), now)


def _after_check(cycle: Cycle, event: Checked, now: datetime, expected: str | None) -> Cycle:
    cycle = replace(cycle, read_at=now, checks=cycle.checks + 1, watts_before=event.reading.watts)
    if expected is not None and not same_identity(event.found.id, expected):
        return _ended(cycle, PowerFault.WRONG_IDENTITY, now, f"found {event.found.id or 'no identity'}")
    match event.reading.state:
        case PowerState.ON:
            return replace(cycle, stage=CycleStage.TURNING_OFF, off_sends=1, off_sent_at=None)
        case PowerState.OFF:
            # Somebody else has switched it off: nothing to take away, but power to give.
            return _turn_on(cycle, now)
        case PowerState.UNKNOWN:
            return _ended(cycle, PowerFault.STATE_UNKNOWN, now, None)


def _after_sending(cycle: Cycle, now: datetime) -> Cycle:
    if cycle.stage is CycleStage.TURNING_OFF:
        return replace(cycle, off_sent_at=now, read_at=None)
    return replace(cycle, on_sends=cycle.on_sends + 1, on_sent_at=now, read_at=None)


def _after_reading(cycle: Cycle, reading: Reading, now: datetime, policy: CyclePolicy) -> Cycle:
    match cycle.stage:
        case CycleStage.TURNING_OFF if cycle.off_sent_at is not None:
            if reading.is_off:
                return replace(cycle, stage=CycleStage.HOLDING, off_seen_at=now, fault=None)
            if reading.state is PowerState.OFF and reading.is_drawing:
                return replace(cycle, fault=PowerFault.STILL_DRAWING, detail=f"{reading.watts:g} W")
        case CycleStage.HOLDING if reading.is_on and now < _hold_until(cycle, now, policy):
            # Read once more as ON below: it came back by itself, and was off too short to count.
            return _turn_on(replace(cycle, fault=PowerFault.OFF_TOO_SHORT), now)
        case CycleStage.TURNING_ON if reading.is_on and cycle.on_sends > 0:
            cycle = replace(cycle, on_seen_at=cycle.on_seen_at or now)
            return cycle if _off_may_follow(cycle, now, policy) else replace(cycle, stage=CycleStage.ENDED)
        case CycleStage.TURNING_ON if cycle.on_seen_at is not None:
            # A late OFF: from the beginning with ON.
            return _turn_on(replace(cycle, on_seen_at=None), now)
        case _:
            pass
    return cycle


def _after_failure(cycle: Cycle, event: Failed, now: datetime, policy: CyclePolicy) -> Cycle:
    cycle = replace(cycle, read_at=now, detail=event.detail)
    match cycle.stage:
        case CycleStage.CHECKING:
            cycle = replace(cycle, checks=cycle.checks + 1)
            if event.fault in NOTHING_SWITCHED or cycle.checks >= policy.checks:
                return _ended(cycle, event.fault, now, event.detail)
        case CycleStage.TURNING_OFF if event.during is Do.OFF:
            cycle = replace(cycle, off_sent_at=now)
            if event.fault in NOTHING_SWITCHED:
                return _turn_on(replace(cycle, fault=event.fault), now)
        case CycleStage.TURNING_ON if event.during is Do.ON:
            cycle = replace(cycle, on_sends=cycle.on_sends + 1, on_sent_at=now)
        case _:
            pass
    return cycle


def _off_may_follow(cycle: Cycle, now: datetime, policy: CyclePolicy) -> bool:
    if cycle.off_sent_at is None or (cycle.off_sends == 1 and cycle.off_seen_at is not None):
        return False
    return now < cycle.off_sent_at + policy.watch


def _turn_on(cycle: Cycle, now: datetime) -> Cycle:
    return replace(cycle, stage=CycleStage.TURNING_ON, on_since=now, on_sent_at=None, read_at=None)


def _ended(cycle: Cycle, fault: PowerFault, now: datetime, detail: str | None) -> Cycle:
    return replace(cycle, stage=CycleStage.ENDED, fault=fault, detail=detail, read_at=now)


def _hold_until(cycle: Cycle, now: datetime, policy: CyclePolicy) -> datetime:
    return (cycle.off_seen_at or now) + policy.min_off


def _on_again(cycle: Cycle, policy: CyclePolicy) -> timedelta:
    return min(policy.on_again * max(1, cycle.on_sends), policy.on_again_most)


def _not_in_the_future(cycle: Cycle, now: datetime) -> Cycle:
    """Return the cycle with no time later than now: the host's clock may have been set back."""
    return replace(
        cycle,
        began_at=min(cycle.began_at, now),
        off_sent_at=_at_most(cycle.off_sent_at, now),
        off_seen_at=_at_most(cycle.off_seen_at, now),
        on_since=_at_most(cycle.on_since, now),
    )


def _at_most(at: datetime | None, now: datetime) -> datetime | None:
    return None if at is None else min(at, now)


def same_identity(found: str | None, expected: str) -> bool:
    """Compare identities as people type them: without regard to case, colons and dashes."""
    return found is not None and _plain(found) == _plain(expected)


def _plain(identity: str) -> str:
    return "".join(mark for mark in identity.casefold() if mark not in ":-. ")
