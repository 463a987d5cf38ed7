"""Codes with arguments instead of English sentences: evidence, histories of commands, timelines.

The only place where sentences are read: each of the fixed ones that earlier versions stored is taken apart
by its fixed words. One that is not known is kept, as code ``text``. The way down puts the sentences together
again.

Revision ID: f6a7b8c9d0e1
Revises: ac5e5501d001
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "f6a7b8c9d0e1"
down_revision = "ac5e5501d001"
branch_labels = None
depends_on = None

ROWS = 1_000
"""So many rows are in memory at the same time."""

Told = tuple[str, dict[str, Any]]
"""A code and its arguments."""

PARTS = ("publisher", "device", "sweep", "clock", "verification")
ACKS = ("accepted", "execution_started", "completed", "failed")

FINDINGS = {
    "the device went silent": "went_silent",
    "the device still sends heartbeats": "still_heard",
    "nothing was heard from the device since it reported completion": "not_heard_since",
    "the device reports nothing that would show the effect": "nothing_shows_it",
}
VALUES = {
    "boot id": ("boot_id", "boot_id"),
    "boot time": ("boot_time", "booted_at"),
    "start time": ("start_time", "app_started_at"),
    "process id": ("process_id", "process_pid"),
}
"""What evidence is about: its name in sentences, in codes, and as an argument."""

NOTES = {"refused by the lockout": "refused_by_lockout", "lockout overridden": "lockout_overridden"}


def between(text: str, before: str, after: str) -> str | None:
    """Return what stands between two fixed parts, None if they are not the ends of the text."""
    if len(text) < len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
        return None
    return text[len(before) : len(text) - len(after)]


def finding_of(text: str) -> Told:
    """Return the evidence that a sentence told."""
    if text in FINDINGS:
        return FINDINGS[text], {}
    for name, (code, argument) in VALUES.items():
        value = between(text, f"{name} is still ", "")
        if value is not None and _fits(argument, value):
            return f"same_{code}", {argument: value}
        running = between(text, f"new {name} ", ", application running")
        if running is not None and argument in {"app_started_at", "process_pid"} and _fits(argument, running):
            return f"new_{code}", {argument: running}
        stopped = between(text, f"new {name} ", ", but the application is not running")
        if stopped is not None and argument in {"app_started_at", "process_pid"} and _fits(argument, stopped):
            return f"new_{code}_not_running", {argument: stopped}
        since = between(text, f"new {name} ", " heartbeats since")
        if since is not None and argument in {"boot_id", "booted_at"}:
            value, comma, count = since.rpartition(", ")
            if comma and count.isdecimal() and _fits(argument, value):
                return f"new_{code}", {argument: value, "heartbeats": int(count)}
    return "text", {"text": text}


def _fits(argument: str, value: str) -> bool:
    if not argument.endswith("_at"):
        return True
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def sentence_of_finding(code: str, arguments: Mapping[str, Any]) -> str:
    """Return the sentence that earlier versions would have stored."""
    if code == "text":
        return str(arguments["text"])
    for sentence, known in FINDINGS.items():
        if known == code:
            return sentence
    for name, (about, argument) in VALUES.items():
        value = arguments.get(argument)
        if code == f"same_{about}":
            return f"{name} is still {value}"
        if code == f"new_{about}" and "heartbeats" in arguments:
            return f"new {name} {value}, {arguments['heartbeats']} heartbeats since"
        if code == f"new_{about}":
            return f"new {name} {value}, application running"
        if code == f"new_{about}_not_running":
            return f"new {name} {value}, but the application is not running"
    return code


def note_of(part: str | None, text: str) -> Told:
    """Return what a line of a command's history told."""
    if text in NOTES and part is None:
        return NOTES[text], {}
    if part == "verification":
        verdict, _, rest = text.partition(": ")
        if verdict in {"verified", "contradicted", "unverifiable"}:
            code, arguments = finding_of(rest)
            return verdict, {"finding": {"code": code, "arguments": arguments}}
    if part == "publisher":
        number = between(text, "sent again, publication ", "")
        if number is not None and number.isdecimal():
            return "sent_again", {"publication": int(number)}
        return "refused_by_broker", {"error": text}
    if part == "clock":
        seconds = between(text, "this host's clock was set by ", " s; the deadline moves along")
        if seconds is not None and seconds[1:].isdecimal() and seconds[:1] in {"+", "-"}:
            return f"clock_set_{'forward' if seconds[0] == '+' else 'back'}", {"by": float(seconds[1:])}
    if part == "device":
        ignored = between(text, "ack ", " changed nothing")
        ack, _, rest = (text if ignored is None else ignored).partition(" ")
        error = between(rest, "(", ")")
        if ack in ACKS and (error is not None or not rest):
            code = ("ack" if error is None else "ack_with_error") + ("" if ignored is None else "_ignored")
            return code, {"ack": ack} if error is None else {"ack": ack, "error": error}
    return "text", {"text": text}


def sentence_of_note(code: str, arguments: Mapping[str, Any]) -> str:
    """Return the sentence that earlier versions would have stored."""
    for sentence, known in NOTES.items():
        if known == code:
            return sentence
    ack, error = arguments.get("ack"), arguments.get("error")
    match code:
        case "verified" | "contradicted" | "unverifiable":
            finding = arguments["finding"]
            return f"{code}: {sentence_of_finding(finding['code'], finding['arguments'])}"
        case "sent_again":
            return f"sent again, publication {arguments['publication']}"
        case "refused_by_broker":
            return str(error)
        case "clock_set_forward" | "clock_set_back":
            sign = "+" if code == "clock_set_forward" else "-"
            return f"this host's clock was set by {sign}{arguments['by']:.0f} s; the deadline moves along"
        case "ack":
            return str(ack)
        case "ack_with_error":
            return f"{ack} ({error})"
        case "ack_ignored":
            return f"ack {ack} changed nothing"
        case "ack_with_error_ignored":
            return f"ack {ack} ({error}) changed nothing"
        case _:
            return str(arguments.get("text", code))


SETTINGS = ("name", "site", "tags", "description", "maintenance_until", "auto_recovery")


def happening_of(kind: str, text: str, data: dict[str, Any]) -> Told | None:
    """Return what a line of a timeline told, from the data that was stored with it; None for a log line."""
    by, unit = data.get("by"), data.get("unit") or "?"
    match kind:
        case "log":
            return None
        case "status" if data.get("from") and data.get("to"):
            return "status_changed", {"from": data["from"], "to": data["to"]}
        case "presence" if data.get("presence"):
            return "presence_changed", {"presence": data["presence"]}
        case "reboot":
            return "rebooted", {}
        case "service_failed" if data.get("result"):
            return "service_failed_with_result", {"unit": unit, "result": data["result"]}
        case "service_failed":
            return "service_failed", {"unit": unit}
        case "service_cleared" if text == "The device withdrew its failed service.":
            return "service_withdrawn", {"unit": unit}
        case "service_cleared" if by and data.get("comment"):
            return "service_acknowledged_with_comment", {"by": by, "unit": unit, "comment": data["comment"]}
        case "service_cleared" if by:
            return "service_acknowledged", {"by": by, "unit": unit}
        case "operator" if data.get("act") == "recovery.pause" and by:
            return "recovery_paused", {"by": by, "reason": data.get("reason") or ""}
        case "operator" if data.get("act") == "recovery.resume" and by:
            return "recovery_resumed", {"by": by}
        case "operator" if data.get("act") == "recovery.acknowledge" and by and data.get("comment"):
            return "taken_over_with_comment", {"by": by, "comment": data["comment"]}
        case "operator" if data.get("act") == "recovery.acknowledge" and by:
            return "taken_over", {"by": by}
        case "operator" if by and "act" not in data:
            return "edited", {"by": by, "settings": [name for name in SETTINGS if name in data]}
    return "text", {"text": text}


def sentence_of_happening(code: str | None, text: str | None, data: Mapping[str, Any]) -> str:
    """Return the sentence that earlier versions would have stored."""
    by, unit = data.get("by"), data.get("unit")
    match code:
        case "status_changed":
            return f"{data['from']} -> {data['to']}"
        case "presence_changed":
            return f"The broker says {data['presence']}."
        case "rebooted":
            return "The device has rebooted."
        case "service_failed" | "service_failed_with_result":
            return f"systemd gave up on {unit}."
        case "service_withdrawn":
            return "The device withdrew its failed service."
        case "service_acknowledged" | "service_acknowledged_with_comment":
            return f"{by} acknowledged the failure of {unit}."
        case "edited":
            return f"{by} changed {', '.join(sorted(data['settings']))}."
        case "recovery_paused":
            return f"{by} paused the automatic recovery: {data['reason']}"
        case "recovery_resumed":
            return f"{by} resumed the automatic recovery: {data.get('reason', '')}"
        case "taken_over":
            return f"{by} takes care of it."
        case "taken_over_with_comment":
            return f"{by} takes care of it. {data['comment']}"
        case "text":
            return str(data["text"])
        case _:
            return text or ""


def chunks(table: sa.Table, key: sa.Column[Any], where: sa.ColumnElement[bool]) -> Iterator[list[Any]]:
    """Yield all rows that match, in order of a unique key, some at a time."""
    last: Any = None
    while True:
        statement = sa.select(table).where(where).order_by(key).limit(ROWS)
        rows = op.get_bind().execute(statement if last is None else statement.where(key > last)).all()
        if not rows:
            return
        yield rows
        last = getattr(rows[-1], key.name)


def rewrite(table: sa.Table, key: str, where: sa.ColumnElement[bool], change: Callable[[Any], Any]) -> None:
    """Give every row that matches the values that ``change`` returns for it."""
    for rows in chunks(table, table.c[key], where):
        changed = [{"row_key": getattr(row, key), **change(row)} for row in rows]
        names = [name for name in changed[0] if name != "row_key"]
        statement = (
            sa.update(table)
            .where(table.c[key] == sa.bindparam("row_key"))
            .values({name: sa.bindparam(f"new_{name}") for name in names})
        )
        values = [
            {"row_key": one["row_key"], **{f"new_{name}": one[name] for name in names}} for one in changed
        ]
        op.get_bind().execute(statement, values)


JSON = sa.JSON(none_as_null=True)
COMMANDS = sa.table(
    "client_commands",
    sa.column("command_id", sa.String),
    sa.column("source", sa.String),
    sa.column("reason", sa.Text),
    sa.column("reason_code", sa.String),
    sa.column("reason_arguments", JSON),
    sa.column("verification_detail", sa.Text),
    sa.column("verification_code", sa.String),
    sa.column("verification_arguments", JSON),
)
EVENTS = sa.table(
    "command_events",
    sa.column("id", sa.Integer),
    sa.column("command_id", sa.String),
    sa.column("from_status", sa.String),
    sa.column("to_status", sa.String),
    sa.column("by", sa.String),
    sa.column("part", sa.String),
    sa.column("detail", sa.Text),
    sa.column("code", sa.String),
    sa.column("arguments", JSON),
)
TIMELINE = sa.table(
    "timeline",
    sa.column("id", sa.Integer),
    sa.column("kind", sa.String),
    sa.column("code", sa.String),
    sa.column("text", sa.Text),
    sa.column("data", JSON),
)

ORDERS = {
    "act_restart_app": ("Restart the application, attempt ", "."),
    "act_reboot_host": ("Reboot the device, attempt ", "."),
    "act_power_cycle": ("Switch the device's power off and on, attempt ", "."),
}
"""Why the recovery requested a command: what stands before and after "1 of 3"."""


def order_of(text: str) -> Told | None:
    """Return the reason of the recovery's command, None if it is not one of its sentences."""
    for code, (before, after) in ORDERS.items():
        numbers = between(text, before, after)
        attempt, of, attempts = ("", "", "") if numbers is None else numbers.partition(" of ")
        if of and attempt.isdecimal() and attempts.isdecimal():
            return code, {"attempt": int(attempt), "attempts": int(attempts)}
    return None


def _evidence(row: Any) -> dict[str, Any]:
    code, arguments = finding_of(row.verification_detail)
    return {"verification_code": code, "verification_arguments": arguments}


def _order(row: Any) -> dict[str, Any]:
    order = order_of(row.reason)
    if order is None:
        return {"reason": row.reason, "reason_code": None, "reason_arguments": None}
    return {"reason": None, "reason_code": order[0], "reason_arguments": order[1]}


def _line(row: Any, part: str | None) -> dict[str, Any]:
    if row.detail is None:
        return {"part": part, "code": None, "arguments": None}
    code, arguments = note_of(part, row.detail)
    return {"part": part, "code": code, "arguments": arguments}


def _part(row: Any) -> str | None:
    """Return which part of the system did it; people's lines begin a history, or cancel."""
    if row.by not in PARTS or row.from_status is None or row.to_status == "cancelled":
        return None
    return str(row.by)


def _entry(row: Any) -> dict[str, Any]:
    data = row.data if isinstance(row.data, dict) else {}
    told = happening_of(row.kind, row.text, data)
    if told is None:
        return {"code": None, "text": row.text, "data": row.data}
    return {"code": told[0], "text": None, "data": {**data, **told[1]}}


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("client_commands") as batch:
        batch.add_column(sa.Column("reason_code", sa.String(40)))
        batch.add_column(sa.Column("reason_arguments", sa.JSON()))
        batch.add_column(sa.Column("verification_code", sa.String(40)))
        batch.add_column(sa.Column("verification_arguments", sa.JSON()))
    with op.batch_alter_table("command_events") as batch:
        batch.add_column(sa.Column("part", sa.String(40)))
        batch.add_column(sa.Column("code", sa.String(40)))
        batch.add_column(sa.Column("arguments", sa.JSON()))
    with op.batch_alter_table("timeline") as batch:
        batch.add_column(sa.Column("code", sa.String(40)))
        batch.alter_column("text", existing_type=sa.Text(), nullable=True)
    rewrite(COMMANDS, "command_id", COMMANDS.c.verification_detail.is_not(None), _evidence)
    of_recovery = sa.and_(COMMANDS.c.source == "recovery", COMMANDS.c.reason.is_not(None))
    rewrite(COMMANDS, "command_id", of_recovery, _order)
    rewrite(EVENTS, "id", sa.true(), lambda row: _line(row, _part(row)))
    requested = sa.select(COMMANDS.c.command_id).where(COMMANDS.c.source == "recovery")
    op.execute(
        sa.update(EVENTS)
        .where(EVENTS.c.by == "recovery", EVENTS.c.from_status.is_(None), EVENTS.c.command_id.in_(requested))
        .values(part="recovery")
    )
    rewrite(TIMELINE, "id", TIMELINE.c.kind != "log", _entry)
    with op.batch_alter_table("client_commands") as batch:
        batch.drop_column("verification_detail")
    with op.batch_alter_table("command_events") as batch:
        batch.drop_column("detail")


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("client_commands") as batch:
        batch.add_column(sa.Column("verification_detail", sa.Text()))
    with op.batch_alter_table("command_events") as batch:
        batch.add_column(sa.Column("detail", sa.Text()))
    rewrite(
        COMMANDS,
        "command_id",
        COMMANDS.c.verification_code.is_not(None),
        lambda row: {
            "verification_detail": sentence_of_finding(
                row.verification_code, row.verification_arguments or {}
            )
        },
    )
    rewrite(COMMANDS, "command_id", COMMANDS.c.reason_code.is_not(None), _reason_before)
    rewrite(
        EVENTS,
        "id",
        EVENTS.c.code.is_not(None),
        lambda row: {"detail": sentence_of_note(row.code, row.arguments or {})},
    )
    rewrite(
        TIMELINE,
        "id",
        TIMELINE.c.code.is_not(None),
        lambda row: {"text": sentence_of_happening(row.code, row.text, row.data or {})},
    )
    op.execute(sa.update(TIMELINE).where(TIMELINE.c.text.is_(None)).values(text=""))
    with op.batch_alter_table("timeline") as batch:
        batch.alter_column("text", existing_type=sa.Text(), nullable=False)
        batch.drop_column("code")
    with op.batch_alter_table("command_events") as batch:
        batch.drop_column("arguments")
        batch.drop_column("code")
        batch.drop_column("part")
    with op.batch_alter_table("client_commands") as batch:
        batch.drop_column("verification_arguments")
        batch.drop_column("verification_code")
        batch.drop_column("reason_arguments")
        batch.drop_column("reason_code")


def _reason_before(row: Any) -> dict[str, Any]:
    arguments = row.reason_arguments or {}
    if row.reason_code not in ORDERS or arguments.keys() < {"attempt", "attempts"}:
        return {"reason": row.reason_code}
    before, after = ORDERS[row.reason_code]
    return {"reason": f"{before}{arguments['attempt']} of {arguments['attempts']}{after}"}
