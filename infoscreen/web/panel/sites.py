"""Sites: the list, one with its clients, its hours and who helps there, and the form to change it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from aiohttp import web
from markdown_it import MarkdownIt
from markupsafe import Markup
from pydantic import Field, StringConstraints

from infoscreen.domain import sites as domain
from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import PROBLEMS, Condition
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound
from infoscreen.domain.faults import FieldError
from infoscreen.domain.hours import ALWAYS, Schedule
from infoscreen.domain.sites import Site, SiteEdit
from infoscreen.services.hours import BadHours, Hours, intervals_shown
from infoscreen.storage import client_totals, sites
from infoscreen.storage.paging import cursor_text, decode_cursor, encode_cursor
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.faults import faults_of
from infoscreen.web.panel.forms import Address, Form, Optional, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, actor_of, path_number, read_form, read_query
from infoscreen.words.language import N_
from infoscreen.words.speaking import say

ROWS = 50
DAYS = 14
MINUTES = 24 * 60

PRESETS = (
    (N_("Shop"), "Mo-Fr 08:00-20:00; Sa 09:00-18:00; PH,Su off"),
    (N_("Office"), "Mo-Fr 07:00-18:00; PH off"),
    (N_("Public transport"), "Mo-Su 04:30-25:30"),
    (N_("Around the clock"), ALWAYS),
)

_MARKDOWN = MarkdownIt("commonmark", {"html": False})
"""Without HTML of its own, and without links that a browser would run."""


class SitesAddress(Address):
    """From where on."""

    cursor: Annotated[str, Field(max_length=1_000)] = ""


def _text(most: int) -> Any:
    return Annotated[
        Annotated[str, StringConstraints(strip_whitespace=True, max_length=most)] | None, Optional
    ]


class SiteForm(Form):
    """What people say of a site; ``preview`` shows what its hours mean and saves nothing."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    hours: _text(domain.MOST_CHARACTERS) = None  # type: ignore[valid-type]
    time_zone: _text(64) = None  # type: ignore[valid-type]
    country: _text(2) = None  # type: ignore[valid-type]
    contact: _text(domain.LONGEST_CONTACT) = None  # type: ignore[valid-type]
    phone: _text(domain.LONGEST_PHONE) = None  # type: ignore[valid-type]
    runbook: _text(domain.LONGEST_RUNBOOK) = None  # type: ignore[valid-type]
    preview: Literal["", "yes"] = ""

    def edit(self) -> SiteEdit:
        """Return what is to be changed."""
        return {
            "name": self.name,
            "hours": self.hours,
            "time_zone": self.time_zone,
            "country": None if self.country is None else self.country.upper(),
            "contact": self.contact,
            "phone": self.phone,
            "runbook": self.runbook,
        }


@dataclass(frozen=True, slots=True)
class HoursDay:
    """One day of the picture: when it is open, in minutes of the local clock, and the same in words."""

    day: date
    spans: Sequence[tuple[int, int]]
    times: str


def runbook_of(site: Site) -> Markup | None:
    """Return the runbook as HTML, without anything in it that was not made from Markdown."""
    if site.runbook is None:
        return None
    tokens = _MARKDOWN.parse(site.runbook)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            # The page's own headings are above them.
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def days_of(hours: Hours, schedule: Schedule, now: datetime) -> list[HoursDay]:
    """Return the coming two weeks of a schedule, day by day; raise ``BadHours``."""
    zone = hours.zone_of(schedule)
    local = now.astimezone(zone)
    today, midnight = local.date(), local.replace(hour=0, minute=0, second=0, microsecond=0)
    found: dict[date, list[tuple[int, int]]] = {today + timedelta(days=day): [] for day in range(DAYS)}
    for one in intervals_shown(hours, schedule, midnight):
        start, end = one.start.astimezone(zone), one.end.astimezone(zone)
        day = start.date()
        while one.within and day <= end.date():
            begin = start.hour * 60 + start.minute if day == start.date() else 0
            finish = end.hour * 60 + end.minute if day == end.date() else MINUTES
            if day in found and begin < finish:
                found[day].append((begin, finish))
            day += timedelta(days=1)
    return [
        HoursDay(day, spans, ", ".join(f"{_clock(begin)}-{_clock(finish)}" for begin, finish in spans))
        for day, spans in found.items()
    ]


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


async def get_sites(request: web.Request) -> web.StreamResponse:
    """List the sites by name, with how many of their clients need somebody."""
    address, parts = read_query(request, SitesAddress), parts_of(request)
    after = cursor_text(decode_cursor(address.cursor, 1)[0]) if address.cursor else None
    async with parts.store.read() as connection:
        found = await sites.page(connection, after, ROWS + 1)
        shown = found[:ROWS]
        totals = await client_totals.of_sites(connection, [one.name for one in shown])
    following = encode_cursor(shown[-1].name) if len(found) > ROWS else None
    return await page(
        request,
        "sites.html",
        here="sites",
        sites=[(one, _counts(totals[one.name])) for one in shown],
        following=following,
        first=not address.cursor,
    )


async def get_site(request: web.Request) -> web.StreamResponse:
    """Show a site."""
    site, parts = await _site_of(request), parts_of(request)
    schedules = parts.sites.schedules
    async with parts.store.read() as connection:
        totals = await client_totals.totals(connection, site.name)
    schedule, now = schedules.schedule_of(site), parts.clock.now()
    warning, days, zone = None, [], schedules.hours.zone.key
    try:
        days, zone = days_of(schedules.hours, schedule, now), schedules.hours.zone_of(schedule).key
    except BadHours as error:
        warning = say(error.fault, language_of(request))
    return await page(
        request,
        "site.html",
        here="sites",
        site=site,
        counts=_counts(totals),
        by_status={status: count for status, count in totals.items() if count},
        days=days,
        zone=zone,
        warning=warning,
        runbook=runbook_of(site),
        always=ALWAYS,
    )


async def get_new_site(request: web.Request) -> web.StreamResponse:
    """Show the form for a new site."""
    return await _form_page(request, None)


async def post_new_site(request: web.Request) -> web.StreamResponse:
    """Enter a site."""
    return await _post(request, None)


async def get_site_form(request: web.Request) -> web.StreamResponse:
    """Show the form for a site."""
    return await _form_page(request, await _site_of(request))


async def post_site_form(request: web.Request) -> web.StreamResponse:
    """Save a site."""
    return await _post(request, await _site_of(request))


async def _post(request: web.Request, site: Site | None) -> web.StreamResponse:
    parts, actor = parts_of(request), actor_of(request)
    try:
        form = await read_form(request, SiteForm)
        if form.preview:
            return await _form_page(request, site)
        if site is None:
            saved = await parts.sites.create(form.name, form.edit(), actor)
        else:
            saved = await parts.sites.edit(site.id, form.edit(), actor)
    except InvalidInput as refusal:
        return await _form_page(request, site, refusal.errors, refusal.status)
    except Conflict as refusal:
        return await _form_page(
            request, site, (), refusal.status, said=say(refusal.fact, language_of(request))
        )
    return flash.put(request, see_other(f"/sites/{saved.id}"), "site_saved", site=saved.name)


async def _form_page(
    request: web.Request,
    site: Site | None,
    errors: Sequence[FieldError] = (),
    status: int = 200,
    *,
    said: str | None = None,
) -> web.StreamResponse:
    names = ("name", "hours", "time_zone", "country", "contact", "phone", "runbook")
    values = {name: (getattr(site, name) if site is not None else None) or "" for name in names}
    if request.method == "POST":
        typed = await request.post()
        values |= {name: str(typed[name]) for name in names if name in typed}
    hours, language = parts_of(request).sites.schedules.hours, language_of(request)
    schedule = Schedule(
        values["hours"].strip() or ALWAYS,
        values["time_zone"].strip() or None,
        values["country"].strip().upper() or None,
    )
    days: list[HoursDay] = []
    try:
        days = days_of(hours, schedule, parts_of(request).clock.now())
    except BadHours as error:
        if not errors:
            errors = (FieldError(error.field, error.fault),)
            status = InvalidInput.status
    return await page(
        request,
        "site_form.html",
        status=status,
        here="sites",
        site=site,
        values=values,
        faults=faults_of(errors, language),
        said=said,
        days=days,
        zone=hours.zone.key,
        presets=PRESETS,
    )


async def _site_of(request: web.Request) -> Site:
    number = path_number(request, "id")
    async with parts_of(request).store.read() as connection:
        site = await sites.get(connection, number)
    if site is None:
        raise NotFound(ErrorCode.NO_SITE_ID, id=str(number))
    return site


def _counts(totals: Mapping[Condition, int]) -> tuple[int, int]:
    """Return how many clients there are, and how many of them need somebody."""
    return sum(totals.values()), sum(count for status, count in totals.items() if status in PROBLEMS)


ROUTES = (
    Route("GET", "/sites", get_sites, Role.VIEWER, "Sites", query=SitesAddress, html=True),
    Route("GET", "/sites/new", get_new_site, Role.OPERATOR, "Form for a new site", html=True),
    Route("POST", "/sites/new", post_new_site, Role.OPERATOR, "Enter a site", request=SiteForm, html=True),
    Route("GET", "/sites/{id}", get_site, Role.VIEWER, "A site", html=True),
    Route("GET", "/sites/{id}/edit", get_site_form, Role.OPERATOR, "Form for a site", html=True),
    Route(
        "POST", "/sites/{id}/edit", post_site_form, Role.OPERATOR, "Save a site", request=SiteForm, html=True
    ),
)
