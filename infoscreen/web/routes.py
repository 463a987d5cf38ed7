"""All routes of the application, in one place; what is not here does not exist."""

from infoscreen.web import health, openapi, panel
from infoscreen.web.api import (
    accounts,
    audit,
    auth,
    availability,
    bulk,
    clients,
    commands,
    enrolment,
    events,
    monitoring,
    notifications,
    power,
    recovery,
    second_factor,
    sites,
    timeline,
)
from infoscreen.web.registry import Route

ROUTES: tuple[Route, ...] = (
    *auth.ROUTES,
    *second_factor.ROUTES,
    *accounts.ROUTES,
    *audit.ROUTES,
    *clients.ROUTES,
    *sites.ROUTES,
    *power.ROUTES,
    *commands.ROUTES,
    *bulk.ROUTES,
    *enrolment.ROUTES,
    *timeline.ROUTES,
    *monitoring.ROUTES,
    *availability.ROUTES,
    *recovery.ROUTES,
    *notifications.ROUTES,
    *events.ROUTES,
    *openapi.ROUTES,
    *health.ROUTES,
    *panel.ROUTES,
)
