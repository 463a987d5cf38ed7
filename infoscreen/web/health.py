"""Monitoring of the daemon: liveness, readiness and metrics."""

import hmac
from contextlib import suppress

from aiohttp import web

from infoscreen import __version__
from infoscreen.domain.codes import Fact
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Forbidden, StoreUnavailable
from infoscreen.web.auth import bearer_token
from infoscreen.web.keys import parts_of
from infoscreen.web.origin import is_from_this_host
from infoscreen.web.problems import RETRY_SECONDS, Problem, asked_language
from infoscreen.web.registry import Route, reply
from infoscreen.web.shapes import Answer

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HealthModel(Answer):
    """Said while the daemon answers at all."""

    status: str


class Alive(HealthModel):
    """The same, with the version that runs."""

    version: str


async def healthz(request: web.Request) -> web.StreamResponse:
    """Answer: that is all it takes to be alive."""
    return reply(Alive(status="ok", version=__version__))


async def readyz(request: web.Request) -> web.StreamResponse:
    """Tell whether the daemon can do its job, and if not, which part is missing."""
    readiness = await parts_of(request).monitoring.readiness()
    if readiness.ready:
        return reply(HealthModel(status="ready"))
    return Problem(
        slug="not-ready",
        status=503,
        fact=Fact(ErrorCode.NOT_READY, {"missing": ", ".join(readiness.faults)}),
        faults=readiness.faults,
        headers={"Retry-After": str(RETRY_SECONDS)},
    ).response(asked_language(request))


async def metrics(request: web.Request) -> web.StreamResponse:
    """Show the metrics to this host, and to requests with the token."""
    _refuse_strangers(request)
    parts = parts_of(request)
    totals = None
    # Metrics matter most while something is broken.
    with suppress(StoreUnavailable):
        totals = (await parts.monitoring.overview()).totals
    parts.metrics.alerts(parts.monitoring.alerts())
    parts.metrics.set_state(totals, parts.link.state.connected, parts.monitoring.loop_lag_seconds)
    return web.Response(body=parts.metrics.exposition(), headers={"Content-Type": METRICS_TYPE})


def _refuse_strangers(request: web.Request) -> None:
    expected, given = parts_of(request).config.metrics_token, bearer_token(request)
    if expected is not None and given is not None and hmac.compare_digest(expected.encode(), given.encode()):
        return
    if not is_from_this_host(request):
        raise Forbidden(ErrorCode.METRICS_FOR_HOST_ONLY)


ROUTES = (
    Route("GET", "/healthz", healthz, None, "Is the daemon alive", response=Alive),
    Route("GET", "/readyz", readyz, None, "Can the daemon do its job", response=HealthModel),
    Route(
        "GET",
        "/metrics",
        metrics,
        None,
        "Counters for Prometheus",
        content="text/plain",
        problems=(Forbidden,),
    ),
)
