"""What every handler can reach, typed: the parts of the daemon, and what middleware learnt of a request."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from aiohttp import web

from infoscreen.clock import Clock
from infoscreen.domain.accounts import Actor
from infoscreen.domain.alerts import Alert
from infoscreen.domain.clients import Condition
from infoscreen.services.accounts import Accounts
from infoscreen.services.bulk import Bulk
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Commanding
from infoscreen.services.enrolling import Enrolling
from infoscreen.services.fleet import Fleet
from infoscreen.services.monitoring import Monitoring
from infoscreen.services.notify.channels import Notifying
from infoscreen.services.notify.links import AcknowledgeLinks
from infoscreen.services.ports import Link
from infoscreen.services.power.outlets import Outlets
from infoscreen.services.recovery.loop import Recovering
from infoscreen.services.recovery.pauses import Pausing
from infoscreen.services.single_sign_on import SingleSignOn
from infoscreen.services.sites import Sites
from infoscreen.storage.engine import Store
from infoscreen.web.live import LiveFeed
from infoscreen.web.problems import Problem


class HttpMeasures(Protocol):
    """Where this door counts its requests, and what ``/metrics`` shows."""

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request by the pattern of its path, never by the path itself."""
        ...

    def set_state(
        self, totals: Mapping[Condition, int] | None, connected: bool, loop_lag_seconds: float
    ) -> None:
        """Set what is looked at only when somebody asks; ``totals`` is None when nobody can tell."""
        ...

    def alerts(self, alerts: Iterable[Alert]) -> None:
        """Set which alerts are true."""
        ...

    def exposition(self) -> bytes:
        """Return everything in the Prometheus text format."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The knobs of this door.

    ``public_origin`` is what browsers have in their address bar (``https://screens.example``); with an https
    one cookies are always ``Secure``. ``trusted_proxies`` may tell us the address and the scheme of a
    request. ``time_zone`` is the local time of readers whose browser does not tell its own.
    """

    public_origin: str | None = None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    metrics_token: str | None = None
    time_zone: tzinfo = UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the daemon that handlers use."""

    store: Store
    clock: Clock
    accounts: Accounts
    commanding: Commanding
    bulk: Bulk
    sites: Sites
    fleet: Fleet
    outlets: Outlets
    pausing: Pausing
    single_sign_on: SingleSignOn | None = None
    enrolling: Enrolling
    recovering: Recovering
    notifying: Notifying
    links: AcknowledgeLinks
    monitoring: Monitoring
    bus: Bus
    live: LiveFeed
    link: Link
    metrics: HttpMeasures
    config: WebConfig


PARTS = web.AppKey("PARTS", Parts)

ErrorPage = Callable[[web.Request, Problem], Awaitable[web.StreamResponse]]
ERROR_PAGE: web.AppKey[ErrorPage] = web.AppKey("ERROR_PAGE")
"""Renders a problem for people; the panel sets it. Without it they get the JSON document too."""

ACTOR: web.RequestKey[Actor | None] = web.RequestKey("ACTOR")
REQUEST_ID: web.RequestKey[str] = web.RequestKey("REQUEST_ID")
STARTED: web.RequestKey[bool] = web.RequestKey("STARTED")
"""Set once the head of an answer is on its way: from then on no problem document can replace it."""


def parts_of(request: web.Request) -> Parts:
    """Return the daemon's parts."""
    return request.app[PARTS]
