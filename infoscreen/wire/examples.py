"""One full message of each kind, as a good device sends it: for the AsyncAPI document and its tests.

Nothing of the daemon depends on these.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from infoscreen.domain.clients import Presence, ProcessStatus
from infoscreen.domain.commands import AckStatus, Action
from infoscreen.wire.messages import (
    ActualState,
    BrokerConnection,
    CapturedPicture,
    Command,
    CommandAck,
    Discovery,
    ExpectedState,
    Health,
    HealthMetrics,
    Heartbeat,
    LogLine,
    PresenceReport,
    ServiceFailed,
)

DEVICE = UUID("3f2b8c1e-5d04-4a7b-9c55-0d6e1f7a2b90")
COMMAND = UUID("a4c1f0de-8a53-4f2e-b0d7-6f0c2f6f1b11")
NOW = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
BOOTED_AT = NOW - timedelta(hours=9)
APP_STARTED_AT = NOW - timedelta(hours=1)

HEARTBEAT = Heartbeat(
    timestamp=NOW,
    uuid=DEVICE,
    process_status=ProcessStatus.RUNNING,
    current_process="infoscreen-player",
    process_pid=1284,
    app_started_at=APP_STARTED_AT,
    boot_id="5b0c6f3a-2f3e-4a55-8a6c-0f1d0c9b7e21",
    booted_at=BOOTED_AT,
    ip="192.0.2.17",
    hostname="foyer-links",
    software_version="4.2.1",
    persistent_session=True,
)

HEALTH = Health(
    timestamp=NOW,
    uuid=DEVICE,
    expected_state=ExpectedState(
        event_id=812, event_type="video", media_file="opening-hours.mp4", started_at=APP_STARTED_AT
    ),
    actual_state=ActualState(
        process="infoscreen-player", pid=1284, status=ProcessStatus.RUNNING, started_at=APP_STARTED_AT
    ),
    health_metrics=HealthMetrics(
        cpu_percent=17.5,
        memory_percent=41.0,
        disk_percent=36.2,
        temperature_celsius=52.4,
        uptime_seconds=(NOW - BOOTED_AT).total_seconds(),
        screen_on=True,
        last_frame_update=NOW - timedelta(milliseconds=250),
        undervoltage=False,
        picture=CapturedPicture(
            captured_at=NOW - timedelta(seconds=2),
            luminance=0.41,
            changed_at=NOW - timedelta(seconds=2),
        ),
    ),
    broker_connection=BrokerConnection(
        broker_reachable=True, reconnect_count=3, last_disconnect_at=BOOTED_AT + timedelta(hours=2)
    ),
)

SERVICE_FAILED = ServiceFailed(
    unit="infoscreen-app.service",
    failed_at=NOW - timedelta(seconds=2),
    client_uuid=DEVICE,
    result="start-limit-hit",
)

PRESENCE = PresenceReport(presence=Presence.ONLINE)

DISCOVERY = Discovery(
    uuid=DEVICE,
    hostname="foyer-links",
    ip="192.0.2.17",
    mac="02:00:5e:10:00:01",
    hardware_model="Raspberry Pi 4 Model B Rev 1.5",
    os_release="Debian GNU/Linux 12 (bookworm)",
    software_version="4.2.1",
    agent_version="1.0.3",
    capabilities=["restart_app", "reboot_host", "shutdown_host", "screenshot", "cec"],
    keepalive_seconds=30,
)

LOG_LINE = LogLine(
    timestamp=NOW,
    message="could not fetch weather feed, showing the last one",
    logger="player.feeds",
    context={"url_host": "feeds.example", "status": 503},
)

REBOOT = Command(
    command_id=COMMAND,
    client_uuid=DEVICE,
    action=Action.REBOOT_HOST,
    issued_at=NOW,
    expires_at=NOW + timedelta(minutes=4),
    requested_by=7,
    reason="picture frozen",
)

ACCEPTED = CommandAck(command_id=COMMAND, status=AckStatus.ACCEPTED)

EXPIRED = CommandAck(
    command_id=COMMAND,
    status=AckStatus.FAILED,
    error_code="expired",
    error_message="expired at 2026-03-02T07:04:00Z",
)
