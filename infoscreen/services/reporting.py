"""Reports of availability: the sums of a range of days, of the fleet, a site, a tag or a client."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import reduce

from infoscreen.domain.availability import NOTHING, Sums, plus
from infoscreen.storage import availability_days
from infoscreen.storage.availability_days import Of
from infoscreen.storage.engine import Connection

DAY = timedelta(days=1)
MOST_CLIENTS = 1_000
"""A report lists no more clients; the darkest come first."""


class ReportScope(StrEnum):
    """Of what."""

    FLEET = "fleet"
    SITE = "site"
    TAG = "tag"
    CLIENT = "client"


class Grouping(StrEnum):
    """By what."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    SITE = "site"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """What is asked: from the first to the last day, both included; ``name`` of a site, tag or UUID."""

    scope: ReportScope
    name: str | None
    first: date
    last: date
    grouping: Grouping | None = None
    limit: int = MOST_CLIENTS


@dataclass(frozen=True, slots=True)
class ReportGroup:
    """The sums of a part; ``site`` is that of a client."""

    key: str
    label: str
    sums: Sums
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer. ``last`` is no later than the last day that was summed up."""

    first: date
    last: date
    total: Sums
    groups: list[ReportGroup]


async def report(connection: Connection, query: ReportQuery) -> Report:
    """Return a report."""
    newest = await availability_days.last_day(connection)
    last = query.last if newest is None else min(query.last, date.fromisoformat(newest))
    if newest is None or last < query.first:
        return Report(first=query.first, last=last, total=NOTHING, groups=[])
    name = query.name
    of = {
        ReportScope.FLEET: Of(),
        ReportScope.SITE: Of(site=name),
        ReportScope.TAG: Of(tag=name),
        ReportScope.CLIENT: Of(uuid=name),
    }[query.scope]
    sums, groups = await _sums(connection, query, last, of), []
    if query.grouping is Grouping.CLIENT:
        before = (query.first - DAY).isoformat()
        found = await availability_days.by_client(connection, before, last.isoformat(), of, query.limit)
        groups = [ReportGroup(one.uuid, one.label, one.sums, one.site) for one in found]
    elif query.grouping is not None:
        groups = [ReportGroup(key, key, sums[key]) for key in sorted(sums)]
    return Report(first=query.first, last=last, total=reduce(plus, sums.values(), NOTHING), groups=groups)


async def _sums(connection: Connection, query: ReportQuery, last: date, of: Of) -> Mapping[str, Sums]:
    """Return the sums of each group of days or sites, all in one if there is another grouping or none."""
    sums: defaultdict[str, Sums] = defaultdict(lambda: NOTHING)
    by_site = query.grouping is Grouping.SITE
    if of.tag is None and of.uuid is None:
        # Kept for each day and site.
        rows = await availability_days.by_day_and_site(
            connection, query.first.isoformat(), last.isoformat(), of.site
        )
        for day, site, some in rows:
            key = site if by_site else _period(day, query.grouping)
            sums[key] = plus(sums[key], some)
        return sums
    ends: dict[str, date] = {}
    for number in range((last - query.first).days + 1):
        end = query.first + number * DAY
        ends[_period(end.isoformat(), query.grouping)] = end
    before = query.first - DAY
    for period, end in ends.items():
        found = await availability_days.by_site(connection, before.isoformat(), end.isoformat(), of)
        for site, some in found:
            key = site if by_site else period
            sums[key] = plus(sums[key], some)
        before = end
    return sums


def _period(day: str, grouping: Grouping | None) -> str:
    match grouping:
        case Grouping.WEEK:
            year, week, _ = date.fromisoformat(day).isocalendar()
            return f"{year}-W{week:02d}"
        case Grouping.MONTH:
            return day[:7]
        case Grouping.DAY:
            return day
        case _:
            return ""
