"""Two devices under one identity, such as a cloned card: recognised by a boot or a MAC that comes back.

A device that reboots never returns to its old boot, so one that does is another device. Two things look
alike and are not: messages that the device itself had kept until after its reboot, and messages that the
broker delivers once more. Both repeat old times of the same device, so they are told by how late they are,
compared with what this very boot said before; clocks of different devices are never compared.

A hardware address that comes back is weaker: a device may have two network interfaces. It counts by itself
only while heartbeats say nothing of boots, and else makes one boot that comes back enough.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from infoscreen.domain.clients import (
    Client,
    IdentityEvidence,
    IdentityUser,
    PastDuplicate,
    SeenMac,
    Speaker,
)
from infoscreen.domain.history import UNKNOWN
from infoscreen.domain.verification import moved

MOST_SPEAKERS = 4
"""So many boots are remembered besides the present one."""

MOST_MACS = 4
"""So many hardware addresses are remembered."""

LATE_SECONDS = 15.0
"""Who is later than that, by its own clock, than it was before has kept the message for a while."""

FRESH, LATE = 6, 1
ENOUGH = 2 * FRESH
"""Returns are weighed: two that cannot be late messages are enough, of others it takes twelve."""

LATE_COUNTS_AFTER = timedelta(seconds=60)
"""Late messages come in bursts, and a burst counts once."""

HOLD = timedelta(minutes=10)
"""While nothing returns for so long, only one device speaks."""


class Heard(Enum):
    """What a heartbeat is, by its speaker."""

    SAME = "same"
    NEW = "new"
    RETURNED = "returned"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Turn:
    """The client after a heartbeat's speaker was recognised; its other fields are still to be taken in."""

    client: Client
    heard: Heard
    rebooted: bool = False


def present(client: Client) -> Speaker | None:
    """Return who spoke last under the client's identity."""
    if client.last_alive is None or client.last_device_time is None:
        return None
    return Speaker(
        boot_id=client.boot_id,
        booted_at=client.booted_at,
        hostname=client.hostname,
        ip=client.ip,
        device_time=client.last_device_time,
        skew=_promptest(client.clock_skew_seconds, client.best_skew_seconds),
        heard_at=client.last_alive,
    )


def _promptest(*skews: float | None) -> float | None:
    return max((one for one in skews if one is not None), default=None)


def turned(client: Client, speaker: Speaker, interval_seconds: float | None) -> Turn:
    """Recognise who speaks."""
    before, now = present(client), speaker.heard_at
    hold = _hold(interval_seconds)
    if before is None or _is_same(before, speaker):
        best = _promptest(client.best_skew_seconds, speaker.skew)
        return Turn(replace(_cleared(client, now, hold), best_skew_seconds=best), Heard.SAME)
    known = next((one for one in client.speakers if _is_same(one, speaker)), None)
    if known is None:
        others = [before, *client.speakers][:MOST_SPEAKERS]
        changed = replace(client, speakers=others, best_skew_seconds=speaker.skew)
        return Turn(changed, Heard.NEW, _rebooted(before, speaker))
    fresh = _is_fresh(known, speaker)
    weight = LATE if not fresh else ENOUGH if _another_mac_since(client, known.heard_at) else FRESH
    client = _counted(client, weight, now=now, hold=hold)
    if not fresh and client.duplicate_since is None:
        return Turn(client, Heard.LATE)
    others = [before, *(one for one in client.speakers if one is not known)][:MOST_SPEAKERS]
    best = _promptest(known.skew, speaker.skew)
    return Turn(replace(client, speakers=others, best_skew_seconds=best), Heard.RETURNED)


def discovered(
    client: Client, mac: str | None, hostname: str | None, ip: str | None, now: datetime
) -> Client:
    """Return the client after its device has announced a hardware address."""
    mac = _plain(mac)
    if mac is None:
        return client
    evidence = client.identity or IdentityEvidence()
    macs = evidence.macs
    if not macs:
        before = _plain(client.mac)
        if before is None or before == mac:
            return client
        first = client.last_heard_at or client.created_at
        macs = [_seen(before, client.hostname, client.ip, first, first)]
    others = [one for one in macs if one.mac != mac]
    returned = len(others) < len(macs) and macs[0].mac != mac
    since = macs[0].since if macs[0].mac == mac else now
    macs = [_seen(mac, hostname, ip, since, now), *others][:MOST_MACS]
    client = replace(client, identity=replace(evidence, macs=macs))
    if returned and client.boot_id is None and client.booted_at is None:
        return _counted(client, FRESH, now=now, hold=_hold(client.heartbeat_interval_seconds))
    return client


_SEPARATORS, _DIGITS = str.maketrans("", "", ":.-"), frozenset("0123456789abcdef")


def _plain(mac: str | None) -> str | None:
    """Return a hardware address in one spelling; None for what is none."""
    digits = (mac or "").lower().translate(_SEPARATORS)
    if len(digits) != 12 or not set(digits) <= _DIGITS or digits == "0" * 12:
        return None
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _seen(mac: str, hostname: str | None, ip: str | None, since: datetime, heard_at: datetime) -> SeenMac:
    return SeenMac(mac=mac, hostname=hostname, ip=ip, since=since, heard_at=heard_at)


def _another_mac_since(client: Client, at: datetime) -> bool:
    return (
        client.identity is not None and len(client.identity.macs) > 1 and client.identity.macs[0].since >= at
    )


def _hold(interval_seconds: float | None) -> timedelta:
    return max(HOLD, timedelta(seconds=5 * (interval_seconds or 0)))


def devices_of(client: Client) -> list[IdentityUser]:
    """Return the devices that use the identity, the one heard last first; none while it is one."""
    if client.duplicate_since is None:
        return []
    last, begin = present(client), client.duplicate_since - _hold(client.heartbeat_interval_seconds)
    speakers = [] if last is None else [last, *(one for one in client.speakers if one.heard_at >= begin)]
    macs = [one for one in (client.identity or IdentityEvidence()).macs if one.heard_at >= begin]
    if len(speakers) < 2 <= len(macs):
        return [
            IdentityUser(hostname=one.hostname, ip=one.ip, boot_id=None, mac=one.mac, heard_at=one.heard_at)
            for one in macs
        ]
    by_ip = {one.ip: one.mac for one in reversed(macs) if one.ip is not None}
    return [
        IdentityUser(
            hostname=one.hostname,
            ip=one.ip,
            boot_id=one.boot_id,
            mac=None if one.ip is None else by_ip.get(one.ip),
            heard_at=one.heard_at,
        )
        for one in speakers
    ]


def device_name(device: IdentityUser) -> str:
    """Return what tells a device from the others with its identity."""
    known = [part for part in (device.hostname, device.ip, device.mac) if part]
    return " ".join(known) or device.boot_id or UNKNOWN


def _is_same(one: Speaker, other: Speaker) -> bool:
    if one.boot_id is not None and other.boot_id is not None:
        return one.boot_id == other.boot_id
    booted = one.booted_at is not None and other.booted_at is not None
    if booted and _booted_anew(one, other):
        return False
    if _differ(one.hostname, other.hostname):
        return False
    # A device may well have two addresses.
    return booted or not _differ(one.ip, other.ip)


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _booted_anew(one: Speaker, other: Speaker) -> bool:
    if one.booted_at is None or other.booted_at is None:
        return False
    return moved(one.booted_at, one.skew, other.booted_at, other.skew)


def _rebooted(before: Speaker, after: Speaker) -> bool:
    if before.boot_id is not None and after.boot_id is not None:
        return before.boot_id != after.boot_id
    return _booted_anew(before, after)


def _is_fresh(known: Speaker, again: Speaker) -> bool:
    """Tell whether a boot that returns has said this just now, and not before it ended."""
    if again.device_time <= known.device_time or known.heard_at == again.heard_at:
        # All of one batch may have waited together, and how long cannot be told.
        return False
    if known.skew is None or again.skew is None:
        return True
    return known.skew - again.skew <= LATE_SECONDS


def _counted(client: Client, weight: int, *, now: datetime, hold: timedelta) -> Client:
    seen = client.duplicate_seen_at
    score = client.duplicate_score
    if client.duplicate_since is None and seen is not None and now - seen > hold:
        score = 0
    if weight == LATE and seen is not None and timedelta() <= now - seen < LATE_COUNTS_AFTER:
        return client
    score = min(ENOUGH, score + weight)
    since = client.duplicate_since or (now if score >= ENOUGH else None)
    return replace(client, duplicate_score=score, duplicate_seen_at=now, duplicate_since=since)


def _cleared(client: Client, now: datetime, hold: timedelta) -> Client:
    """Return the client without its duplicate once only one has spoken for a while."""
    seen = client.duplicate_seen_at
    if client.duplicate_since is None or seen is None or now - seen <= hold:
        return client
    past = PastDuplicate(since=client.duplicate_since, until=seen, devices=devices_of(client))
    return replace(
        client,
        duplicate_since=None,
        duplicate_seen_at=None,
        duplicate_score=0,
        speakers=[],
        identity=replace(client.identity or IdentityEvidence(), last_duplicate=past),
    )
