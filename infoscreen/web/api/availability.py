"""Availability: how long was shown what should have been shown, and why not."""

from datetime import date, timedelta
from typing import Annotated, Self
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field

from infoscreen.domain.accounts import Role
from infoscreen.domain.availability import DARK_CAUSES, Cure, IntervalCause, Sums, field
from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.faults import FieldFault
from infoscreen.services.reporting import (
    MOST_CLIENTS,
    Grouping,
    Report,
    ReportQuery,
    ReportScope,
    report,
)
from infoscreen.web.api.requests import in_calendar
from infoscreen.web.keys import parts_of
from infoscreen.web.registry import Route, read_query, reply
from infoscreen.web.shapes import Answer, Query

DEFAULT_DAYS = 30
MOST_DAYS = 1_100

Day = Annotated[date, AfterValidator(in_calendar)]


class AvailabilityQuery(Query):
    """What to sum up; without days the last thirty that are over."""

    scope: str = Field(
        default="fleet", max_length=300, description="`fleet`, `site:NAME`, `tag:NAME` or `client:UUID`."
    )
    first: Day | None = Field(default=None, alias="from", description="The first day.")
    last: Day | None = Field(default=None, alias="to", description="The last day.")
    group: Grouping | None = Field(default=None, description="Sums of the parts as well.")
    limit: int = Field(default=100, ge=1, le=MOST_CLIENTS, description="Of clients, the darkest.")

    def query(self, today: date) -> ReportQuery:
        """Return the question; raise ``InvalidInput`` for one that makes no sense."""
        last = self.last or (self.first or today) + timedelta(days=DEFAULT_DAYS - 1 if self.first else -1)
        first = self.first or last - timedelta(days=DEFAULT_DAYS - 1)
        if not timedelta() <= last - first < timedelta(days=MOST_DAYS):
            raise InvalidInput.of("to", FieldFault.NOT_ONE_OF, allowed=f"{first} .. +{MOST_DAYS} d")
        kind, _, name = self.scope.partition(":")
        if kind not in set(ReportScope) or (kind == ReportScope.FLEET) is bool(name):
            raise InvalidInput.of(
                "scope", FieldFault.NOT_ONE_OF, allowed="fleet, site:NAME, tag:NAME, client:UUID"
            )
        scope = ReportScope(kind)
        if scope is ReportScope.CLIENT:
            try:
                name = str(UUID(name))
            except ValueError:
                raise InvalidInput.of("scope", FieldFault.NOT_ONE_OF, allowed="client:UUID") from None
        return ReportQuery(
            scope=scope, name=name or None, first=first, last=last, grouping=self.group, limit=self.limit
        )


class Repairs(Answer):
    """How often a time of darkness ended in one way, and how long those were on average."""

    count: int
    mean_seconds: float | None

    @classmethod
    def of(cls, sums: Sums, cure: Cure) -> Self:
        """Return what the sums say."""
        count = field(sums, f"{cure}_repairs")
        return cls(count=count, mean_seconds=field(sums, f"{cure}_seconds") / count if count else None)


class AvailabilityModel(Answer):
    """Sums of a range of days; times are in seconds, added up over clients."""

    availability: float | None = Field(description="0 to 1; null if nothing had to be shown.")
    meant_seconds: int = Field(description="What had to be shown: the sum of shown and dark.")
    shown_seconds: int
    dark_seconds: int
    dark_by_cause: dict[IntervalCause, int]
    maintenance_seconds: int = Field(description="Counts neither way, like the next two.")
    off_hours_seconds: int
    unknown_seconds: int = Field(description="Nobody listened, or nobody can tell.")
    repairs: dict[Cure, Repairs]

    @classmethod
    def sums(cls, sums: Sums, **more: str | None) -> Self:
        """Return what the sums say."""
        causes = {cause: field(sums, f"dark_{cause}") for cause in DARK_CAUSES}
        shown, dark = field(sums, "shown"), sum(causes.values())
        return cls(
            availability=shown / (shown + dark) if shown + dark else None,
            meant_seconds=shown + dark,
            shown_seconds=shown,
            dark_seconds=dark,
            dark_by_cause=causes,
            maintenance_seconds=field(sums, "maintenance"),
            off_hours_seconds=field(sums, "off_hours"),
            unknown_seconds=field(sums, "unobserved"),
            repairs={cure: Repairs.of(sums, cure) for cure in Cure},
            **more,
        )


class AvailabilityGroup(AvailabilityModel):
    """A part: a day, a week (``2026-W10``), a month, a site or a client."""

    key: str = Field(description="Empty for clients without a site.")
    label: str
    site: str | None


class AvailabilityReport(Answer):
    """The answer. Days are those of each client's site; the last one is over."""

    model_config = ConfigDict(serialize_by_alias=True)

    scope: str
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    group: Grouping | None
    total: AvailabilityModel
    items: list[AvailabilityGroup]

    @classmethod
    def of(cls, found: Report, query: AvailabilityQuery) -> Self:
        """Return the report as JSON has it."""
        return cls(
            scope=query.scope,
            first=found.first,
            last=found.last,
            group=query.group,
            total=AvailabilityModel.sums(found.total),
            items=[
                AvailabilityGroup.sums(one.sums, key=one.key, label=one.label, site=one.site)
                for one in found.groups
            ],
        )


async def show_availability(request: web.Request) -> web.StreamResponse:
    """Answer with sums of days that are over."""
    query = read_query(request, AvailabilityQuery)
    parts = parts_of(request)
    today = parts.clock.now().astimezone(parts.config.time_zone).date()
    async with parts.store.read() as connection:
        found = await report(connection, query.query(today))
    return reply(AvailabilityReport.of(found, query))


ROUTES = (
    Route(
        "GET",
        "/api/availability",
        show_availability,
        Role.VIEWER,
        "Show how long was shown what should have been shown",
        query=AvailabilityQuery,
        response=AvailabilityReport,
        problems=(InvalidInput,),
    ),
)
