"""The tables of commands and their histories. Imported by ``storage.tables``, which knows all tables."""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, text

from infoscreen.domain.commands import (
    DISRUPTIVE,
    OPEN,
    Action,
    CommandStatus,
    Source,
    Verification,
    Waiting,
)
from infoscreen.domain.history import Finding, Note, Part
from infoscreen.storage.columns import BigKey, UtcDateTime, Word, row_number
from infoscreen.storage.declaring import any_of, client_key, partial_index
from infoscreen.storage.metadata import metadata

IN_FLIGHT = f"{any_of('status', OPEN)} AND {any_of('action', DISRUPTIVE)} AND waits_for IS NULL"
"""What the partial unique index counts: one unfinished disruptive command per client, whatever asks.

Those that still wait for their turn or for their client do not count.
"""

RARE = frozenset(CommandStatus) - OPEN - {CommandStatus.COMPLETED}
RARE_END = any_of("status", RARE)
"""How few commands end: a list of them must not walk through all the others."""

client_commands = Table(
    "client_commands",
    metadata,
    Column("command_id", String(36), primary_key=True),
    client_key(),
    Column("action", Word(Action), nullable=False),
    Column("status", Word(CommandStatus), nullable=False),
    Column("source", Word(Source), nullable=False),
    Column("requested_by", Integer),
    Column("reason", Text),
    Column("reason_code", String(40)),
    Column("reason_arguments", JSON(none_as_null=True)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("deadline_at", UtcDateTime, nullable=False),
    Column("batch_id", String(36)),
    Column("waits_for", Word(Waiting)),
    Column("wait_until", UtcDateTime),
    Column("forced", Boolean, nullable=False, server_default=text("false")),
    Column("publish_count", Integer, nullable=False, server_default="0"),
    Column("last_publish_at", UtcDateTime),
    Column("published_at", UtcDateTime),
    Column("accepted_at", UtcDateTime),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("late", Boolean, nullable=False, server_default=text("false")),
    Column("error_code", String(200)),
    Column("error_message", Text),
    Column("verification", Word(Verification)),
    Column("verified_at", UtcDateTime),
    Column("verification_code", Word(Finding)),
    Column("verification_arguments", JSON(none_as_null=True)),
    Column("before_boot_id", String(500)),
    Column("before_booted_at", UtcDateTime),
    Column("before_app_started_at", UtcDateTime),
    Column("before_process_pid", Integer),
    Column("before_clock_skew_seconds", Float),
    Column("refused_skew_seconds", Float),
)

_c = client_commands.c
_newest_first = (_c.created_at, _c.command_id)
_pending = text(f"verification = '{Verification.PENDING}'")
_contradicted = text(f"verification = '{Verification.CONTRADICTED}'")
partial_index("uq_client_commands_in_flight", text(IN_FLIGHT), _c.client_uuid, unique=True)
partial_index("ix_client_commands_open", text(any_of("status", OPEN)), _c.deadline_at)
partial_index("ix_client_commands_waiting", text("waits_for IS NOT NULL"), _c.waits_for, _c.created_at)
partial_index("ix_client_commands_pending", _pending, _c.command_id)
partial_index("ix_client_commands_contradicted", _contradicted, _c.verified_at)
partial_index("ix_client_commands_published_at", text("published_at IS NOT NULL"), _c.published_at)
Index("ix_client_commands_client", _c.client_uuid, *_newest_first)
Index("ix_client_commands_created_at", *_newest_first)
Index("ix_client_commands_action", _c.action, *_newest_first)
Index("ix_client_commands_source", _c.source, *_newest_first)
partial_index("ix_client_commands_batch", text("batch_id IS NOT NULL"), _c.batch_id, *_newest_first)
partial_index("ix_client_commands_rare", text(RARE_END), _c.status, *_newest_first)

command_events = Table(
    "command_events",
    metadata,
    row_number(),
    Column(
        "command_id", String(36), ForeignKey("client_commands.command_id", ondelete="CASCADE"), nullable=False
    ),
    client_key(),
    Column("at", UtcDateTime, nullable=False),
    Column("from_status", Word(CommandStatus)),
    Column("to_status", Word(CommandStatus), nullable=False),
    Column("part", Word(Part)),
    Column("by", String(200), nullable=False),
    Column("code", Word(Note)),
    Column("arguments", JSON(none_as_null=True)),
    Column("times", BigKey, nullable=False, server_default="1"),
)
Index("ix_command_events_command_id", command_events.c.command_id, command_events.c.id)
Index("ix_command_events_client", command_events.c.client_uuid, command_events.c.at, command_events.c.id)
