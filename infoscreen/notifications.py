"""Builds the parts of notifications from the settings."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from infoscreen.clock import Clock
from infoscreen.notify.deadman import DeadMan
from infoscreen.notify.process import ProcessSender
from infoscreen.services.monitoring import Monitoring
from infoscreen.services.notify.channels import Notifying
from infoscreen.services.notify.delivery import Delivery
from infoscreen.services.notify.sources import OldBackup, Sources
from infoscreen.services.notify.telling import Telling
from infoscreen.services.secrets import Secrets
from infoscreen.settings import Settings
from infoscreen.storage import address, backups
from infoscreen.storage.engine import Store

OLD_AFTER = timedelta(days=2)


def old_backup(settings: Settings, now: datetime) -> OldBackup | None:
    """Tell whether the newest backup that the timer of an installation has made is older than two days."""
    file = address.parse(settings.database_url).file
    if file is None:
        return None
    place = file.parent / "backups"
    try:
        found = backups.backups_in(place)
        if not found:
            # A directory without any backup is one that the timer has not used yet.
            return None
        newest = datetime.fromtimestamp(found[0].stat().st_mtime, UTC)
    except OSError:
        # Pruned meanwhile, or not for us to read: nothing is known.
        return None
    return OldBackup(newest_at=newest) if now - newest > OLD_AFTER else None


class Notifications:
    """The parts of notifications: ``managing`` is for the API, ``parts`` run with the daemon."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, monitoring: Monitoring, secrets: Secrets
    ) -> None:
        wake = asyncio.Event()
        sender = ProcessSender(clock, settings.public_origin, allow_private=settings.notify_allow_private)
        delivery = Delivery(store, clock, sender, secrets, wake)
        sources = Sources(store, clock, monitoring.alerts, lambda: old_backup(settings, clock.now()))
        telling = Telling(store, clock, sources)
        self.alerts = telling.alerts
        self.managing = Notifying(store, clock, sender, secrets, delivery, wake)
        self.parts: dict[str, Callable[[], Awaitable[None]]] = {
            "notifications": telling.run,
            "notification outbox": delivery.run,
        }
        if settings.healthcheck_url is not None:

            async def is_well() -> bool:
                return (await monitoring.readiness()).ready

            dead_man = DeadMan(settings.healthcheck_url.get_secret_value(), clock, is_well)
            self.parts["sign of life"] = dead_man.run
