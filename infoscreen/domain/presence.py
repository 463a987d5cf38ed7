"""Is a client well? Learned heartbeat rhythm, staleness and the one condition that is shown.

The daemon's own receipt times decide, never a device's clock. Silence counts only while we listened: every
rule of staleness takes ``listening_since``.
"""

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from infoscreen.domain.clients import STALE, Client, Condition, Presence, ProcessStatus
from infoscreen.domain.hours import is_expected

BEATS_UNTIL_LEARNED = 5
"""Until so many heartbeats are known the threshold is at least the unlearned one (recovery design)."""

MEAN_GAIN = 1 / 8
DEVIATION_GAIN = 1 / 4
"""Weights of the newest gap in the running mean and deviation.

Those of the retransmission timer in RFC 6298.
"""


SILENT = STALE | {Condition.INCOMPREHENSIBLE, Condition.OFF_HOURS}
"""Conditions in which no heartbeat has been understood for too long."""

CLOCK_DOUBT = timedelta(minutes=1)
"""A receipt further in the future is of a clock that was set back since; a nearer one may just be newer."""


LONGEST_SECONDS = 1_800.0
"""A learned threshold has no other upper bound: a client that beats every ten minutes is healthy."""

MOST_INTERVALS = 4
"""A gap teaches at most so many intervals: an outage is no new rhythm, but gaps that stay long are one."""


class StalePolicy(NamedTuple):
    """The bounds of a client's threshold, the silence after which it is stale.

    ``unlearned_seconds`` counts until the client's rhythm is known, ``minimum_seconds`` is the shortest. An
    application that has been starting for ``start_seconds`` counts as crashed; a picture that should move and
    has not for ``frozen_seconds`` is frozen.
    """

    minimum_seconds: float
    unlearned_seconds: float
    start_seconds: float = 600.0
    frozen_seconds: float = 300.0


class Rhythm(NamedTuple):
    """How a client beats; ``interval`` and ``deviation`` in seconds, ``beats`` is how many are known."""

    interval: float | None = None
    deviation: float | None = None
    beats: int = 0

    def learn(self, gap_seconds: float, policy: StalePolicy) -> "Rhythm":
        """Return the rhythm after one more gap, of which no more than ``MOST_INTERVALS`` are believed.

        Intervals shorter than a third of the minimum all have the same threshold, so the limit starts there:
        a device whose first two heartbeats came together would else need long to be believed.
        """
        if self.interval is None or self.deviation is None:
            first = min(gap_seconds, LONGEST_SECONDS)
            return Rhythm(first, first / 2, self.beats)
        most = MOST_INTERVALS * max(self.interval, policy.minimum_seconds / 3)
        gap = min(gap_seconds, most, LONGEST_SECONDS)
        deviation = self.deviation + DEVIATION_GAIN * (abs(gap - self.interval) - self.deviation)
        return Rhythm(self.interval + MEAN_GAIN * (gap - self.interval), deviation, self.beats)

    def threshold_seconds(self, policy: StalePolicy) -> float:
        """Return the silence after which this client is stale."""
        if self.interval is None or self.deviation is None:
            return policy.unlearned_seconds
        learned = max(policy.minimum_seconds, 3 * self.interval + 2 * self.deviation)
        if self.beats < BEATS_UNTIL_LEARNED:
            learned = max(learned, policy.unlearned_seconds)
        return min(learned, LONGEST_SECONDS)


class Beat(NamedTuple):
    """``beats`` heartbeats of one client received at once; ``device_time`` is the newest one's own time."""

    received_at: datetime
    device_time: datetime
    boot_id: str | None
    beats: int = 1


def beaten(
    rhythm: Rhythm,
    last_received: datetime | None,
    last_device_time: datetime | None,
    last_boot_id: str | None,
    beat: Beat,
    listening_since: datetime | None,
    policy: StalePolicy,
) -> Rhythm:
    """Return the rhythm after ``beat``.

    Gaps across a reboot and across a time in which we did not listen teach nothing. Heartbeats that waited
    somewhere and arrive in a burst would teach a rhythm of milliseconds: a gap that is short for us counts
    as long as the device's own times say, though never longer than the interval known so far, because a
    device's clock may be anything.
    """
    counted = Rhythm(rhythm.interval, rhythm.deviation, rhythm.beats + beat.beats)
    if last_received is None or listening_since is None or last_received < listening_since:
        return counted
    if beat.boot_id is not None and last_boot_id is not None and beat.boot_id != last_boot_id:
        return counted
    gap = (beat.received_at - last_received).total_seconds()
    if last_device_time is not None:
        usual = policy.unlearned_seconds / 3 if rhythm.interval is None else rhythm.interval
        gap = max(gap, min(usual, (beat.device_time - last_device_time).total_seconds()))
    return counted.learn(gap, policy) if gap > 0 else counted


DRAINED_AFTER = timedelta(seconds=60)
"""So long after we began to listen, messages may still be those that waited at the broker meanwhile."""

PROMPT = timedelta(seconds=15)
"""A message that seems to be no older has just been said."""


class Backlog(NamedTuple):
    """What the broker kept while we did not listen, and has delivered since.

    ``began`` is when the subscriptions were in place, by the clock of that time; ``age`` is how long ago that
    is, however the clock was set since. ``set_by`` is by how far: last, and in all; empty if it was not.
    """

    began: datetime
    age: timedelta
    set_by: tuple[timedelta, ...] = ()


def alive_at(
    last_alive: datetime | None,
    last_device_time: datetime | None,
    device_time: datetime,
    now: datetime,
    backlog: Backlog | None,
) -> datetime:
    """Return when a heartbeat that is received ``now`` was said, as far as that can be told.

    While we do not listen, the broker keeps messages, and delivers them all at once afterwards. The first
    heartbeats after such a time are therefore dated by how much the device's own clock went on since the last
    one that we had heard, and never later than now nor earlier than that one. It is shown, and ends no
    silence; staleness goes by receipts all the same.

    If the host's clock was set meanwhile, nobody knows on which of the scales the last receipt is. The one is
    taken by which the message has waited least.
    """
    if last_alive is None or last_device_time is None or backlog is None:
        return now
    if backlog.age > DRAINED_AFTER or last_alive >= backlog.began:
        return now
    told = max(timedelta(), device_time - last_device_time)
    passed = [now - last_alive - by for by in (timedelta(), *backlog.set_by)]
    waited = min((one - told for one in passed if one - told >= -PROMPT), default=timedelta())
    return now if waited <= PROMPT else now - waited


class Listened(Protocol):
    """As much of a client as staleness goes by."""

    @property
    def last_alive(self) -> datetime | None:
        """When it was last alive."""

    @property
    def stale_at(self) -> datetime | None:
        """When its silence gets too long, by receipts."""

    @property
    def stale_after_seconds(self) -> float | None:
        """Its threshold."""


def stale_from(client: Listened, listening_since: datetime | None) -> datetime | None:
    """Return when the client becomes, or became, stale; None while that cannot be told.

    Never before we have listened for a whole threshold, so that our own absence is not taken for the
    client's.
    """
    return _stale_from(client.stale_at, client.stale_after_seconds, listening_since)


def _stale_from(
    stale_at: datetime | None, threshold_seconds: float | None, listening_since: datetime | None
) -> datetime | None:
    if stale_at is None or threshold_seconds is None or listening_since is None:
        return None
    return max(stale_at, listening_since + timedelta(seconds=threshold_seconds))


def is_stale(client: Listened, now: datetime, listening_since: datetime | None) -> bool:
    """Tell whether the client has been silent for longer than its threshold while we listened.

    A receipt from the future cannot be dated. It tells that nothing was heard since the clock was set back,
    which is when listening started again.
    """
    stale_at = client.stale_at
    if client.last_alive is not None and client.last_alive > now + CLOCK_DOUBT:
        stale_at = listening_since
    since = _stale_from(stale_at, client.stale_after_seconds, listening_since)
    return since is not None and since <= now


def is_alive(client: Client, now: datetime, listening_since: datetime | None) -> bool:
    """Tell whether heartbeats have come and have not stopped.

    While we cannot judge, a client that was silent stays so.
    """
    if client.last_alive is None or client.status in {*SILENT, Condition.SHUT_DOWN}:
        return False
    return not is_stale(client, now, listening_since)


def is_confirmed(client: Client, listening_since: datetime | None) -> bool:
    """Tell whether the client was heard, or its silence noticed, since we listen.

    Else its status is from before.
    """
    if listening_since is None:
        return False
    if client.status in STALE:
        return True
    return client.last_heard_at is not None and client.last_heard_at >= listening_since


def condition_of(
    client: Client, now: datetime, listening_since: datetime | None, *, within_hours: bool = True
) -> Condition:
    """Return the one condition that is shown for the client, the first of all that hold."""
    return conditions_of(client, now, listening_since, within_hours=within_hours)[0]


def conditions_of(
    client: Client, now: datetime, listening_since: datetime | None, *, within_hours: bool = True
) -> tuple[Condition, ...]:
    """Return all conditions of the client, at least one, the one that is shown first.

    A client that we cannot judge (not listening, or not for long enough) keeps being silent if it was; its
    silence is neither forgotten nor invented. Only a heartbeat of this very moment ends it.
    """
    found: list[Condition] = []
    if client.shut_down_at is not None:
        found.append(Condition.SHUT_DOWN)
    if client.maintenance_until is not None and client.maintenance_until > now:
        found.append(Condition.MAINTENANCE)
    if client.duplicate_since is not None:
        found.append(Condition.DUPLICATE)
    if client.service_failed_at is not None:
        found.append(Condition.SERVICE_FAILED)
    if client.last_alive is None:
        found.append(Condition.INCOMPREHENSIBLE if speaks_unread(client, now) else Condition.NEVER_SEEN)
    elif _is_silent(client, now, listening_since):
        found.append(_kind_of_silence(client, now, listening_since))
    else:
        if client.process_status is ProcessStatus.CRASHED or has_not_started(client, now):
            found.append(Condition.CRASHED)
        open_now = within_hours and client.within_hours
        if open_now and client.not_showing_until is not None and client.not_showing_until > now:
            found.append(Condition.NOT_SHOWING)
    return tuple(found) or (Condition.ONLINE,)


def has_not_started(client: Client, now: datetime) -> bool:
    """Tell whether the application has been starting, or stopped, for too long."""
    return client.start_due_at is not None and client.start_due_at <= now


def start_due_at(
    client: Client, told: ProcessStatus | None, now: datetime, policy: StalePolicy, *, rebooted: bool = False
) -> datetime | None:
    """Return until when the application must run after the device has ``told`` how it is; None if it does."""
    status = client.process_status if told is None else told
    if status not in {ProcessStatus.STARTING, ProcessStatus.STOPPED}:
        return None
    if client.start_due_at is not None and not rebooted:
        return client.start_due_at
    return now + timedelta(seconds=policy.start_seconds)


def shown_conditions(
    client: Client, now: datetime, listening_since: datetime | None, *, within_hours: bool = True
) -> tuple[Condition, ...]:
    """Return all conditions with the stored status in front; the watch brings it up to date."""
    others = conditions_of(client, now, listening_since, within_hours=within_hours)
    return (client.status, *(one for one in others if one is not client.status and one not in _WELL))


_WELL = frozenset({Condition.ONLINE, Condition.NEVER_SEEN})


def _is_silent(client: Client, now: datetime, listening_since: datetime | None) -> bool:
    # Not compared with ``status_since``: after a clock was set back, all that is new seems older.
    still = client.status in SILENT and client.last_alive != now
    return still or is_stale(client, now, listening_since)


def _kind_of_silence(client: Client, now: datetime, listening_since: datetime | None) -> Condition:
    if client.status is Condition.INCOMPREHENSIBLE:
        # It stays so until we have listened for long enough to miss it.
        patience = timedelta(seconds=client.stale_after_seconds or 0)
        if listening_since is None or now < listening_since + patience:
            return Condition.INCOMPREHENSIBLE
    if speaks_unread(client, now):
        return Condition.INCOMPREHENSIBLE
    if not is_expected(client, now):
        return Condition.OFF_HOURS
    if client.status is Condition.OFF_HOURS and not is_stale(client, now, listening_since):
        # It was to be heard by now; but it is for us to have listened.
        return Condition.OFF_HOURS
    return Condition.HUNG if client.presence is Presence.ONLINE else Condition.UNREACHABLE


def speaks_unread(client: Client, now: datetime) -> bool:
    """Tell whether a message that could not be read shows that the client is there.

    One from the future is of a clock that was set back since, and cannot be dated.
    """
    if client.refused_at is None or client.refused_until is None:
        return False
    return client.refused_at <= now + CLOCK_DOUBT and now < client.refused_until
