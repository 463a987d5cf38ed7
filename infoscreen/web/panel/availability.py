"""Availability for people: a bar for each site, the darkest clients, and the bars of one client."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from types import MappingProxyType

from aiohttp import web

from infoscreen.domain.availability import (
    DARK,
    DARK_CAUSES,
    Cure,
    IntervalCause,
    StatusInterval,
    Sums,
    field,
    lived,
    since,
)
from infoscreen.domain.clients import Client, Condition
from infoscreen.services.reporting import Grouping, Report, report
from infoscreen.storage import availability, availability_days
from infoscreen.storage.engine import Connection
from infoscreen.storage.paging import encode_cursor
from infoscreen.web.api.availability import AvailabilityQuery
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import csv_files
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import read_query
from infoscreen.words.language import N_, Language
from infoscreen.words.names import word

WORST = 10
MOST_STRETCHES = 8
DAY = timedelta(days=1)

CAUSE_WORDS: Mapping[IntervalCause, str] = MappingProxyType(
    {
        IntervalCause.APP: N_("Application"),
        IntervalCause.HOST: N_("Hardware or system"),
        IntervalCause.POWER: N_("Power"),
        IntervalCause.NETWORK_OR_SITE: N_("Network or site"),
        IntervalCause.BROKER_OR_SERVER: N_("Broker or server"),
        IntervalCause.UNKNOWN: N_("Unknown cause"),
    }
)
CURE_WORDS: Mapping[Cure, str] = MappingProxyType(
    {Cure.ITSELF: N_("by itself"), Cure.RECOVERY: N_("by the recovery"), Cure.PERSON: N_("by a person")}
)


@dataclass(frozen=True, slots=True)
class BarPart:
    """A part of a bar: its look, its share in percent, and what it stands for."""

    look: str
    percent: float
    title: str
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class BarLine:
    """One line of the page: a site, a client, or all of them."""

    key: str
    label: str
    site: str | None
    percent: float | None
    dark: timedelta
    parts: list[BarPart]


def line_of(
    sums: Sums, language: Language, key: str = "", label: str = "", site: str | None = None
) -> BarLine:
    """Return the bar of sums: shown, and dark by cause."""
    shown = field(sums, "shown")
    dark = [(cause, field(sums, f"dark_{cause}")) for cause in DARK_CAUSES]
    meant = shown + sum(seconds for _, seconds in dark)
    if not meant:
        return BarLine(key, label, site, None, timedelta(), [])
    parts, at = [], 0.0
    for look, what, seconds in [
        ("shown", N_("Shown"), shown),
        *((f"dark-{cause}", CAUSE_WORDS[cause], seconds) for cause, seconds in dark),
    ]:
        if seconds:
            share = 100 * seconds / meant
            title = f"{language.gettext(what)}: {language.duration(timedelta(seconds=seconds))}"
            parts.append(BarPart(look, round(share, 3), title, round(at, 3)))
            at += share
    return BarLine(key, label, site, 100 * shown / meant, timedelta(seconds=meant - shown), parts)


async def get_availability(request: web.Request) -> web.StreamResponse:
    """Show how long was shown what should have been."""
    asked = read_query(request, AvailabilityQuery)
    language = language_of(request)
    parts = parts_of(request)
    query = asked.query(_today(request))
    async with parts.store.read() as connection:
        by_site = await report(connection, replace(query, grouping=Grouping.SITE))
        worst = await report(connection, replace(query, grouping=Grouping.CLIENT, limit=WORST))
    repairs = [
        (CURE_WORDS[cure], count, timedelta(seconds=field(by_site.total, f"{cure}_seconds") / count))
        for cure in Cure
        if (count := field(by_site.total, f"{cure}_repairs"))
    ]
    causes = [
        (CAUSE_WORDS[cause], timedelta(seconds=seconds), f"dark-{cause}")
        for cause in DARK_CAUSES
        if (seconds := field(by_site.total, f"dark_{cause}"))
    ]
    return await page(
        request,
        "availability.html",
        here="availability",
        asked=asked,
        query=query,
        last=by_site.last,
        total=line_of(by_site.total, language),
        lines=[line_of(one.sums, language, one.key, one.label) for one in by_site.groups],
        worst=[
            line
            for one in worst.groups
            if (line := line_of(one.sums, language, one.key, one.label, one.site)).dark
        ],
        causes=causes,
        repairs=repairs,
        not_counted=[
            (title, timedelta(seconds=seconds))
            for title, name in (
                (N_("Maintenance"), "maintenance"),
                (N_("Outside operating hours"), "off_hours"),
                (N_("Not observed"), "unobserved"),
            )
            if (seconds := field(by_site.total, name))
        ],
    )


async def get_csv(request: web.Request) -> web.StreamResponse:
    """Answer the clients of the report as CSV."""
    asked = read_query(request, AvailabilityQuery)
    query = replace(asked.query(_today(request)), grouping=asked.group or Grouping.CLIENT)
    async with parts_of(request).store.read() as connection:
        found = await report(connection, query)
    body = csv_files.MARK + csv_of(found)
    name = f"availability-{found.first}-{found.last}.csv"
    return web.Response(
        body=body.encode(),
        content_type="text/csv",
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def csv_of(found: Report) -> str:
    """Return a report as CSV; texts that a spreadsheet would take for a formula are quoted."""
    dark = [f"dark_{cause}" for cause in DARK_CAUSES]
    rows: list[list[object]] = [
        ["key", "label", "site", "availability", "shown", *dark, "maintenance", "off_hours", "unknown"]
    ]
    for one in found.groups:
        shown, darkness = field(one.sums, "shown"), [field(one.sums, name) for name in dark]
        meant = shown + sum(darkness)
        rest = [field(one.sums, name) for name in ("maintenance", "off_hours", "unobserved")]
        share = "" if not meant else f"{shown / meant:.6f}"
        rows.append([one.key, one.label, one.site, share, shown, *darkness, *rest])
    return csv_files.lines(rows)


def _today(request: web.Request) -> date:
    parts = parts_of(request)
    return parts.clock.now().astimezone(parts.config.time_zone).date()


# --- the bars of one client

LOOKS: Mapping[Condition, str] = MappingProxyType(
    {
        **dict.fromkeys(Condition, "none"),
        Condition.ONLINE: "shown",
        **dict.fromkeys(DARK, "dark"),
        Condition.MAINTENANCE: "maintenance",
    }
)


@dataclass(frozen=True, slots=True)
class Bars:
    """The last 24 hours as stretches, and the last 30 days; ``percent`` is of the hours, None if unknown.

    ``dark`` are the newest dark stretches in words, each with the cursor of the history where it ended.
    """

    hours: list[BarPart]
    dark: list[tuple[str, str]]
    percent: float | None
    outages: int
    days: list[BarLine]


async def client_bars(request: web.Request, connection: Connection, client: Client) -> Bars:
    """Return the bars of a client."""
    language, now, today = language_of(request), parts_of(request).clock.now(), _today(request)
    start = max(now - DAY, client.created_at)
    ended = (await availability.of_clients(connection, [client.uuid], start, now)).get(client.uuid, [])
    gaps = await availability.gaps(connection, start, now)
    # Of the last seconds it is not noted yet.
    lately = now - timedelta(minutes=1)
    holes = [(one.began_at, one.ended_at) for one in gaps if one.ended_at < now or one.began_at < lately]
    present = StatusInterval(client.uuid, lived(client), since(client), None)
    stretches: list[tuple[str, str]] = []
    parts, shown, dark, outages = [], 0.0, 0.0, 0
    for one in (*ended, present):
        begin, end = max(one.began_at, start), min(one.ended_at or now, now)
        if end <= begin:
            continue
        seconds = (end - begin).total_seconds()
        look = LOOKS[one.condition]
        shown += seconds if look == "shown" else 0
        dark += seconds if look == "dark" else 0
        outages += look == "dark"
        parts.append(_stretch(look, begin, end, now, one.condition, language))
        if look == "dark":
            # Entries of its very end are to be among them.
            stretches.append((parts[-1].title, encode_cursor(end + timedelta(seconds=1), 0, 0)))
    for begin, end in holes:
        parts.append(_stretch("unobserved", max(begin, start), end, now, None, language))
    percent = 100 * shown / (shown + dark) if shown + dark else None
    first = today - timedelta(days=30)
    names = [(first + timedelta(days=number)).isoformat() for number in range(30)]
    before = (first - DAY).isoformat()
    rows = await availability_days.days_of_client(connection, client.uuid, names, before)
    return Bars(
        parts,
        stretches[: -MOST_STRETCHES - 1 : -1],
        percent,
        outages,
        [line_of(sums, language, day, language.weekday(date.fromisoformat(day))) for day, sums in rows],
    )


def _stretch(
    look: str, begin: datetime, end: datetime, now: datetime, condition: Condition | None, language: Language
) -> BarPart:
    name = language.gettext(N_("Not observed")) if condition is None else word(condition, language)
    title = f"{language.moment(begin)} - {language.moment(end)}: {name}"
    width = max(0.2, 100 * ((end - begin) / DAY))
    return BarPart(look, round(width, 3), title, round(100 - 100 * ((now - begin) / DAY), 3))
