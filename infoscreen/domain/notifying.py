"""Which message about an incident is due: pure rules over an incident, a rule of the operators and the time.

The unit is the incident, not the client. Each pair of incident and rule has a memory of what was told, and
``next_step`` says what follows from it; the same memory and time give the same answer, whatever happened in
between.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from infoscreen.domain.alerts import Severity
from infoscreen.domain.opening_hours import OpeningHours
from infoscreen.domain.recovery import Closing, IncidentKind

K = IncidentKind


class ChannelKind(StrEnum):
    """How a channel is reached."""

    APPRISE = "apprise"
    WEBHOOK = "webhook"


class NoticeStep(StrEnum):
    """Why a message is sent. Stored, documented and part of the webhook: never rename one."""

    OPENED = "opened"
    REMINDER = "reminder"
    ESCALATED = "escalated"
    RESOLVED = "resolved"
    TEST = "test"
    TEXT = "text"
    """Written by a person."""
    SUMMARY = "summary"
    """In place of messages beyond the limit of a channel."""


class DeliveryFault(StrEnum):
    """Why a notification could not be delivered; stable codes."""

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    PRIVATE_TARGET = "private_target"
    NOT_UNDERSTOOD = "not_understood"
    EXTRA_MISSING = "extra_missing"
    NO_PROCESS = "no_process"
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - a code


class MessageState(StrEnum):
    """What has become of a message."""

    WAITING = "waiting"
    RETRYING = "retrying"
    """It has failed and is tried again."""
    SENT = "sent"
    SUMMED_UP = "summed_up"
    GIVEN_UP = "given_up"


DELAYS = MappingProxyType(
    {
        K.CLIENT: timedelta(minutes=10),
        K.FLEET_OUTAGE: timedelta(minutes=3),
        K.SITE_OUTAGE: timedelta(minutes=3),
        K.NETWORK_OUTAGE: timedelta(minutes=3),
        K.LEFT_BEHIND: timedelta(seconds=30),
        K.ALIKE: timedelta(seconds=30),
        K.OBSERVER: timedelta(minutes=2),
        K.COMMANDS_UNANSWERED: timedelta(minutes=2),
        K.CERTIFICATE: timedelta(0),
        K.AUTHENTICATION: timedelta(0),
        K.BROKER: timedelta(0),
        K.DATABASE: timedelta(minutes=2),
        K.BACKUP: timedelta(0),
        K.POWER: timedelta(0),
    }
)
"""How long an incident lasts before it is told, unless the rule says otherwise."""

CRITICAL = frozenset({K.FLEET_OUTAGE, K.OBSERVER, K.DATABASE, K.BROKER, K.POWER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who is told what, when. Empty sets match everything, an empty set of channels means all of them.

    ``delay`` None takes ``DELAYS``. Outside of ``hours`` messages wait for the opening, unless the incident
    is critical. After ``escalate_after`` without an acknowledgement ``escalate_to`` is told as well.
    """

    id: int
    name: str
    enabled: bool = True
    kinds: frozenset[IncidentKind] = frozenset()
    critical_only: bool = False
    sites: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    channels: frozenset[int] = frozenset()
    delay: timedelta | None = None
    hours: OpeningHours | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    reminder: timedelta | None = None
    resolved: bool = True
    escalate_to: frozenset[int] = frozenset()
    escalate_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenIncident:
    """As much of an incident as the rules want; ``tags`` are those of its members."""

    kind: IncidentKind
    began_at: datetime
    severity: Severity = Severity.WARNING
    site: str | None = None
    tags: frozenset[str] = frozenset()
    calm: bool = False
    ended_at: datetime | None = None
    closing: Closing | None = None
    acknowledged: bool = False
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldSoFar:
    """What was told of an incident under a rule. ``calm_at`` is when it was last seen calm before that."""

    opened_at: datetime | None = None
    reminded_at: datetime | None = None
    escalated_at: datetime | None = None
    calm_at: datetime | None = None


NOTHING_TOLD = ToldSoFar()


class NextNotice(NamedTuple):
    """What follows: a step to be taken now, or a time to look again; neither: wait for a change.

    ``done``: nothing will ever follow, whatever changes. Not used together with ``step`` except at the end.
    """

    step: NoticeStep | None = None
    look_at: datetime | None = None
    done: bool = False


def severity_of(kind: IncidentKind, stored: str | None) -> Severity:
    """Return the severity: what the incident says of itself, else that of its kind."""
    if stored is not None:
        return Severity(stored)
    return Severity.CRITICAL if kind in CRITICAL else Severity.WARNING


def matches(rule: Rule, seen: SeenIncident) -> bool:
    """Tell whether a rule is about an incident. What concerns no site in particular concerns every one."""
    return (
        rule.enabled
        and (not rule.kinds or seen.kind in rule.kinds)
        and (not rule.critical_only or seen.severity is Severity.CRITICAL)
        and (not rule.sites or seen.site is None or seen.site in rule.sites)
        and (not rule.tags or not rule.tags.isdisjoint(seen.tags))
    )


def next_step(rule: Rule, seen: SeenIncident, told: ToldSoFar, now: datetime) -> NextNotice:
    """Return what is to be told now, or when to look again."""
    if told.opened_at is None:
        return _opening(rule, seen, told, now)
    if seen.ended_at is not None:
        if not rule.resolved or seen.closing is Closing.DISMISSED:
            return NextNotice(done=True)
        return _when_open(rule, seen, now, NextNotice(NoticeStep.RESOLVED, done=True))
    if seen.acknowledged:
        return NextNotice()
    due: list[tuple[datetime, NoticeStep]] = []
    if rule.escalate_after is not None and rule.escalate_to and told.escalated_at is None:
        due.append((told.opened_at + rule.escalate_after, NoticeStep.ESCALATED))
    if rule.reminder is not None:
        due.append(((told.reminded_at or told.opened_at) + rule.reminder, NoticeStep.REMINDER))
    if not due:
        return NextNotice()
    at, step = min(due)
    return NextNotice(look_at=at) if now < at else _when_open(rule, seen, now, NextNotice(step))


def _opening(rule: Rule, seen: SeenIncident, told: ToldSoFar, now: datetime) -> NextNotice:
    if seen.ended_at is not None:
        return NextNotice(done=True)  # over before it was told: flapping makes nothing
    if seen.acknowledged or seen.calm or (seen.kind is K.ALIKE and seen.stopped_at is None):
        return NextNotice()
    since = max(seen.began_at, told.calm_at or seen.began_at, seen.stopped_at or seen.began_at)
    due = since + (DELAYS[seen.kind] if rule.delay is None else rule.delay)
    return (
        NextNotice(look_at=due) if now < due else _when_open(rule, seen, now, NextNotice(NoticeStep.OPENED))
    )


def _when_open(rule: Rule, seen: SeenIncident, now: datetime, step: NextNotice) -> NextNotice:
    """Return the step if it may be told at this hour, else when to look again."""
    if rule.hours is None or seen.severity is Severity.CRITICAL:
        return step
    opens = rule.hours.next_open(now, rule.zone)
    return step if opens == now else NextNotice(look_at=opens)


def after(told: ToldSoFar, step: NoticeStep, now: datetime) -> ToldSoFar:
    """Return what was told once a step is taken."""
    match step:
        case NoticeStep.OPENED:
            return ToldSoFar(opened_at=now, calm_at=told.calm_at)
        case NoticeStep.ESCALATED:
            return ToldSoFar(opened_at=told.opened_at, reminded_at=told.reminded_at, escalated_at=now)
        case NoticeStep.REMINDER:
            return ToldSoFar(opened_at=told.opened_at, reminded_at=now, escalated_at=told.escalated_at)
        case _:
            return told


# How a message is delivered.

GIVE_UP_AFTER = timedelta(hours=24)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=10), timedelta(minutes=30)
PER_HOUR = 20
"""Messages of a channel within an hour; the last of them is a summary of all that wait."""

HOUR = timedelta(hours=1)


def wait_after(attempts: int, retry_after: timedelta | None) -> timedelta:
    """Return how long to wait after so many attempts that failed; a receiver may ask for longer."""
    own = min(FIRST_WAIT * (1 << min(max(attempts - 1, 0), 20)), LONGEST_WAIT)
    return own if retry_after is None else max(own, min(retry_after, GIVE_UP_AFTER))


class SendingPlace(NamedTuple):
    """What a channel may do now: single messages, then one summary; or wait ``until``."""

    singles: int
    summary: bool = False
    until: datetime | None = None


def place_for(sent: list[datetime], waiting: int, now: datetime) -> SendingPlace:
    """Return what may be sent, given when messages were sent within the last hour and how many wait."""
    lately = sorted(at for at in sent if now - HOUR < at <= now)
    free = PER_HOUR - len(lately)
    if free <= 0:
        return SendingPlace(0, until=lately[len(lately) - PER_HOUR] + HOUR)
    if waiting <= free:
        return SendingPlace(waiting)
    return SendingPlace(free - 1, summary=True)
