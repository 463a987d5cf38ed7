"""What the daemon knows of one client: the facts of its row, kept by the domain's own rules of presence."""

from datetime import datetime, timedelta

from infoscreen.domain.clients import Client, Condition, Presence, ProcessStatus
from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.presence import Beat, Rhythm, StalePolicy, beaten, condition_of
from infoscreen.domain.recovery import Attempt, Ladder
from infoscreen.simulator.virtual.timeline import START

CREATED = START - timedelta(days=30)


class Known:
    """One client's row, its command and its attempts; survives a restart of the daemon as a database does."""

    __slots__ = (
        "_client",
        "app_started_at",
        "attempts",
        "boot_id",
        "command",
        "heartbeats_in_a_row",
        "heartbeats_since_watched",
        "ladder",
        "last_alive",
        "last_device_time",
        "persistent",
        "presence",
        "process_status",
        "published",
        "rhythm",
        "service_failed_at",
        "site",
        "stale_after",
        "stale_check_planned",
        "status",
        "status_since",
        "uuid",
        "well_until",
    )

    def __init__(
        self, uuid: str, site: str | None, persistent: bool, rhythm: Rhythm, policy: StalePolicy
    ) -> None:
        self.uuid = uuid
        self.site = site
        self.persistent = persistent
        self.rhythm = rhythm
        self.stale_after = rhythm.threshold_seconds(policy)
        self.status = Condition.ONLINE
        self.status_since = CREATED
        self.last_alive = CREATED
        self.last_device_time = CREATED
        self.boot_id = "0"
        self.presence: Presence | None = Presence.ONLINE
        self.process_status = ProcessStatus.RUNNING
        self.app_started_at: datetime | None = CREATED
        self.service_failed_at: datetime | None = None
        self.well_until: datetime | None = None
        self.heartbeats_in_a_row = 1_000
        self.heartbeats_since_watched = 0
        self.ladder: Ladder | None = None
        self.attempts: list[Attempt] = []
        self.published: list[datetime] = []
        self.command: ClientCommand | None = None
        self.stale_check_planned = False
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """Return the row as the domain wants it."""
        if self._client is None:
            self._client = self._row()
        return self._client

    def _row(self) -> Client:
        return Client(
            uuid=self.uuid,
            created_at=CREATED,
            site=self.site,
            status=self.status,
            status_since=self.status_since,
            last_heard_at=self.last_alive,
            last_alive=self.last_alive,
            last_device_time=self.last_device_time,
            heartbeats=self.rhythm.beats,
            heartbeat_interval_seconds=self.rhythm.interval,
            heartbeat_deviation_seconds=self.rhythm.deviation,
            stale_after_seconds=self.stale_after,
            stale_at=self.last_alive + timedelta(seconds=self.stale_after),
            process_status=self.process_status,
            app_started_at=self.app_started_at,
            boot_id=self.boot_id,
            presence=self.presence,
            service_failed_at=self.service_failed_at,
            persistent_session=self.persistent,
        )

    def hear(
        self, process_status: ProcessStatus, app_started_at: datetime | None, boot_id: str | None
    ) -> bool:
        """Take in what a heartbeat says besides times; tell whether any of it is new."""
        said = (process_status, app_started_at)
        new = said != (self.process_status, self.app_started_at) or boot_id != self.boot_id
        self.process_status, self.app_started_at = said
        return new

    def see(self, presence: Presence) -> None:
        """Take in what the broker says of the connection."""
        self.presence, self._client = presence, None

    def fail(self, failed_at: datetime | None) -> None:
        """Take in that a service failed, or that the failure was acknowledged."""
        self.service_failed_at, self._client = failed_at, None

    def resume(self, last_alive: datetime, last_device_time: datetime) -> None:
        """Take in when a client that was quiet until now was last heard."""
        self.last_alive, self.last_device_time, self._client = last_alive, last_device_time, None
        self.heartbeats_since_watched = 0

    def beat(self, now: datetime, beat: Beat, since: datetime | None, policy: StalePolicy) -> None:
        """Take in the times of heartbeats."""
        self.rhythm = beaten(
            self.rhythm, self.last_alive, self.last_device_time, self.boot_id, beat, since, policy
        )
        self.boot_id = beat.boot_id or self.boot_id
        self.stale_after = self.rhythm.threshold_seconds(policy)
        self._client = None
        self.last_alive = now
        self.last_device_time = beat.device_time
        self.heartbeats_in_a_row += beat.beats
        self.heartbeats_since_watched += beat.beats

    def settle(self, now: datetime, since: datetime | None) -> bool:
        """Draw the conclusion from what is known; tell whether the condition changed."""
        condition = condition_of(self.client, now, since)
        if condition is self.status:
            return False
        if self.status is Condition.ONLINE:
            self.well_until = now
        self.status, self.status_since, self._client = condition, now, None
        self.heartbeats_in_a_row = 1
        return True
