"""The migration from sentences to codes, on filled databases of both kinds, up and down."""

import importlib.util
import json
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text

from infoscreen.domain.codes import unpacked
from infoscreen.domain.history import Finding, Happening, Note
from infoscreen.resources import resource
from infoscreen.storage import schema, timeline
from infoscreen.storage.command_history import events
from infoscreen.storage.commands import get
from infoscreen.storage.engine import Store
from infoscreen.words import telling
from infoscreen.words.language import ENGLISH
from tests.test_schema import migrate, rows, sqlite_url, url

__all__ = ["sqlite_url", "url"]

BEFORE, CODES = "ac5e5501d001", "f6a7b8c9d0e1"
NOW = datetime.fromisoformat("2026-01-02T03:04:05+00:00")
AT = "2026-03-02T07:00:00+00:00"

EVIDENCE = {
    "the device went silent": ("went_silent", {}),
    "the device still sends heartbeats": ("still_heard", {}),
    "nothing was heard from the device since it reported completion": ("not_heard_since", {}),
    "the device reports nothing that would show the effect": ("nothing_shows_it", {}),
    "new boot id a, b, 2 heartbeats since": ("new_boot_id", {"boot_id": "a, b", "heartbeats": 2}),
    f"new boot time {AT}, 12 heartbeats since": ("new_boot_time", {"booted_at": AT, "heartbeats": 12}),
    f"new start time {AT}, application running": ("new_start_time", {"app_started_at": AT}),
    "new process id 17, application running": ("new_process_id", {"process_pid": "17"}),
    f"new start time {AT}, but the application is not running": (
        "new_start_time_not_running",
        {"app_started_at": AT},
    ),
    "new process id 17, but the application is not running": (
        "new_process_id_not_running",
        {"process_pid": "17"},
    ),
    "boot id is still x": ("same_boot_id", {"boot_id": "x"}),
    f"boot time is still {AT}": ("same_boot_time", {"booted_at": AT}),
    f"start time is still {AT}": ("same_start_time", {"app_started_at": AT}),
    "process id is still 17": ("same_process_id", {"process_pid": "17"}),
    "boot time is still yesterday": ("text", {"text": "boot time is still yesterday"}),
    "somebody looked: fine": ("text", {"text": "somebody looked: fine"}),
    "": ("text", {"text": ""}),
}

NOTES = {
    ("ada", "refused by the lockout"): ("refused_by_lockout", {}),
    ("device", "lockout overridden"): ("lockout_overridden", {}),  # a person of that name began the history
    ("publisher", "sent again, publication 2"): ("sent_again", {"publication": 2}),
    ("publisher", "not authorised"): ("refused_by_broker", {"error": "not authorised"}),
    ("clock", "this host's clock was set by +3600 s; the deadline moves along"): (
        "clock_set_forward",
        {"by": 3600.0},
    ),
    ("clock", "this host's clock was set by -7 s; the deadline moves along"): ("clock_set_back", {"by": 7.0}),
    ("device", "completed"): ("ack", {"ack": "completed"}),
    ("device", "failed (unit_failed: exit (1)\nand more)"): (
        "ack_with_error",
        {"ack": "failed", "error": "unit_failed: exit (1)\nand more"},
    ),
    ("device", "ack accepted changed nothing"): ("ack_ignored", {"ack": "accepted"}),
    ("device", "ack failed (error: it says ack) changed nothing) changed nothing"): (
        "ack_with_error_ignored",
        {"ack": "failed", "error": "error: it says ack) changed nothing"},
    ),
    ("device", "ack dropped changed nothing"): ("text", {"text": "ack dropped changed nothing"}),
    ("verification", "verified: the device went silent"): (
        "verified",
        {"finding": {"code": "went_silent", "arguments": {}}},
    ),
    ("verification", "contradicted: boot id is still b: 1"): (
        "contradicted",
        {"finding": {"code": "same_boot_id", "arguments": {"boot_id": "b: 1"}}},
    ),
    ("verification", "unverifiable: no idea"): (
        "unverifiable",
        {"finding": {"code": "text", "arguments": {"text": "no idea"}}},
    ),
    ("verification", "perhaps"): ("text", {"text": "perhaps"}),
    ("sweep", "an old sentence"): ("text", {"text": "an old sentence"}),
}

LINES: list[tuple[str, str, dict[str, Any] | None, str | None]] = [
    ("status", "online -> hung", {"from": "online", "to": "hung"}, "status_changed"),
    ("presence", "The broker says offline.", {"presence": "offline"}, "presence_changed"),
    ("reboot", "The device has rebooted.", {"boot_id": "b2"}, "rebooted"),
    (
        "service_failed",
        "systemd gave up on a.service.",
        {"unit": "a.service", "result": None},
        "service_failed",
    ),
    (
        "service_failed",
        "systemd gave up on a.service.",
        {"unit": "a.service", "result": "signal"},
        "service_failed_with_result",
    ),
    (
        "service_cleared",
        "The device withdrew its failed service.",
        {"unit": "a.service", "by": "device"},
        "service_withdrawn",
    ),
    (
        "service_cleared",
        "device acknowledged the failure of a.service.",
        {"unit": "a.service", "comment": None, "by": "device"},
        "service_acknowledged",
    ),
    (
        "service_cleared",
        "ada acknowledged the failure of a.service.",
        {"unit": "a.service", "comment": "known", "by": "ada"},
        "service_acknowledged_with_comment",
    ),
    ("operator", "ada changed name, tags.", {"name": "n", "tags": ["t"], "by": "ada"}, "edited"),
    (
        "operator",
        "ada paused the automatic recovery: building",
        {"by": "ada", "act": "recovery.pause", "reason": "building", "until": AT},
        "recovery_paused",
    ),
    (
        "operator",
        "ada resumed the automatic recovery: building",
        {"by": "ada", "act": "recovery.resume", "reason": "building"},
        "recovery_resumed",
    ),
    (
        "operator",
        "ada takes care of it.",
        {"by": "ada", "act": "recovery.acknowledge", "comment": None},
        "taken_over",
    ),
    (
        "operator",
        "ada takes care of it. on my way",
        {"by": "ada", "act": "recovery.acknowledge", "comment": "on my way"},
        "taken_over_with_comment",
    ),
    ("operator", "told by nobody", None, "text"),
    ("status", "well", {}, "text"),
    ("log", "online -> hung", {"device_time": AT}, None),
]


async def insert(url: str, table: str, values: list[dict[str, Any]]) -> None:
    store = Store(url)
    names = list(values[0])
    columns = ", ".join(f'"{name}"' for name in names)
    gaps = ", ".join(
        f"CAST(:{name} AS JSON)" if name == "data" and "postgres" in url else f":{name}" for name in names
    )
    async with store.write() as connection:
        await connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({gaps})"), values)
    await store.close()


def at(url: str) -> Any:
    return NOW if "postgres" in url else "2026-01-02 03:04:05.000000"


async def fill(url: str) -> None:
    """Every sentence that earlier versions stored, and some that they never did."""
    await rows(
        url,
        "INSERT INTO clients (uuid, created_at, status, status_since, tags, capabilities)"
        f" VALUES ('u1', '{NOW:%Y-%m-%d %H:%M:%S}', 'online', '{NOW:%Y-%m-%d %H:%M:%S}', '[]', '[]')",
    )
    common = {
        "client_uuid": "u1",
        "action": "reboot_host",
        "status": "completed",
        "created_at": at(url),
        "expires_at": at(url),
        "deadline_at": at(url),
    }
    await insert(
        url,
        "client_commands",
        [
            {
                **common,
                "command_id": f"c{number:02}",
                "source": "operator",
                "reason": "Reboot the device, attempt 1 of 2.",
                "verification": "verified",
                "verification_detail": sentence,
            }
            for number, sentence in enumerate(EVIDENCE)
        ],
    )
    orders = ["Reboot the device, attempt 1 of 2.", "Restart the application, attempt 3 of 3.", "because"]
    await insert(
        url,
        "client_commands",
        [
            {**common, "command_id": f"r{number}", "source": "recovery", "reason": reason}
            for number, reason in enumerate(orders)
        ],
    )
    begun = {("ada", "refused by the lockout"), ("device", "lockout overridden")}
    await insert(
        url,
        "command_events",
        [
            {
                "command_id": "c00",
                "client_uuid": "u1",
                "at": at(url),
                "from_status": None if (by, detail) in begun else "published",
                "to_status": "published",
                "by": by,
                "detail": detail,
            }
            for by, detail in NOTES
        ]
        + [
            {
                "command_id": command_id,
                "client_uuid": "u1",
                "at": at(url),
                "from_status": None,
                "to_status": "queued",
                "by": "recovery",
                "detail": None,
            }
            for command_id in ("r0", "c01")
        ],
    )
    await insert(
        url,
        "timeline",
        [
            {"client_uuid": "u1", "at": at(url), "kind": kind, "text": said, "data": json.dumps(data)}
            for kind, said, data, _ in LINES
        ]
        + [
            {
                "client_uuid": "u1",
                "at": at(url),
                "kind": "status",
                "text": "a -> b",
                "data": '{"from": "online", "to": "hung"}',
            }
            for _ in range(2_500)  # more than are taken at a time
        ],
    )


async def stored(url: str) -> list[Any]:
    """Return everything that the migration changes, as it was before."""
    return [
        await rows(
            url, "SELECT command_id, reason, verification_detail FROM client_commands ORDER BY command_id"
        ),
        await rows(url, 'SELECT id, "by", detail FROM command_events ORDER BY id'),
        await rows(
            url,
            "SELECT id, text FROM timeline WHERE text <> 'a -> b' AND text <> 'online -> hung' ORDER BY id",
        ),
    ]


async def test_sentences_become_codes_and_come_back(url: str) -> None:
    await migrate(url, "upgrade", BEFORE)
    await fill(url)
    before = await stored(url)
    await migrate(url, "upgrade", CODES)

    found = await rows(
        url,
        "SELECT verification_code, verification_arguments, reason FROM client_commands"
        " WHERE source = 'operator' ORDER BY command_id",
    )
    assert [(code, decoded(arguments)) for code, arguments, _ in found] == list(EVIDENCE.values())
    assert {reason for *_, reason in found} == {"Reboot the device, attempt 1 of 2."}  # a person's words
    ordered = await rows(
        url,
        "SELECT reason, reason_code, reason_arguments FROM client_commands"
        " WHERE source = 'recovery' ORDER BY command_id",
    )
    assert [(reason, code, decoded(arguments)) for reason, code, arguments in ordered] == [
        (None, "act_reboot_host", {"attempt": 1, "attempts": 2}),
        (None, "act_restart_app", {"attempt": 3, "attempts": 3}),
        ("because", None, None),
    ]
    lines = await rows(url, 'SELECT "by", part, code, arguments FROM command_events ORDER BY id')
    assert [(code, decoded(arguments)) for _, _, code, arguments in lines[: len(NOTES)]] == list(
        NOTES.values()
    )
    assert [(by, part) for by, part, *_ in lines[:3]] == [
        ("ada", None),
        ("device", None),
        ("publisher", "publisher"),
    ]
    assert [part for _, part, *_ in lines[len(NOTES) :]] == ["recovery", None]
    entries = await rows(url, "SELECT code, text, data FROM timeline ORDER BY id")
    assert [code for code, *_ in entries[: len(LINES)]] == [code for *_, code in LINES]
    assert all((text is None) == (code is not None) for code, text, _ in entries)
    assert {code for code, *_ in entries[len(LINES) :]} == {"status_changed"}

    await migrate(url, "downgrade", BEFORE)
    assert await stored(url) == before
    await migrate(url, "upgrade", CODES)


def decoded(arguments: Any) -> Any:
    """SQLite returns JSON as text."""
    return json.loads(arguments) if isinstance(arguments, str) else arguments


async def test_what_was_converted_can_be_read_and_said(url: str) -> None:
    await migrate(url, "upgrade", BEFORE)
    await fill(url)
    await schema.upgrade(url)
    store = Store(url)
    async with store.read() as connection:
        command = await get(connection, "c04")
        history = await events(connection, "c00")
        page = await timeline.page(connection, "u1", 500)
    await store.close()
    assert command is not None
    assert telling.evidence(command) == "new boot id a, b, 2 heartbeats since"
    assert all(telling.happened(line, ENGLISH) for line in history)
    assert all(telling.told(entry) for entry in page.items)


def migration() -> ModuleType:
    (path,) = (resource("migrations") / "versions").glob(f"{CODES}_*.py")
    spec = importlib.util.spec_from_file_location("codes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("sentence", EVIDENCE)
def test_converted_evidence_has_the_arguments_of_its_code(sentence: str) -> None:
    code, arguments = migration().finding_of(sentence)
    assert unpacked(Finding, code, arguments).packed() == arguments
    assert migration().sentence_of_finding(code, arguments) == sentence


@pytest.mark.parametrize(("by", "detail"), NOTES)
def test_a_converted_note_has_the_arguments_of_its_code(by: str, detail: str) -> None:
    code, arguments = NOTES[by, detail]
    assert unpacked(Note, code, arguments).packed() == arguments
    assert migration().sentence_of_note(code, arguments) == detail


@pytest.mark.parametrize(("kind", "said", "data", "code"), LINES)
def test_a_converted_line_has_the_arguments_of_its_code(
    kind: str, said: str, data: dict[str, Any] | None, code: str | None
) -> None:
    told = migration().happening_of(kind, said, data or {})
    assert (told and told[0]) == code
    if told is not None:
        assert unpacked(Happening, told[0], told[1]).packed() == told[1]
