"""An address of every page of the panel, with something to see on it.

``tests/test_panel_pages.py`` visits all of them and fails for a route that is in neither table. To add one,
add an example here, and what the page shows to ``furnish``.
"""

from datetime import timedelta
from typing import cast

import pyotp

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action, Source
from infoscreen.domain.recovery import Meanwhile
from infoscreen.domain.sites import SiteEdit
from infoscreen.services.accounts import CLI
from infoscreen.services.power.outlets import WantedPower
from infoscreen.storage.recovery.pauses import PauseScope
from infoscreen.web.registry import Route
from infoscreen.web.routes import ROUTES
from tests.notices import make_channel, make_incident, make_link
from tests.panel import CRASHED, FAILED, HUNG, ONLINE, crash, settle_fleet
from tests.spine import ADMIN, OPERATOR, uuid_of
from tests.web import PASSWORD, Site

EXAMPLES: dict[str, tuple[str, ...]] = {
    "/": ("/",),
    "/login": ("/login",),
    "/clients": ("/clients", "/clients?status=acknowledged", "/clients?status=silent&q=nobody"),
    "/clients/{uuid}": tuple(f"/clients/{uuid}" for uuid in (CRASHED, FAILED, HUNG)),
    "/clients/{uuid}/edit": (f"/clients/{ONLINE}/edit",),
    "/clients/{uuid}/remove": (f"/clients/{ONLINE}/remove",),
    "/clients/{uuid}/power": (f"/clients/{HUNG}/power", f"/clients/{ONLINE}/power"),
    "/clients/{uuid}/commands/{action}": (
        f"/clients/{ONLINE}/commands/shutdown_host",
        f"/clients/{HUNG}/commands/power_cycle",
    ),
    "/clients/{uuid}/recovery/pause": (f"/clients/{HUNG}/recovery/pause",),
    "/clients/{uuid}/recovery/acknowledge": (f"/clients/{CRASHED}/recovery/acknowledge",),
    "/crashed/restart": ("/crashed/restart",),
    "/failures/acknowledge": ("/failures/acknowledge",),
    "/acknowledge": ("/acknowledge?status=unwell",),
    "/recovery/pause": ("/recovery/pause", "/recovery/pause?site=Rathaus"),
    "/commands/{command_id}": ("/commands/{command_id}",),
    "/audit": ("/audit", "/audit?actor=nobody"),
    "/bulk": ("/bulk",),
    "/bulk/new": (
        "/bulk/new?scope=all&action=reboot_host",
        "/bulk/new?scope=all&action=reboot_host&when_back=1",
    ),
    "/bulk/{batch_id}": ("/bulk/{batch_id}",),
    "/account": ("/account",),
    "/account/factor": ("/account/factor",),
    "/login/factor": ("/login/factor",),
    "/devices/new": ("/devices/new",),
    "/sites": ("/sites",),
    "/sites/new": ("/sites/new",),
    "/sites/{id}": ("/sites/{site}",),
    "/sites/{id}/edit": ("/sites/{site}/edit",),
    "/incidents": ("/incidents", "/incidents?show=open"),
    "/availability": ("/availability", "/availability?from=2026-03-01&to=2026-03-01"),
    "/incidents/{id}": ("/incidents/{incident}",),
    "/notifications": ("/notifications", "/notifications?channel=1"),
    "/notifications/preview": ("/notifications/preview",),
    "/notifications/channels/new": ("/notifications/channels/new",),
    "/notifications/channels/{id}": ("/notifications/channels/1",),
    "/notifications/channels/{id}/remove": ("/notifications/channels/1/remove",),
    "/notifications/rules/new": ("/notifications/rules/new",),
    "/notifications/rules/{id}": ("/notifications/rules/1",),
    "/notifications/rules/{id}/remove": ("/notifications/rules/1/remove",),
    "/link": ("/link?t={link}",),
}
"""By the path of the route. What stands in braces is filled with what ``furnish`` returns."""

SIGNED_OUT = frozenset({"/login", "/login/factor"})
"""Pages that send on who is signed in; the test visits them by itself."""

CODED = "anna"
"""Who signs in with a second factor."""

ERRORS = (f"/clients/{uuid_of(99)}", "/nowhere")

FILES: dict[str, str] = {
    "/assets/{version}/{name}": "/assets/0/panel.js",
    "/login/sso": "/login/sso",
    "/login/sso/callback": "/login/sso/callback",
    "/audit.csv": "/audit.csv",
    "/availability.csv": "/availability.csv",
    "/clients.csv": "/clients.csv",
    "/clients/{uuid}/screenshot": f"/clients/{ONLINE}/screenshot",
}
"""Routes of the panel that answer with no page."""


def pages() -> list[Route]:
    """Return the routes that people see."""
    return [one for one in ROUTES if one.html and one.method == "GET" and one.path not in FILES]


async def furnish(site: Site) -> dict[str, str]:
    """Let there be something of everything; return what the addresses need to know of it."""
    spine = site.spine
    await settle_fleet(spine)
    await crash(spine, ONLINE)
    outlet = WantedPower(driver="shelly", address="192.0.2.8", outlet="0", also_feeds=(CRASHED,))
    await site.parts.outlets.configure(HUNG, outlet, ADMIN)
    command = await spine.request(CRASHED, Action.RESTART_APP)
    batch = await spine.bulk.request(
        [FAILED, HUNG, CRASHED], Action.SCREENSHOT, source=Source.OPERATOR, actor=OPERATOR
    )
    until = spine.clock.now() + timedelta(hours=1)
    await spine.pausing.pause(PauseScope.CLIENT, "Umbau", until, OPERATOR, client_uuid=HUNG)
    await spine.pausing.pause(PauseScope.SITE, "Messe", until, OPERATOR, site="Rathaus")
    await spine.recovering.acknowledge(HUNG, OPERATOR, "Leiter holen", recovery=Meanwhile.HOLD)
    await spine.recovering.poll()
    accounts = site.parts.accounts
    await site.user(Role.OPERATOR)
    coded = await accounts.add_user(CODED, PASSWORD, Role.VIEWER, CLI)
    secret = (await accounts.factors.offer(coded)).secret
    await accounts.factors.confirm(coded, pyotp.TOTP(secret).at(spine.clock.now().timestamp()), CLI)
    await accounts.factors.offer(await site.user(Role.ADMIN))
    values = {
        "hours": "Mo-Fr 07:00-20:00; Sa 09:00-14:00",
        "phone": "+49 30 1",
        "runbook": "# Schlüssel\n- Tor",
    }
    place = await spine.sites.create("Schwimmbad", cast(SiteEdit, values), ADMIN)
    return {
        "command_id": command.command_id,
        "batch_id": batch.batch_id,
        "site": str(place.id),
        **await _incident(site),
    }


async def _incident(site: Site) -> dict[str, str]:
    await make_channel(site)
    await make_channel(site, "Nacht")
    rule = {"kinds": ["client", "backup"], "sites": ["Messe", "Rathaus"], "hours": "Mo-Fr 08:00-18:00"}
    await site.parts.notifying.add_rule("Büro", rule, ADMIN)
    await site.parts.notifying.add_rule("default", {}, ADMIN)
    number = await make_incident(site.spine, uuids=(CRASHED, HUNG))
    return {"incident": str(number), "link": await make_link(site, number)}
