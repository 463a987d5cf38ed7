"""The daemon without its doors: every service that decides, put together as ``app`` does, on given time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError

from infoscreen.clock import Clock, SteadySince, host_zone
from infoscreen.domain.commands import Timeouts
from infoscreen.domain.recovery import Observer
from infoscreen.judge.lines import BadLine
from infoscreen.judge.outlets import CycleClock, WorldOutlet
from infoscreen.judge.surroundings import VirtualLink, VirtualPublisher
from infoscreen.metrics import Metrics
from infoscreen.policies import hours_policy, lockout_policy, recovery_policy, stale_policy
from infoscreen.services.bus import Bus
from infoscreen.services.commanding import Commanding, CommandPolicy
from infoscreen.services.fleet import Fleet
from infoscreen.services.hours import Hours
from infoscreen.services.ingest import Ingest, IngestPolicy
from infoscreen.services.outbox import Outbox
from infoscreen.services.power.cycles import PowerCycles, PowerPolicy
from infoscreen.services.power.outlets import Outlets
from infoscreen.services.power.permission import CycleLimits
from infoscreen.services.recovery.loop import Recovering
from infoscreen.services.recovery.pauses import Pausing
from infoscreen.services.schedules import Schedules
from infoscreen.services.secrets import Secrets
from infoscreen.services.watching import Watch, WatchPolicy
from infoscreen.settings import Settings
from infoscreen.storage.engine import Store


def settings_of(values: dict[str, object]) -> tuple[Settings, list[str]]:
    """Return the shipped settings with others in their place, the recovery switched on unless they say no.

    The second is the names that no setting has; they are left out. Raises ``BadLine``.
    """
    given = {name.lower(): value for name, value in values.items() if value is not None}
    unknown = [name for name in values if name.lower() not in Settings.model_fields]
    wanted = {name: value for name, value in given.items() if name in Settings.model_fields}
    try:
        return Settings.model_validate({"crash_recovery_enabled": True, **wanted}), unknown
    except ValidationError as error:
        faults = [f"{str(one['loc'][0]).upper()}: {one['msg']}" for one in error.errors() if one["loc"]]
        raise BadLine(f"settings: {'; '.join(faults)}") from None


@dataclass(slots=True)
class Daemon:
    """The services of one life of the daemon."""

    ingest: Ingest
    watch: Watch
    outbox: Outbox
    commanding: Commanding
    fleet: Fleet
    pausing: Pausing
    recovering: Recovering
    cycles: PowerCycles
    wake: asyncio.Event
    """Set whenever there is a new command to send."""


def build(
    settings: Settings,
    store: Store,
    clock: Clock,
    link: VirtualLink,
    publisher: VirtualPublisher,
    new_id: Callable[[], str],
) -> Daemon:
    """Put the services together."""
    metrics, bus, wake = Metrics(), Bus(), asyncio.Event()
    started = SteadySince(clock)
    started.begin()
    stale = stale_policy(settings)
    timeouts = Timeouts(
        restart_app=timedelta(seconds=settings.restart_app_timeout_seconds),
        reboot_host=timedelta(seconds=settings.reboot_timeout_seconds),
        shutdown_host=timedelta(seconds=settings.shutdown_timeout_seconds),
        power_cycle=timedelta(seconds=settings.power_cycle_timeout_seconds),
    )
    limits = CycleLimits(settings.power_cycles_per_day, timedelta(seconds=settings.boot_grace_seconds))
    lockout = lockout_policy(settings)
    expiry = timedelta(seconds=settings.command_expiry_seconds)
    watched = WatchPolicy(
        stale,
        timeouts,
        poll=timedelta(seconds=settings.crash_recovery_poll_seconds),
        retention=timedelta(days=settings.retention_days),
    )
    schedules = Schedules(store, clock, Hours(host_zone()), hours_policy(settings))
    ingest = Ingest(
        store,
        clock,
        bus,
        IngestPolicy(stale, timeouts, settings.auto_register_clients),
        metrics,
        lambda: link.state,
    )
    commanding = Commanding(
        store, clock, bus, CommandPolicy(expiry, timeouts, lockout, limits), metrics, wake
    )

    def observer() -> Observer:
        return Observer(
            listening_since=link.listening_since if publisher.connected else None,
            started_at=started.since or clock.now(),
            ingest_lag=timedelta(seconds=ingest.lag_seconds),
        )

    return Daemon(
        ingest=ingest,
        watch=Watch(store, clock, bus, link, watched, metrics, schedules),
        outbox=Outbox(
            store, clock, bus, publisher, link, metrics, wake, alias=settings.mqtt_command_alias_enabled
        ),
        commanding=commanding,
        fleet=Fleet(store, clock, bus, link, wake, schedules),
        pausing=Pausing(store, clock, bus),
        recovering=Recovering(
            *(store, clock, bus, commanding, metrics, recovery_policy(settings), lockout, observer, new_id),
            cycles_per_day=limits.per_day,
        ),
        cycles=PowerCycles(
            store,
            CycleClock(clock),
            bus,
            Outlets(store, clock, bus, Secrets(), WorldOutlet),
            WorldOutlet,
            metrics,
            PowerPolicy(timeouts, limits, stagger=timedelta(0)),
        ),
        wake=wake,
    )
