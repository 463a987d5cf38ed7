"""Sites: where clients are, when they are meant to show something, and who helps there."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self, cast

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints

from infoscreen.domain import sites as domain
from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import Condition
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound, SiteInUse
from infoscreen.domain.faults import BadValue, FieldError, FieldFault
from infoscreen.domain.hours import ALWAYS, Enforce, Schedule, Span
from infoscreen.domain.sites import SiteEdit
from infoscreen.services.hours import BadHours, intervals_shown
from infoscreen.storage import client_totals, sites
from infoscreen.storage.paging import Page, cursor_text, decode_cursor, encode_cursor
from infoscreen.web.api.requests import Label, NoneIfBlank
from infoscreen.web.keys import Parts, parts_of
from infoscreen.web.registry import Route, actor_of, no_content, path_number, read_body, read_query, reply
from infoscreen.web.shapes import Answer, Body, Listing, Paging
from infoscreen.words.speaking import say


def _upper(given: Any) -> Any:
    return given.strip().upper() if isinstance(given, str) else given


def _country(given: str) -> str:
    if len(given) != 2 or not given.isascii() or not given.isalpha():
        raise BadValue(FieldFault.NO_SUCH_COUNTRY)
    return given


Expression = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=domain.MOST_CHARACTERS)
]
ZoneName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Country = Annotated[str, BeforeValidator(_upper), AfterValidator(_country)]
Contact = Annotated[str, StringConstraints(max_length=domain.LONGEST_CONTACT)]
Phone = Annotated[str, StringConstraints(max_length=domain.LONGEST_PHONE)]
Runbook = Annotated[str, StringConstraints(max_length=domain.LONGEST_RUNBOOK)]
HOURS = "In the notation of OpenStreetMap, such as Mo-Fr 07:00-20:00; PH off."
ZONE = "IANA name; null is the server's own."
COUNTRY = "ISO code, for public holidays."


class SiteChanges(Body):
    """What may be changed of a site; what is left out stays, null empties."""

    name: Label = "-"
    time_zone: Annotated[ZoneName | None, NoneIfBlank] = Field(default=None, description=ZONE)
    country: Annotated[Country | None, NoneIfBlank] = Field(default=None, description=COUNTRY)
    hours: Annotated[Expression | None, NoneIfBlank] = Field(default=None, description=HOURS + " Null: 24/7.")
    contact: Annotated[Contact | None, NoneIfBlank] = None
    phone: Annotated[Phone | None, NoneIfBlank] = None
    runbook: Annotated[Runbook | None, NoneIfBlank] = Field(
        default=None, description="What to do there, as Markdown."
    )
    enforce: Annotated[Enforce, Field(strict=False)] = Enforce.NONE

    def given(self) -> SiteEdit:
        """Return what is to be changed."""
        return cast(SiteEdit, self.model_dump(exclude_unset=True))


class NewSite(SiteChanges):
    """A site to enter."""

    name: Label


class HoursQuestion(Body):
    """Hours to look at before they are set."""

    expression: Expression | None = Field(default=None, description=HOURS)
    hours: Expression | None = Field(default=None, description="The same by another name.")
    time_zone: Annotated[ZoneName | None, NoneIfBlank] = Field(default=None, description=ZONE)
    country: Annotated[Country | None, NoneIfBlank] = Field(default=None, description=COUNTRY)


class HoursInterval(Answer):
    """A time in which a client is meant to show something."""

    model_config = ConfigDict(serialize_by_alias=True)

    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")


class HoursAnswer(Answer):
    """What hours mean: when it is open during the next 14 days."""

    expression: str
    time_zone: str
    country: str | None
    within_hours: bool
    next_change_at: datetime | None
    intervals: list[HoursInterval] = Field(description="When it is open, until two weeks from now.")


class SiteModel(Answer):
    """One site, with what its hours mean now."""

    id: int
    name: str
    time_zone: str | None = Field(description=ZONE)
    country: str | None
    hours: str | None = Field(description="Null: 24/7.")
    contact: str | None
    phone: str | None
    runbook: str | None
    enforce: Enforce
    created_at: datetime
    within_hours: bool
    next_change_at: datetime | None
    hours_warning: str | None = Field(
        description="Why its hours cannot be used and count as 24/7, null while they can."
    )
    clients: int = Field(description="How many clients are at it.")
    totals: dict[Condition, int] = Field(description="By status.")

    @classmethod
    def told(cls, site: domain.Site, totals: Mapping[Condition, int], parts: Parts) -> Self:
        """Return the JSON of a site."""
        schedules = parts.sites.schedules
        warning = None
        try:
            span = schedules.hours.span_at(schedules.schedule_of(site), parts.clock.now())
        except BadHours as error:
            span, warning = Span(), say(error.fault)
        return cls(
            **{name: getattr(site, name) for name in _COPIED},
            within_hours=span.within,
            next_change_at=span.until,
            hours_warning=warning,
            clients=sum(totals.values()),
            totals=dict(totals),
        )


_COPIED = tuple(domain.Site.__dataclass_fields__)


class SiteList(Listing[SiteModel]):
    """A page of sites."""


async def list_sites(request: web.Request) -> web.StreamResponse:
    """Answer with sites, by name."""
    query, parts = read_query(request, Paging), parts_of(request)
    after = None if query.cursor is None else cursor_text(decode_cursor(query.cursor, 1)[0])
    async with parts.store.read() as connection:
        found = await sites.page(connection, after, query.limit + 1)
        shown = found[: query.limit]
        totals = await client_totals.of_sites(connection, [one.name for one in shown])
        count = await sites.count(connection)
    following = encode_cursor(shown[-1].name) if len(found) > query.limit else None
    items = [SiteModel.told(one, totals[one.name], parts) for one in shown]
    return reply(SiteList.model_validate(Page(items, following, count)))


async def show_site(request: web.Request) -> web.StreamResponse:
    """Answer with one site."""
    return await _answer(parts_of(request), path_number(request, "id"))


async def create_site(request: web.Request) -> web.StreamResponse:
    """Enter a site."""
    body, parts = await read_body(request, NewSite), parts_of(request)
    site = await parts.sites.create(body.name, body.given(), actor_of(request))
    return await _answer(parts, site.id, status=201)


async def edit_site(request: web.Request) -> web.StreamResponse:
    """Change a site."""
    number, body = path_number(request, "id"), await read_body(request, SiteChanges)
    await parts_of(request).sites.edit(number, body.given(), actor_of(request))
    return await _answer(parts_of(request), number)


async def remove_site(request: web.Request) -> web.StreamResponse:
    """Remove a site that no client is at."""
    await parts_of(request).sites.remove(path_number(request, "id"), actor_of(request))
    return no_content()


async def check_hours(request: web.Request) -> web.StreamResponse:
    """Answer with what hours mean during the next two weeks."""
    body, parts = await read_body(request, HoursQuestion), parts_of(request)
    if (body.expression is None) == (body.hours is None):
        raise InvalidInput.of("expression", FieldFault.MISSING)
    field = "expression" if body.hours is None else "hours"
    schedule = Schedule(body.expression or body.hours or ALWAYS, body.time_zone, body.country)
    hours, now = parts.sites.schedules.hours, parts.clock.now()
    try:
        span = hours.span_at(schedule, now)
        shown = intervals_shown(hours, schedule, now)
        zone = hours.zone_of(schedule)
    except BadHours as error:
        named = field if error.field == "hours" else error.field
        raise InvalidInput([FieldError(named, error.fault, schedule.hours[:80])]) from None
    return reply(
        HoursAnswer(
            expression=schedule.hours,
            time_zone=zone.key,
            country=schedule.country,
            within_hours=span.within,
            next_change_at=span.until,
            intervals=[HoursInterval(start=one.start, end=one.end) for one in shown if one.within],
        )
    )


async def _answer(parts: Parts, number: int, status: int = 200) -> web.Response:
    async with parts.store.read() as connection:
        site = await sites.get(connection, number)
        if site is None:
            raise NotFound(ErrorCode.NO_SITE_ID, id=str(number))
        totals = await client_totals.totals(connection, site.name)
    return reply(SiteModel.told(site, totals, parts), status)


ROUTES = (
    Route(
        "GET",
        "/api/sites",
        list_sites,
        Role.VIEWER,
        "List sites",
        query=Paging,
        response=SiteList,
        problems=(InvalidInput,),
    ),
    Route(
        "POST",
        "/api/sites",
        create_site,
        Role.OPERATOR,
        "Enter a site",
        request=NewSite,
        response=SiteModel,
        status=201,
        problems=(InvalidInput, Conflict),
    ),
    Route(
        "GET",
        "/api/sites/{id}",
        show_site,
        Role.VIEWER,
        "Show a site",
        response=SiteModel,
        problems=(NotFound,),
    ),
    Route(
        "PATCH",
        "/api/sites/{id}",
        edit_site,
        Role.OPERATOR,
        "Change a site",
        request=SiteChanges,
        response=SiteModel,
        problems=(InvalidInput, NotFound, Conflict),
    ),
    Route(
        "DELETE",
        "/api/sites/{id}",
        remove_site,
        Role.ADMIN,
        "Remove a site that no client is at",
        status=204,
        problems=(NotFound, SiteInUse),
    ),
    Route(
        "POST",
        "/api/hours/check",
        check_hours,
        Role.VIEWER,
        "Show what operating hours mean during the next two weeks",
        request=HoursQuestion,
        response=HoursAnswer,
        problems=(InvalidInput,),
    ),
)
