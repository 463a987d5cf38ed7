"""The tables, as they are after the newest migration; a test holds both against each other.

Columns of ``clients`` and ``client_commands`` carry the names of the domain dataclasses' fields, so that a
row becomes one without a mapping in between.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from infoscreen.domain.clients import Condition, Presence, ProcessStatus
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.history import Happening
from infoscreen.domain.hours import ALWAYS, HoursSource
from infoscreen.domain.recovery import Closing, IncidentKind, Outcome, Phase, Reason, Verb
from infoscreen.storage import (  # noqa: F401
    account_tables,
    availability_tables,
    broker_tables,
    bulk_tables,
    notify_tables,
    power_tables,
    recovery_tables,
    site_tables,
)
from infoscreen.storage.columns import (
    BigKey,
    FailedUnits,
    IdentityJson,
    SignsJson,
    SortKey,
    Speakers,
    UtcDateTime,
    Word,
    row_number,
)
from infoscreen.storage.command_tables import RARE as RARE
from infoscreen.storage.command_tables import client_commands as client_commands
from infoscreen.storage.command_tables import command_events as command_events
from infoscreen.storage.counting import counters
from infoscreen.storage.declaring import any_of, client_key, partial_index
from infoscreen.storage.finding import finding
from infoscreen.storage.metadata import metadata as metadata
from infoscreen.storage.recovery_tables import recovery_days as recovery_days
from infoscreen.storage.recovery_tables import recovery_pauses as recovery_pauses
from infoscreen.storage.recovery_tables import recovery_polls as recovery_polls

WATCHED = frozenset({Condition.ONLINE, Condition.CRASHED, Condition.NOT_SHOWING})
"""Conditions that time alone can turn into a stale one."""

UNWELL = f"status NOT IN ('{Condition.ONLINE}', '{Condition.NEVER_SEEN}', '{Condition.OFF_HOURS}')"
ONLINE = f"status = '{Condition.ONLINE}'"
CLOSED_SILENT = f"status IN ('{Condition.HUNG}', '{Condition.UNREACHABLE}') AND NOT within_hours"
SILENT_BY_HOURS = f"status = '{Condition.OFF_HOURS}'"
OPENED_SILENT = f"{SILENT_BY_HOURS} AND within_hours"
INCOMPREHENSIBLE = f"status = '{Condition.INCOMPREHENSIBLE}'"
"""Conditions of partial indexes; a query must say them in the very same words to use the index."""

NOT_SHOWING = f"status = '{Condition.NOT_SHOWING}'"
STARTING = f"{ONLINE} AND start_due_at IS NOT NULL"

clients = Table(
    "clients",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sort_key", SortKey, nullable=False, server_default=""),
    Column("status", Word(Condition), nullable=False, server_default=Condition.NEVER_SEEN.value),
    Column("status_since", UtcDateTime, nullable=False),
    Column("well_until", UtcDateTime),
    Column("heartbeats_at_change", BigKey, nullable=False, server_default="0"),
    Column("name", String(200)),
    Column("hostname", String(500)),
    Column("ip", String(500)),
    Column("mac", String(500)),
    Column("site", String(200)),
    Column("tags", JSON, nullable=False, server_default="[]"),
    Column("description", Text),
    Column("hardware_model", String(500)),
    Column("os_release", String(500)),
    Column("software_version", String(500)),
    Column("agent_version", String(500)),
    Column("capabilities", JSON, nullable=False, server_default="[]"),
    Column("persistent_session", Boolean),
    Column("last_heard_at", UtcDateTime),
    Column("last_alive", UtcDateTime),
    Column("last_device_time", UtcDateTime),
    Column("clock_skew_seconds", Float),
    Column("heartbeats", BigKey, nullable=False, server_default="0"),
    Column("heartbeats_since_boot", BigKey, nullable=False, server_default="0"),
    Column("heartbeat_interval_seconds", Float),
    Column("heartbeat_deviation_seconds", Float),
    Column("stale_after_seconds", Float),
    Column("stale_at", UtcDateTime),
    Column("said", Integer, nullable=False, server_default="0"),
    Column("process_status", Word(ProcessStatus)),
    Column("current_process", String(500)),
    Column("start_due_at", UtcDateTime),
    Column("process_pid", Integer),
    Column("app_started_at", UtcDateTime),
    Column("boot_id", String(500)),
    Column("booted_at", UtcDateTime),
    Column("boot_seen_at", UtcDateTime),
    Column("boot_said_at", UtcDateTime),
    Column("boot_heard_at", UtcDateTime),
    Column("app_said_at", UtcDateTime),
    Column("app_heard_at", UtcDateTime),
    Column("presence", Word(Presence)),
    Column("presence_at", UtcDateTime),
    Column("health", JSON(none_as_null=True)),
    Column("health_at", UtcDateTime),
    Column("signs", SignsJson),
    Column("not_showing_until", UtcDateTime),
    Column("interval_since", UtcDateTime),
    Column("service_failed_at", UtcDateTime),
    Column("service_failed_unit", String(500)),
    Column("service_failed_result", String(500)),
    Column("service_failed_raised_at", UtcDateTime),
    Column("failed_services", FailedUnits, nullable=False, server_default="[]"),
    Column("service_failed_acked_at", UtcDateTime),
    Column("service_failed_clear_requested_at", UtcDateTime),
    Column("service_failed_clear_pending", Boolean, nullable=False, server_default=text("false")),
    Column("service_failed_echo_at", UtcDateTime),
    Column("mqtt_reconnect_count", Integer),
    Column("mqtt_last_disconnect_at", UtcDateTime),
    Column("maintenance_until", UtcDateTime),
    Column("auto_recovery", Boolean, nullable=False, server_default=text("true")),
    Column("shut_down_at", UtcDateTime),
    Column("keepalive_seconds", Integer),
    Column("unread_fields", JSON, nullable=False, server_default="{}"),
    Column("refused_at", UtcDateTime),
    Column("refused_until", UtcDateTime),
    Column("refused_reason", String(40)),
    Column("refused_defect", JSON(none_as_null=True)),
    Column("refused_count", BigInteger, nullable=False, server_default="0"),
    Column("best_skew_seconds", Float),
    Column("speakers", Speakers, nullable=False, server_default="[]"),
    Column("duplicate_score", Integer, nullable=False, server_default="0"),
    Column("duplicate_since", UtcDateTime),
    Column("duplicate_seen_at", UtcDateTime),
    Column("identity", IdentityJson),
    Column("own_hours", String(500)),
    Column("own_time_zone", String(64)),
    Column("own_country", String(2)),
    Column("hours", String(500), nullable=False, server_default=ALWAYS),
    Column("hours_source", Word(HoursSource), nullable=False, server_default=HoursSource.DEFAULT.value),
    Column("time_zone", String(64)),
    Column("hours_fault", String(40)),
    Column("within_hours", Boolean, nullable=False, server_default=text("true")),
    Column("hours_since", UtcDateTime),
    Column("expected_by", UtcDateTime),
    Column("next_change_at", UtcDateTime),
)

_watched = text(any_of("status", WATCHED))
_unwell = text(UNWELL)
_online = text(ONLINE)
_failed = text("service_failed_at IS NOT NULL")
_incomprehensible = text(INCOMPREHENSIBLE)
_maintained = text("maintenance_until IS NOT NULL")
_clear_pending = text("service_failed_clear_pending")
Index("ix_clients_sort_key", clients.c.sort_key, clients.c.uuid)
Index("ix_clients_status", clients.c.status, clients.c.sort_key, clients.c.uuid)
Index("ix_clients_status_since", clients.c.status, clients.c.status_since, clients.c.uuid)
Index("ix_clients_last_alive", clients.c.last_alive, clients.c.uuid)
Index("ix_clients_site", clients.c.site, clients.c.sort_key, clients.c.uuid)
partial_index("ix_clients_watched", _watched, clients.c.stale_at)
partial_index("ix_clients_unwell", _unwell, clients.c.status_since)
partial_index("ix_clients_online", _online, clients.c.site, clients.c.status, clients.c.uuid)
partial_index("ix_clients_starting", text(STARTING), clients.c.start_due_at)
partial_index("ix_clients_not_showing", text(NOT_SHOWING), clients.c.not_showing_until)
partial_index("ix_clients_service_failed", _failed, clients.c.sort_key)
partial_index("ix_clients_service_failed_since", _failed, clients.c.status_since, clients.c.uuid)
partial_index("ix_clients_incomprehensible", _incomprehensible, clients.c.refused_until)
partial_index("ix_clients_maintenance", _maintained, clients.c.maintenance_until)
partial_index("ix_clients_next_change", text("next_change_at IS NOT NULL"), clients.c.next_change_at)
partial_index("ix_clients_closed_silent", text(CLOSED_SILENT), clients.c.uuid)
partial_index("ix_clients_opened_silent", text(OPENED_SILENT), clients.c.expected_by)
partial_index("ix_clients_clear_pending", _clear_pending, clients.c.uuid)

failed_services = Table(
    "failed_services",
    metadata,
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("unit", String(500), primary_key=True),
    Column("failed_at", UtcDateTime, nullable=False),
    Column("result", String(500)),
    Column("raised_at", UtcDateTime, nullable=False),
    Column("reported_at", UtcDateTime, nullable=False),
    Column("cleared_at", UtcDateTime),
    Column("held", Boolean, nullable=False),
    Column("known", JSON, nullable=False),
    Column("acknowledged_by", String(200)),
)
_acknowledged = text("acknowledged_by IS NOT NULL")
Index(
    "ix_failed_services_acknowledged",
    failed_services.c.client_uuid,
    sqlite_where=_acknowledged,
    postgresql_where=_acknowledged,
)

client_totals, client_total_changes = counters(metadata, clients)
client_search, client_tags = finding(metadata, clients)

timeline = Table(
    "timeline",
    metadata,
    row_number(),
    client_key(),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Word(TimelineKind), nullable=False),
    Column("code", Word(Happening)),
    Column("text", Text),
    Column("level", String(10)),
    Column("data", JSON(none_as_null=True)),
    Column("dedupe_key", String(64), unique=True),
)
Index("ix_timeline_client", timeline.c.client_uuid, timeline.c.kind, timeline.c.at, timeline.c.id)
Index("ix_timeline_at", timeline.c.at)
_grave = text("kind = 'log' AND level IN ('warn', 'error')")
partial_index("ix_timeline_grave", _grave, timeline.c.client_uuid, timeline.c.at, timeline.c.id)

screenshots = Table(
    "screenshots",
    metadata,
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("received_at", UtcDateTime, nullable=False),
    Column("content_type", String(40), nullable=False),
    Column("image", LargeBinary, nullable=False),
)

rejected_messages = Table(
    "rejected_messages",
    metadata,
    row_number(),
    Column("at", UtcDateTime, nullable=False),
    Column("topic", Text, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("code", String(40), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("size", Integer, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("packet_id", Integer),
)

recovery_ladders = Table(
    "recovery_ladders",
    metadata,
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("phase", Word(Phase), nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("unwell_since", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("returns", Integer, nullable=False),
    Column("incident", String(200)),
)

recovery_attempts = Table(
    "recovery_attempts",
    metadata,
    row_number(),
    Column("command_id", String(36), nullable=False, unique=True),
    client_key(),
    Column("rung", Integer, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("incident", String(200)),
    Column("published_at", UtcDateTime),
    Column("accepted_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("outcome", Word(Outcome)),
    Column("error_code", String(200)),
)
_under_way = text("ended_at IS NULL")
_in_a_group = text("incident IS NOT NULL")
partial_index("ix_recovery_attempts_under_way", _under_way, recovery_attempts.c.decided_at)
partial_index("ix_recovery_attempts_incident", _in_a_group, recovery_attempts.c.incident)
Index("ix_recovery_attempts_client", recovery_attempts.c.client_uuid, recovery_attempts.c.decided_at)
Index("ix_recovery_attempts_decided_at", recovery_attempts.c.decided_at)

recovery_decisions = Table(
    "recovery_decisions",
    metadata,
    row_number(),
    client_key(),
    Column("verb", Word(Verb), nullable=False),
    Column("reason", Word(Reason), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("rung", Integer),
    Column("attempt", Integer),
    Column("until", UtcDateTime),
    Column("would", Boolean, nullable=False),
    Column("incident_id", BigKey),
    Column("first_at", UtcDateTime, nullable=False),
    Column("first_poll", Integer, nullable=False),
    Column("last_at", UtcDateTime),
    Column("times", Integer),
)
_standing = text("last_at IS NULL")
partial_index("uq_recovery_decisions_standing", _standing, recovery_decisions.c.client_uuid, unique=True)
partial_index("ix_recovery_decisions_newest_standing", _standing, recovery_decisions.c.id)
_held = text("last_at IS NULL AND incident_id IS NOT NULL")
_d = recovery_decisions.c
partial_index("ix_recovery_decisions_held", _held, _d.incident_id, _d.id)
_of_incident = text("incident_id IS NOT NULL")
partial_index("ix_recovery_decisions_incident", _of_incident, _d.incident_id, _d.client_uuid)
Index("ix_recovery_decisions_client", recovery_decisions.c.client_uuid, recovery_decisions.c.id)
Index("ix_recovery_decisions_first_at", recovery_decisions.c.first_at)

incidents = Table(
    "incidents",
    metadata,
    row_number(),
    Column("key", String(200), nullable=False, unique=True),
    Column("kind", Word(IncidentKind), nullable=False),
    Column("site", String(200)),
    Column("network", String(100)),
    Column("trouble", String(40)),
    Column("members", Integer, nullable=False, server_default="0"),
    Column("facts", JSON, nullable=False, server_default="{}"),
    Column("began_at", UtcDateTime, nullable=False),
    Column("calm_since", UtcDateTime),
    Column("stopped_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("closing", Word(Closing)),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", String(200)),
    Column("comment", Text),
)
partial_index("ix_incidents_open", _under_way, incidents.c.began_at)
Index("ix_incidents_began_at", incidents.c.began_at)

incident_members = Table(
    "incident_members",
    metadata,
    Column("incident_id", BigKey, ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True),
    Column("client_uuid", String(36), ForeignKey("clients.uuid", ondelete="CASCADE"), primary_key=True),
    Column("joined_at", UtcDateTime, nullable=False),
)
Index("ix_incident_members_client", incident_members.c.client_uuid)
