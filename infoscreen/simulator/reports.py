"""What a simulated device says of itself, as messages of the wire contract; and what a broken one says."""

from datetime import datetime
from uuid import UUID, uuid4

from infoscreen.agent.protocol.journal import Linked
from infoscreen.domain.clients import ProcessStatus
from infoscreen.mqtt.device import KEEPALIVE_SECONDS
from infoscreen.simulator.host import APP_PROCESS, SimulatedHost
from infoscreen.simulator.identity import Identity
from infoscreen.wire import topics
from infoscreen.wire.messages import (
    ActualState,
    BrokerConnection,
    CapturedPicture,
    Discovery,
    ExpectedState,
    Health,
    HealthMetrics,
    Heartbeat,
)

LOG_LINES = (
    (topics.LogLevel.INFO, "playlist reloaded"),
    (topics.LogLevel.INFO, "content up to date"),
    (topics.LogLevel.INFO, "clock synchronised"),
    (topics.LogLevel.DEBUG, "prefetched 3 files"),
    (topics.LogLevel.WARN, "media server answered slowly"),
    (topics.LogLevel.WARN, "dropped 4 frames"),
    (topics.LogLevel.ERROR, "could not fetch weather feed, showing the last one"),
)
"""What a device writes now and then."""


def heartbeat(
    identity: Identity, host: SimulatedHost, now: datetime, *, persistent_session: bool
) -> Heartbeat:
    """Return a heartbeat with every optional field that applies."""
    return Heartbeat(
        timestamp=now,
        uuid=UUID(identity.uuid),
        process_status=host.process_status,
        current_process=APP_PROCESS,
        process_pid=host.pid,
        app_started_at=host.app_started_at,
        boot_id=host.boot_id,
        booted_at=host.booted_at,
        ip=identity.ip,
        hostname=identity.hostname,
        software_version=identity.software_version,
        persistent_session=persistent_session,
    )


def health(identity: Identity, host: SimulatedHost, now: datetime, link: Linked) -> Health:
    """Return the health with all of its blocks."""
    readings = host.read()
    media = f"slide-{host.slides_shown % 12:02d}.mp4"
    running = host.process_status is ProcessStatus.RUNNING
    return Health(
        timestamp=now,
        uuid=UUID(identity.uuid),
        expected_state=ExpectedState(
            event_id=1 + host.slides_shown,
            event_type="video",
            media_file=media,
            started_at=host.app_started_at,
        ),
        actual_state=ActualState(
            process=APP_PROCESS, pid=host.pid, status=host.process_status, started_at=host.app_started_at
        ),
        health_metrics=HealthMetrics(
            cpu_percent=readings.cpu_percent,
            memory_percent=readings.memory_percent,
            disk_percent=readings.disk_percent,
            temperature_celsius=readings.temperature_celsius,
            uptime_seconds=None if host.booted_at is None else (now - host.booted_at).total_seconds(),
            screen_on=host.screen_on,
            last_frame_update=(host.frozen_since or now) if running else None,
            undervoltage=readings.undervoltage,
            picture=CapturedPicture(
                captured_at=now,
                luminance=0.0 if host.black or not host.screen_on else 0.4,
                changed_at=host.frozen_since or now,
            ),
        ),
        broker_connection=BrokerConnection(
            broker_reachable=True, reconnect_count=link.reconnects, last_disconnect_at=link.last_disconnect_at
        ),
    )


def discovery(identity: Identity) -> Discovery:
    """Return how the device introduces itself."""
    return Discovery(
        uuid=UUID(identity.uuid),
        hostname=identity.hostname,
        ip=identity.ip,
        mac=identity.mac,
        hardware_model=identity.hardware_model,
        os_release=identity.os_release,
        software_version=identity.software_version,
        agent_version=identity.agent_version,
        capabilities=list(identity.capabilities),
        keepalive_seconds=KEEPALIVE_SECONDS,
    )


def nonsense(uuid: str) -> list[tuple[str, bytes]]:
    """Return topics and payloads that a broken device sends: each one is against the contract."""
    ours, alias = topics.acks(uuid)
    return [
        (topics.heartbeat(uuid), b'{"timestamp": "2026-01-'),
        (topics.heartbeat(uuid), b'{"timestamp": "yesterday", "process_status": "sleepy"}'),
        (topics.health(uuid), f'{{"timestamp": "2026-01-01T00:00:00Z", "uuid": "{uuid4()}"}}'.encode()),
        (topics.logs(uuid, topics.LogLevel.INFO), b"\xff\xfe\x00 not JSON at all"),
        (topics.screenshot(uuid), b"\x89PNG\r\n\x1a\n cut off"),
        (ours, b"[]"),
        (alias, f'{{"command_id": "{uuid4()}", "status": "completed"}}'.encode()),
    ]
