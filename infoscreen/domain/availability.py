"""Intervals in which a client was in one condition, their causes, and how long what was shown.

Intervals follow each other without gap or overlap from a client's creation on. Times in which the daemon did
not listen are unknown: they count neither as shown nor as dark.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from infoscreen.domain.clients import Client, Condition, ProcessStatus
from infoscreen.domain.recovery import Rung


class IntervalCause(StrEnum):
    """Why a client was not online. Stored: never rename one."""

    APP = "app"
    HOST = "host"
    POWER = "power"
    NETWORK_OR_SITE = "network_or_site"
    BROKER_OR_SERVER = "broker_or_server"
    MAINTENANCE = "maintenance"
    OFF_HOURS = "off_hours"
    UNKNOWN = "unknown"


class Cure(StrEnum):
    """What ended a time of darkness."""

    ITSELF = "itself"
    RECOVERY = "recovery"
    PERSON = "person"


DARK = frozenset(
    {
        Condition.CRASHED,
        Condition.NOT_SHOWING,
        Condition.SERVICE_FAILED,
        Condition.HUNG,
        Condition.UNREACHABLE,
    }
)
"""Conditions in which nothing is shown, as far as anybody can tell."""

DARK_CAUSES = (
    IntervalCause.APP,
    IntervalCause.HOST,
    IntervalCause.POWER,
    IntervalCause.NETWORK_OR_SITE,
    IntervalCause.BROKER_OR_SERVER,
    IntervalCause.UNKNOWN,
)
"""Causes of darkness, in the order of reports."""

CAUSES: Mapping[Condition, IntervalCause | None] = MappingProxyType(
    {
        **dict.fromkeys(Condition, IntervalCause.UNKNOWN),
        Condition.ONLINE: None,
        Condition.CRASHED: IntervalCause.APP,
        Condition.NOT_SHOWING: IntervalCause.APP,
        Condition.SERVICE_FAILED: IntervalCause.APP,
        Condition.HUNG: IntervalCause.HOST,
        Condition.MAINTENANCE: IntervalCause.MAINTENANCE,
        Condition.OFF_HOURS: IntervalCause.OFF_HOURS,
        Condition.SHUT_DOWN: IntervalCause.OFF_HOURS,
    }
)
"""What is assumed until something else is found."""

RUNG_CAUSES: Mapping[Rung, IntervalCause] = MappingProxyType(
    {
        Rung.RESTART_APP: IntervalCause.APP,
        Rung.REBOOT_HOST: IntervalCause.HOST,
        Rung.POWER_CYCLE: IntervalCause.POWER,
    }
)

SILENT = frozenset({Condition.HUNG, Condition.UNREACHABLE})


class StatusInterval(NamedTuple):
    """A client was in a condition from ``began_at`` to before ``ended_at``; None: it still is.

    ``repaired_seconds`` is set if a time of darkness ended with it: how long that was in all.
    """

    client_uuid: str
    condition: Condition
    began_at: datetime
    ended_at: datetime | None
    cause: IntervalCause | None = None
    cure: Cure | None = None
    repaired_seconds: int | None = None
    number: int | None = None


class Gap(NamedTuple):
    """A time in which the daemon did not listen."""

    began_at: datetime
    ended_at: datetime
    cause: IntervalCause


def lived(client: Client) -> Condition:
    """Return the condition that counts for availability.

    A failed service stays shown until somebody acknowledges it, also when it runs again by then.
    """
    runs = client.process_status is ProcessStatus.RUNNING
    return Condition.ONLINE if client.status is Condition.SERVICE_FAILED and runs else client.status


def since(client: Client) -> datetime:
    """Return the beginning of the client's present interval."""
    return client.interval_since or client.created_at


def interval_begin(before: Client, after: Client, now: datetime) -> datetime | None:
    """Return since when the client's present interval lasts, after it was changed ``now``.

    Never earlier than before: after the host's clock was set back, the interval goes on until its beginning
    has passed again.
    """
    if lived(before) is lived(after):
        return after.interval_since
    return max(now, since(before))


def closed(before: Client, after: Client) -> StatusInterval | None:
    """Return the interval that ended with a change of the client, None if none has."""
    began_at, ended_at = since(before), since(after)
    if ended_at <= began_at:
        return None
    condition, comes = lived(before), lived(after)
    repaired = None
    if condition in DARK and comes is Condition.ONLINE:
        dark_since = began_at if before.well_until is None else min(before.well_until, began_at)
        repaired = round((ended_at - max(dark_since, before.created_at)).total_seconds())
    cause = None if condition in DARK else CAUSES[condition]
    return StatusInterval(before.uuid, condition, began_at, ended_at, cause, None, repaired)


class Help(NamedTuple):
    """Something that may have ended a time of darkness: a rung of the recovery, or a person's command."""

    at: datetime
    rung: Rung | None = None


def found(
    interval: StatusInterval, outages: Iterable[datetime], helped: Sequence[Help]
) -> tuple[IntervalCause | None, Cure | None]:
    """Return the cause of an interval and what ended it, as far as anybody found out.

    Args:
        interval: the interval.
        outages: when its client became part of an outage.
        helped: attempts of the recovery that helped, and commands of people.
    """
    if interval.condition not in DARK:
        return CAUSES[interval.condition], None
    began_at, ended_at = interval.began_at, interval.ended_at
    within = [one for one in helped if began_at <= one.at and (ended_at is None or one.at <= ended_at)]
    cause = CAUSES[interval.condition]
    rungs = [one.rung for one in within if one.rung is not None]
    if interval.condition in SILENT and any(
        began_at <= at and (ended_at is None or at <= ended_at) for at in outages
    ):
        cause = IntervalCause.NETWORK_OR_SITE
    elif rungs:
        cause = RUNG_CAUSES.get(rungs[-1], cause)
    if interval.repaired_seconds is None:
        return cause, None
    if not within:
        return cause, Cure.ITSELF
    return cause, Cure.PERSON if within[-1].rung is None else Cure.RECOVERY


# --- how long

FIELDS = (
    "shown",
    *(f"dark_{cause}" for cause in DARK_CAUSES),
    "maintenance",
    "off_hours",
    "unobserved",
    *(f"{cure}_{what}" for cure in Cure for what in ("repairs", "seconds")),
)
"""What is summed up, in this order; seconds, and numbers of repairs."""

Sums = tuple[int, ...]
NOTHING: Sums = (0,) * len(FIELDS)
_AT = {name: number for number, name in enumerate(FIELDS)}
Spans = Sequence[tuple[datetime, datetime]]


def plus(one: Sums, other: Sums) -> Sums:
    """Add up."""
    return tuple(a + b for a, b in zip(one, other, strict=True))


def minus(one: Sums, other: Sums) -> Sums:
    """Return the difference."""
    return tuple(a - b for a, b in zip(one, other, strict=True))


def field(sums: Sums, name: str) -> int:
    """Return one of the sums."""
    return sums[_AT[name]]


def _bucket(interval: StatusInterval) -> str:
    if interval.condition is Condition.ONLINE:
        return "shown"
    if interval.condition in DARK:
        return f"dark_{interval.cause or CAUSES[interval.condition]}"
    cause = interval.cause or CAUSES[interval.condition]
    return str(cause) if cause in {IntervalCause.MAINTENANCE, IntervalCause.OFF_HOURS} else "unobserved"


def measured(
    intervals: Iterable[StatusInterval], gaps: Spans, closed_spans: Spans, start: datetime, end: datetime
) -> Sums:
    """Return how long what was the case from ``start`` to ``end``; the seconds add up to the time between.

    Args:
        intervals: of one client, in order, without gap or overlap.
        gaps: when the daemon did not listen, in order, without overlap.
        closed_spans: when nothing had to be shown, in order, without overlap.
        start: the beginning.
        end: the end.
    """
    sums = [0] * len(FIELDS)
    exact: dict[str, timedelta] = {}
    for one in intervals:
        begin, finish = max(one.began_at, start), min(one.ended_at or end, end)
        if one.repaired_seconds is not None and one.ended_at is not None and start < one.ended_at <= end:
            cure = one.cure or Cure.ITSELF
            sums[_AT[f"{cure}_repairs"]] += 1
            sums[_AT[f"{cure}_seconds"]] += one.repaired_seconds
        if finish <= begin:
            continue
        unobserved = _covered(gaps, begin, finish)
        rest = [(begin, finish)] if not unobserved else _without(begin, finish, unobserved)
        _add(exact, "unobserved", unobserved)
        name = _bucket(one)
        for first, last in rest:
            off = _covered(closed_spans, first, last)
            _add(exact, "off_hours", off)
            exact[name] = exact.get(name, timedelta()) + (last - first) - _length(off)
    for name, length in exact.items():
        sums[_AT[name]] = round(length.total_seconds())
    if exact:
        # What rounding leaves over is given to the longest part.
        longest = max(exact, key=exact.__getitem__)
        sums[_AT[longest]] += round(_total(exact.values()).total_seconds()) - sum(sums[:_SECONDS])
    return tuple(sums)


_SECONDS = _AT["unobserved"] + 1
"""So many of the fields add up to the whole time."""


def _total(lengths: Iterable[timedelta]) -> timedelta:
    return sum(lengths, timedelta())


def _length(spans: Spans) -> timedelta:
    return _total(last - first for first, last in spans)


def _add(exact: dict[str, timedelta], name: str, spans: Spans) -> None:
    if spans:
        exact[name] = exact.get(name, timedelta()) + _length(spans)


def _covered(spans: Spans, begin: datetime, end: datetime) -> Spans:
    return [(max(a, begin), min(b, end)) for a, b in spans if a < end and b > begin]


def _without(begin: datetime, end: datetime, holes: Spans) -> Spans:
    rest, at = [], begin
    for first, last in holes:
        if first > at:
            rest.append((at, first))
        at = max(at, last)
    if at < end:
        rest.append((at, end))
    return rest
