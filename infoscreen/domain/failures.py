"""Failed services: when a report is news, what an emptied report withdraws, and what is shown.

Each unit has a failure of its own. A report is retained by the broker, so the same one arrives again after
every reconnect, and our own clearing of it comes back to us as an empty message that looks just like a
device's. The device's stamps are compared by equality alone: its clock may be anything.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from infoscreen.domain.clients import Client, FailedUnit

MOST_KNOWN = 20
"""So many stamps are remembered of a unit; a redelivery repeats one of the last few."""

MOST_UNITS = 50
"""So many units are remembered of a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedService:
    """What is known of one unit's failures.

    ``failed_at`` is the device's stamp of the newest, ``known`` those of the last ones. ``raised_at`` is when
    the newest was news to us, ``reported_at`` when it was last said. ``cleared_at`` is when it was
    acknowledged or withdrawn, None while it is shown; ``acknowledged_by`` is who did, None if nobody or if it
    was done with. ``held`` marks the unit whose report the broker retains: the topic has room for one.
    """

    unit: str
    failed_at: datetime
    result: str | None
    raised_at: datetime
    reported_at: datetime
    cleared_at: datetime | None = None
    held: bool = False
    known: tuple[datetime, ...] = ()
    acknowledged_by: str | None = None


Services = Mapping[str, FailedService]
"""All that are known of one client, by unit."""


def reported(
    services: Services, unit: str, failed_at: datetime, result: str | None, now: datetime
) -> tuple[Services, bool]:
    """Return the services after a report, and whether it is news: not a stamp already known of its unit."""
    before = services.get(unit)
    others = {name: replace(one, held=False) for name, one in services.items() if name != unit}
    if before is not None and failed_at in before.known:
        return others | {unit: replace(before, reported_at=now, held=True)}, False
    after = FailedService(
        unit=unit,
        failed_at=failed_at,
        result=result,
        raised_at=now,
        reported_at=now,
        held=True,
        known=((*before.known, failed_at) if before is not None else (failed_at,))[-MOST_KNOWN:],
    )
    return _bounded(others | {unit: after}), True


def _bounded(services: Services) -> Services:
    """Forget the unit that matters least once there are too many: one that is not shown, or the oldest."""
    if len(services) <= MOST_UNITS:
        return services
    least = min(services.values(), key=lambda one: (one.held, one.cleared_at is None, one.reported_at))
    return {unit: one for unit, one in services.items() if unit != least.unit}


def emptied(services: Services, client: Client, now: datetime) -> tuple[Services, str | None]:
    """Return the services after the retained report was emptied, and the unit that is withdrawn by it.

    An empty message tells nothing but that the topic is empty now, so it can withdraw only what was held
    there. If we have cleared it ourselves, the first one to come is our own echo. A failure that was reported
    between our clearing and the echo was on its way at the same time, and a repeated echo says nothing about
    it. Taking an echo for a device's word would lose an alarm; the other mistake only costs an operator's
    click.
    """
    held = next((one for one in services.values() if one.held), None)
    if held is None:
        return services, None
    cleared, echo = client.service_failed_clear_requested_at, client.service_failed_echo_at
    if cleared is not None and (echo is None or held.reported_at <= echo):
        return services, None
    shown = held.cleared_at is None
    gone = replace(held, held=False, cleared_at=held.cleared_at or now)
    return {**services, held.unit: gone}, held.unit if shown else None


def acknowledged(
    services: Services, units: Collection[str], now: datetime, by: str
) -> tuple[Services, list[str], bool]:
    """Return the services after an operator acknowledged units, which of them were shown, and more.

    The last is whether what the broker holds is among them, and is therefore to be emptied.
    """
    done = [one.unit for one in shown(services) if one.unit in units]
    holds = any(services[unit].held for unit in done)
    after = {unit: replace(services[unit], cleared_at=now, held=False, acknowledged_by=by) for unit in done}
    return {**services, **after}, done, holds


def restored(services: Services, unit: str, by: str, since: datetime) -> Services | None:
    """Return the services when an acknowledgement is taken back; None if it is not theirs, or older.

    The broker may have forgotten the report by then, so nothing is held: that it is gone withdraws nothing.
    """
    one = services.get(unit)
    if one is None or one.cleared_at is None or one.cleared_at < since or one.acknowledged_by != by:
        return None
    return {**services, unit: replace(one, cleared_at=None, acknowledged_by=None)}


def done_with(services: Services) -> Services:
    """Return the services when nobody waits any more for acknowledged ones to be seen running."""
    return {unit: replace(one, acknowledged_by=None) for unit, one in services.items()}


def shown(services: Services) -> list[FailedService]:
    """Return the failures that nobody has acknowledged yet, the newest first."""
    standing = [one for one in services.values() if one.cleared_at is None]
    return sorted(standing, key=lambda one: (one.raised_at, one.unit), reverse=True)


def summed_up(client: Client, services: Services) -> Client:
    """Return the client with its failures as they are shown; ``service_failed_*`` are of the newest."""
    standing = shown(services)
    newest = standing[0] if standing else None
    return replace(
        client,
        failed_services=[FailedUnit(one.unit, one.failed_at, one.result, one.raised_at) for one in standing],
        service_failed_at=None if newest is None else newest.failed_at,
        service_failed_unit=None if newest is None else newest.unit,
        service_failed_result=None if newest is None else newest.result,
        service_failed_raised_at=None if newest is None else newest.raised_at,
    )
