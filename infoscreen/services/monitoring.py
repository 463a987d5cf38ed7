"""The state of the whole: totals, the broker, and whether the daemon itself is fit."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infoscreen.clock import Clock
from infoscreen.domain.alerts import Alert, AlertSource, Severity
from infoscreen.domain.clients import PROBLEMS, Condition
from infoscreen.domain.codes import Fact
from infoscreen.domain.errors import StoreUnavailable
from infoscreen.domain.readiness import NotReady
from infoscreen.progress import expect_within
from infoscreen.services.ingest import Ingest
from infoscreen.services.lag import Lag
from infoscreen.services.ports import Link, LinkState
from infoscreen.storage import acknowledged, client_totals
from infoscreen.storage.engine import Store
from infoscreen.storage.recovery import decisions, incidents, pauses
from infoscreen.storage.recovery.decisions import LastPoll
from infoscreen.storage.recovery.incidents import StoredIncident
from infoscreen.storage.recovery.pauses import StoredPause

log = logging.getLogger(__name__)

LAG_SECONDS = 0.25
"""How often the event loop's lag is measured."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Totals by condition, what the daemon knows of its broker, and what the recovery makes of it all.

    ``held`` is how many clients each of the ``incidents`` under way holds, by its number; ``poll`` is the
    newest of the recovery, ``pauses`` those in force. ``database`` is why nothing can be written;
    ``alerts`` are about the installation; ``acknowledged`` counts clients that somebody takes care of.
    """

    generated_at: datetime
    totals: Mapping[Condition, int]
    broker: LinkState
    incidents: Sequence[StoredIncident] = ()
    held: Mapping[int, int] = field(default_factory=dict)
    poll: LastPoll | None = None
    pauses: Sequence[StoredPause] = ()
    database: StoreUnavailable | None = None
    alerts: Sequence[Alert] = ()
    acknowledged: Mapping[Condition, int] = field(default_factory=dict)

    @property
    def problems(self) -> int:
        """Return how many clients have a problem that nobody takes care of."""
        return sum(self.totals.get(one, 0) - self.acknowledged.get(one, 0) for one in PROBLEMS)

    @property
    def folded(self) -> int:
        """Return how many clients the incidents hold together."""
        return sum(self.held.values())


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the daemon does its job, and if not, what is missing, by part."""

    ready: bool
    faults: Mapping[str, Fact[NotReady]]


class Monitoring:
    """Answers how the fleet and the daemon are."""

    def __init__(
        self, store: Store, clock: Clock, link: Link, *ingests: Ingest, alerts: Sequence[AlertSource] = ()
    ) -> None:
        self._store = store
        self._clock = clock
        self._link = link
        self._ingests = ingests
        self._alert_sources = alerts
        self.loop_lag_seconds = 0.0
        self._worst_loop_lag = Lag(clock)

    async def overview(self) -> Overview:
        """Return the totals and the state of the broker connection as they are now."""
        now = self._clock.now()
        async with self._store.read() as connection:
            totals = await client_totals.totals(connection)
            under_way = await incidents.under_way(connection)
            held = await decisions.held_by_incidents(connection, now) if under_way else {}
            poll = await decisions.last_poll(connection)
            in_force = await pauses.in_force(connection, now)
            cared_for = await acknowledged.counts(connection, now)
        database = await self._database_trouble()
        return Overview(
            now, totals, self._link.state, under_way, held, poll, in_force, database, self.alerts(), cared_for
        )

    def alerts(self) -> list[Alert]:
        """Return the alerts that are true now, the critical ones first."""
        found = [alert for source in self._alert_sources for alert in source()]
        return sorted(found, key=lambda alert: alert.severity is not Severity.CRITICAL)

    def _storing_trouble(self) -> StoreUnavailable | None:
        return next((one.trouble for one in self._ingests if one.trouble is not None), None)

    async def _database_trouble(self) -> StoreUnavailable | None:
        if (waiting := self._storing_trouble()) is not None:
            return waiting
        try:
            await self._store.check()
        except StoreUnavailable as trouble:
            return trouble
        return None

    async def readiness(self) -> Readiness:
        """Tell whether database and broker can be used right now; never raises for either."""
        faults: dict[str, Fact[NotReady]] = {}
        try:
            await self._store.check()
            async with self._store.read() as connection:
                await client_totals.totals(connection)
        except StoreUnavailable as error:
            faults["database"] = Fact(NotReady.DATABASE, {"trouble": error.trouble})
        if self._store.locked_elsewhere:
            faults["database"] = Fact(NotReady.DATABASE_LOCKED)
        if (waiting := self._storing_trouble()) is not None:
            faults["database"] = Fact(NotReady.NOT_STORING, {"trouble": waiting.trouble})
        state = self._link.state
        if not state.connected or state.listening_since is None:
            faults["broker"] = _not_listening(state)
        elif state.taken_over_at is not None:
            faults["broker"] = Fact(NotReady.TAKEN_OVER)
        return Readiness(not faults, faults)

    async def run(self) -> None:
        """Measure the lag of the event loop, and notice when the clock was set, until cancelled."""
        step = self._clock.last_step
        while True:
            before = self._clock.monotonic()
            expect_within()
            await asyncio.sleep(LAG_SECONDS)
            self.loop_lag_seconds = max(0.0, self._clock.monotonic() - before - LAG_SECONDS)
            self._worst_loop_lag.note(self.loop_lag_seconds)
            now = self._clock.now()
            if (latest := self._clock.last_step) is not None and latest is not step:
                step = latest
                log.warning(
                    "this host's clock was set, or it was suspended; listening starts again now",
                    extra={
                        "event": "clock_step",
                        "seconds": round(latest.seconds, 1),
                        "now": now.isoformat(),
                    },
                )

    @property
    def worst_loop_lag_seconds(self) -> float:
        """Return how late the event loop was at worst in the last minute."""
        return self._worst_loop_lag.seconds


def _not_listening(state: LinkState) -> Fact[NotReady]:
    if state.last_error is None:
        return Fact(NotReady.NO_CONNECTION)
    if state.fault is None:
        return Fact(NotReady.NOT_LISTENING, {"error": state.last_error})
    return Fact(NotReady.BROKER_FAULT, {"fault": state.fault, "error": state.last_error})
