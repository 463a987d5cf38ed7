"""The composition root: builds every part by hand, runs them in one TaskGroup, and takes them down in order.

Nobody imports it but the command line. A part that raises, or that returns, ends the process with a traceback
that names it; systemd starts it again. There is no half-dead daemon.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

from aiohttp import web

from infoscreen import __version__, installation, sd_notify
from infoscreen.broker_address import broker_address, probe_address
from infoscreen.clock import SteadySince, SystemClock, host_zone
from infoscreen.domain.alerts import AlertSource
from infoscreen.domain.commands import Timeouts
from infoscreen.domain.errors import CannotStart, StoreUnavailable
from infoscreen.domain.events import BrokerChanged
from infoscreen.domain.recovery import Observer
from infoscreen.domain.secret_keys import keys_in
from infoscreen.metrics import Metrics
from infoscreen.mqtt.dropped import Dropped
from infoscreen.mqtt.identity import OwnIds
from infoscreen.mqtt.listener import BatchLimits, Listener
from infoscreen.mqtt.monitor import BrokerMonitor
from infoscreen.mqtt.publisher import BrokerPublisher
from infoscreen.notifications import Notifications
from infoscreen.policies import hours_policy, lockout_policy, recovery_policy, seconds, stale_policy
from infoscreen.power.registry import open_outlet
from infoscreen.progress import Progress, step_seconds
from infoscreen.provisioning.helper_client import HelperClient
from infoscreen.services import broker_alerts
from infoscreen.services.accounts import Accounts
from infoscreen.services.availability import Availability, Kept
from infoscreen.services.broker_repair import BrokerRepair
from infoscreen.services.bulk import Bulk
from infoscreen.services.bus import Bus
from infoscreen.services.certificates import CertificateWatch
from infoscreen.services.commanding import Commanding, CommandPolicy
from infoscreen.services.enrolling import Enrolling
from infoscreen.services.fleet import Fleet
from infoscreen.services.hours import Hours
from infoscreen.services.ingest import Ingest, IngestPolicy
from infoscreen.services.monitoring import Monitoring
from infoscreen.services.notify.links import AcknowledgeLinks
from infoscreen.services.outbox import Outbox
from infoscreen.services.passwords import Passwords
from infoscreen.services.ports import LinkState
from infoscreen.services.power.cycles import PowerCycles, PowerPolicy
from infoscreen.services.power.outlets import Outlets
from infoscreen.services.power.permission import CycleLimits
from infoscreen.services.quota import Limit, QuotaPolicy, Quotas
from infoscreen.services.recovery.loop import Recovering
from infoscreen.services.recovery.pauses import Pausing
from infoscreen.services.releasing import Releasing
from infoscreen.services.resealing import Resealing
from infoscreen.services.schedules import Schedules
from infoscreen.services.second_factors import SecondFactors
from infoscreen.services.secrets import Secrets
from infoscreen.services.sites import Sites
from infoscreen.services.watching import Watch, WatchPolicy
from infoscreen.settings import Settings
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from infoscreen.storage.trouble import naming_trouble
from infoscreen.supervision import Reloading, Supervision, run_until
from infoscreen.web.application import create_app, create_runner
from infoscreen.web.https import Https
from infoscreen.web.keys import Parts, WebConfig
from infoscreen.web.live import LiveFeed
from infoscreen.wire.topics import BULK_FILTERS, COMMAND_FILTERS, STATE_FILTERS

log = logging.getLogger(__name__)

COLLECT_AFTER = (2_000, 20, 100)
"""When the garbage collector runs, as ``gc.set_threshold`` takes it.

Most of what a message leaves behind is freed without it.
"""

BULK_LIMITS = BatchLimits(messages=500, size=4 * 2**20, seconds=0.25, fewest=20)
"""Small batches: those of heartbeats wait for them, as a database has one writer at a time."""


STOP_SECONDS = 4.8
"""How long a stop may take at most; its parts are bounded so that it takes less."""

LOOK_AGAIN_SECONDS, LOOK_SECONDS = 1.0, 4.0
"""How often a start looks for a database that is not there yet, and how long an answer may take."""

MORE_TIME = "EXTEND_TIMEOUT_USEC=60000000"
"""What a start that waits asks systemd for at each look."""


async def serve(settings: Settings, load: Callable[[], Settings] | None = None) -> None:
    """Run the daemon until SIGTERM or SIGINT; on SIGHUP call ``load`` for changed settings.

    Raises:
        DatabaseNotReady: the database must be migrated first.
        CannotStart: something else that is needed is missing, in words for a sysadmin.
    """
    clock, metrics, bus, wake = SystemClock(), Metrics(), Bus(), asyncio.Event()
    address = broker_address(settings)
    stale = stale_policy(settings)
    timeouts = Timeouts(
        restart_app=seconds(settings.restart_app_timeout_seconds),
        reboot_host=seconds(settings.reboot_timeout_seconds),
        shutdown_host=seconds(settings.shutdown_timeout_seconds),
        power_cycle=seconds(settings.power_cycle_timeout_seconds),
    )
    lockout = lockout_policy(settings)
    limits = CycleLimits(settings.power_cycles_per_day, seconds(settings.boot_grace_seconds))
    expiry, pace = seconds(settings.command_expiry_seconds), settings.bulk_per_second
    commands = CommandPolicy(expiry, timeouts, lockout, limits)
    recovery = recovery_policy(settings)
    watched = WatchPolicy(
        stale,
        timeouts,
        poll=seconds(settings.crash_recovery_poll_seconds),
        retention=timedelta(days=settings.retention_days),
    )

    https = installation.https_of(settings)

    async def renew_certificates(fresh: Settings) -> None:
        if https is not None and fresh.http_tls_certfile is not None and fresh.http_tls_keyfile is not None:
            await https.renew(fresh.http_tls_certfile, fresh.http_tls_keyfile)
        certificates.wake()

    reloading = Reloading(settings, load or (lambda: settings), clock, [renew_certificates])
    store = Store(settings.database_url)

    def show_broker() -> None:
        bus.publish(BrokerChanged(listener.state.connected))
        repair.wake()

    ingest_policy = IngestPolicy(stale, timeouts, settings.auto_register_clients)
    logs = Limit(settings.log_lines_per_minute, settings.log_bytes_per_minute)
    quotas = Quotas(QuotaPolicy(logs=logs), clock)

    def link() -> LinkState:
        return listener.state

    ingest = Ingest(store, clock, bus, ingest_policy, metrics, link, quotas, writer=address.client_id)
    # Logs and screenshots have a session, a budget and batches of their own, so that a device which sends too
    # much of them delays no heartbeat and pushes no ack out of the broker's queue.
    bulk_address = replace(address, client_id=f"{address.client_id}-bulk")
    bulk_ingest = Ingest(
        store, clock, bus, ingest_policy, metrics, link, quotas, writer=bulk_address.client_id
    )
    dropped = Dropped(clock)
    own_ids = OwnIds(address, probe_address(settings))
    monitor = BrokerMonitor(
        address,
        clock,
        probe=probe_address(settings),
        alarm_from=settings.mqtt_auth_failures_alarm,
        admission=own_ids.admit,
        on_change=show_broker,
        on_failure=metrics.auth_failure,
    )
    bulk_listener = Listener(
        bulk_address,
        clock,
        bulk_ingest.handle,
        BULK_FILTERS,
        role="bulk listener",
        admission=own_ids.admit,
        limits=replace(BULK_LIMITS, waiting_bytes=settings.mqtt_buffer_bytes // 2),
    )

    def on_state(state: LinkState) -> None:
        certificates.wake()
        bus.publish(BrokerChanged(state.connected))

    listener = Listener(
        address,
        clock,
        ingest.handle,
        STATE_FILTERS,
        limits=BatchLimits(waiting_bytes=settings.mqtt_buffer_bytes // 2),
        on_state=on_state,
        moved=BULK_FILTERS,
        moved_to=bulk_listener,
        dropped=dropped,
        health=monitor.health,
        admission=own_ids.admit,
    )
    helper = HelperClient(settings.broker_helper_socket)
    repair = BrokerRepair(store, clock, helper, lambda: monitor.health().acl_open_since)
    code_lifetime = seconds(settings.enrolment_code_seconds) if settings.enrolment_codes_enabled else None
    metrics.watch_broker(lambda: monitor.health().acl, lambda: listener.state.taken_over_at is not None)
    metrics.watch_listener("state", lambda: listener.held_bytes, lambda: listener.paused)
    metrics.watch_listener("bulk", lambda: bulk_listener.held_bytes, lambda: bulk_listener.paused)
    metrics.watch_dropped(lambda: dropped.total)
    publisher = BrokerPublisher(
        address,
        clock,
        watched=COMMAND_FILTERS,
        on_retained_command=_warn_of_retained_command,
        on_connected=wake.set,
        dropped=dropped,
        admission=own_ids.admit,
    )
    outbox = Outbox(
        store, clock, bus, publisher, listener, metrics, wake, alias=settings.mqtt_command_alias_enabled
    )
    progress = Progress(clock, step_seconds(sd_notify.watchdog_seconds()))
    schedules = Schedules(store, clock, Hours(host_zone()), hours_policy(settings))
    watch = Watch(store, clock, bus, listener, watched, metrics, schedules)
    kept = Kept(watched.retention, timedelta(days=settings.availability_retention_days))
    availability = Availability(store, clock, listener, schedules, kept)
    certificates = CertificateWatch(
        installation.certificates(settings, address),
        clock,
        on_change=show_broker,
    )
    metrics.watch_certificates(lambda: certificates.lifetimes)
    key = settings.secrets_key
    secrets = Secrets(() if key is None else keys_in(key.get_secret_value()))
    outlets = Outlets(store, clock, bus, secrets, open_outlet)
    power_policy = PowerPolicy(timeouts, limits, seconds(settings.power_cycle_stagger_seconds))
    cycles = PowerCycles(store, clock, bus, outlets, open_outlet, metrics, power_policy)
    metrics.watch_outlets(lambda: len(cycles.left_off()))
    standing = list(installation.alerts(settings))
    alerts: tuple[AlertSource, ...] = (
        cycles.alerts,
        lambda: standing,
        certificates.alerts,
        lambda: broker_alerts.alerts(listener.state),
        lambda: notifications.alerts(),
    )
    monitoring = Monitoring(store, clock, listener, ingest, bulk_ingest, alerts=alerts)
    live = LiveFeed(store, bus, listener, clock)
    commanding = Commanding(store, clock, bus, commands, metrics, wake)
    bulk = Bulk(store, clock, commanding, expiry=expiry, per_second=pace)
    releasing = Releasing(store, clock, commanding, bulk, publisher, expiry=expiry, per_second=pace)
    started = SteadySince(clock)
    started.begin()

    def observer() -> Observer:
        # Losing either connection counts as blind: without sending, nothing may be decided.
        return Observer(
            listening_since=listener.state.listening_since if publisher.connected else None,
            started_at=started.since or clock.now(),
            ingest_lag=seconds(ingest.lag_seconds),
            loop_lag=seconds(monitoring.worst_loop_lag_seconds),
        )

    passwords = Passwords()
    factors = SecondFactors(store, clock, secrets, bus, settings.totp_required_roles)
    recovering = Recovering(
        store, clock, bus, commanding, metrics, recovery, lockout, observer, cycles_per_day=limits.per_day
    )
    notifications = Notifications(settings, store, clock, monitoring, secrets)
    app = create_app(
        Parts(
            store=store,
            clock=clock,
            accounts=Accounts(store, clock, passwords, bus, factors),
            commanding=commanding,
            bulk=bulk,
            sites=Sites(store, clock, bus, schedules),
            fleet=Fleet(store, clock, bus, listener, wake, schedules),
            outlets=outlets,
            pausing=Pausing(store, clock, bus),
            single_sign_on=installation.single_sign_on(settings, store, clock, bus),
            enrolling=Enrolling(store, clock, helper, code_lifetime),
            recovering=recovering,
            notifying=notifications.managing,
            links=AcknowledgeLinks(store, clock, bus, secrets),
            monitoring=monitoring,
            bus=bus,
            live=live,
            link=listener,
            metrics=metrics,
            config=_web_config(settings),
        )
    )

    supervision = Supervision(progress, monitoring, clock)
    parts = {
        "mqtt listener": listener.run,
        "mqtt bulk listener": bulk_listener.run,
        "mqtt publisher": publisher.run,
        "mqtt monitor": monitor.run,
        "broker repair": repair.run,
        "outbox": outbox.run,
        "power cycles": cycles.run,
        "releasing": releasing.run,
        "watch": watch.run,
        "expiry sweeper": watch.run_sweep,
        "retention": watch.run_tidy,
        "observation": availability.run_observing,
        "availability": availability.run,
        "recovery": recovering.run,
        "live feed": live.run,
        "loop monitor": monitoring.run,
        "watchdog": supervision.run_watchdog,
        "status": supervision.run_status,
        "reload": reloading.run,
        "certificates": certificates.run,
        "resealing": Resealing(store, clock, secrets).run,
        **notifications.parts,
    }
    runner = create_runner(app)
    try:
        with _stop_signal(reloading.asked) as stopped:
            trouble = await _look(store)
            await _bind(runner, settings, https)
            if trouble is None or await _database_seen(store, stopped, trouble):
                freeze_startup_objects()
                sd_notify.notify("READY=1")
                await run_until(stopped, parts, progress, last_words=lambda: _stop_serving(bus, runner))
    finally:
        sd_notify.notify("STOPPING=1")
        await _stop_serving(bus, runner)
        passwords.close()
        await store.close()
        log.info("stopped", extra={"event": "stopped"})


async def _look(store: Store) -> StoreUnavailable | None:
    """Let transactions begin if the database is there and fit; return why it cannot be used yet.

    Raises ``DatabaseNotReady`` for what waiting does not mend.
    """
    try:
        with naming_trouble():
            async with asyncio.timeout(LOOK_SECONDS):
                await schema.check(store)
    except StoreUnavailable as trouble:
        store.close_until_seen(trouble)
        return trouble
    store.open()
    return None


async def _database_seen(store: Store, stopped: asyncio.Event, trouble: StoreUnavailable | None) -> bool:
    """Wait until the database can be used; return False when told to stop first.

    Requests are answered meanwhile, with 503 and the reason.
    """
    log.warning(
        "the database is not there yet; waiting for it",
        extra={"event": "store_awaited", "trouble": trouble and trouble.trouble, "error": str(trouble)},
    )
    while trouble is not None:
        sd_notify.notify(f"STATUS=waiting for the database: {trouble}", MORE_TIME)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                await stopped.wait()
        looking, stopping = asyncio.create_task(_look(store)), asyncio.create_task(stopped.wait())
        await asyncio.wait((looking, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stopped.is_set():
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            return False
        trouble = looking.result()
    log.warning("the database is there", extra={"event": "store_seen"})
    return True


def freeze_startup_objects() -> None:
    """Freeze all objects so that the garbage collector skips them, and let it run less often.

    They live as long as the process. Python's default, to walk through the libraries and a flood's messages
    again and again, holds up everything else for 50 to 130 ms at a time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


async def _bind(runner: web.AppRunner, settings: Settings, https: Https | None) -> None:
    await runner.setup()
    where = f"{settings.http_host}:{settings.http_port}"
    try:
        tls = None if https is None else https.context
        await web.TCPSite(runner, settings.http_host, settings.http_port, ssl_context=tls).start()
    except OSError as error:
        raise CannotStart(
            f"Cannot listen on {where}: {error.strerror or error}. "
            "Set HTTP_HOST and HTTP_PORT, or stop what uses it."
        ) from None
    log.info("serving", extra={"event": "serving", "address": where, "version": __version__})


async def _stop_serving(bus: Bus, runner: web.AppRunner) -> None:
    """End the event streams first, which would hold up everything else, then let HTTP drain; safe twice."""
    bus.close()
    await runner.cleanup()


def _end() -> None:
    """End the process although something still holds it up: what was acknowledged is stored anyway."""
    log.error("the stop took too long and was cut off", extra={"event": "stop_cut_off"})
    logging.shutdown()
    os._exit(1)


@contextlib.contextmanager
def _stop_signal(reload: asyncio.Event) -> Iterator[asyncio.Event]:
    """Turn SIGTERM and SIGINT into an event, and SIGHUP into ``reload``."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        if not stopped.is_set():
            last_resort = threading.Timer(STOP_SECONDS, _end)
            last_resort.daemon = True
            last_resort.start()
        stopped.set()

    loop.add_signal_handler(signal.SIGHUP, reload.set)
    for one in signals:
        loop.add_signal_handler(one, stop)
    try:
        yield stopped
    finally:
        for one in signals:
            loop.remove_signal_handler(one)


def _web_config(settings: Settings) -> WebConfig:
    token = settings.metrics_token
    return WebConfig(
        public_origin=settings.public_origin,
        trusted_proxies=settings.trusted_proxies,
        metrics_token=token.get_secret_value() if token else None,
        time_zone=host_zone(),
    )


def _warn_of_retained_command(topic: str) -> None:
    log.warning(
        "a retained command lies at the broker; devices ignore it, but somebody put it there",
        extra={"event": "retained_command", "topic": topic},
    )
