"""The commands that need nothing but this host: database, accounts and settings."""

import asyncio
import os
import pty
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands import CHECKOUT, CommandLine

PASSWORD = "correct horse battery\n"  # noqa: S105 - of users who live as long as a test
COMMANDS = [
    "serve",
    "demo",
    "db",
    "user",
    "token",
    "clients",
    "show",
    "send",
    "cancel",
    "power",
    "recovery",
    "notify",
    "config",
    "broker",
    "pki",
    "agent",
    "report-service-failed",
    "simulate",
    "describe",
    "doctor",
    "health",
]
HEAVY = ["aiohttp", "aiomqtt", "alembic", "pydantic", "sqlalchemy"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    directory = tmp_path / "work"
    directory.mkdir()
    return CommandLine(directory, monkeypatch)


@pytest.fixture
def ready(here: CommandLine) -> CommandLine:
    """Where the database is set up."""
    here.ok("db", "upgrade", "--create")
    return here


def test_help_names_every_command(here: CommandLine) -> None:
    listed = here.ok("--help").out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines()] == COMMANDS
    for command in COMMANDS:
        assert here.ok(command, "--help").out.startswith(f"Usage: infoscreen {command} ")


def test_the_command_line_loads_no_heavy_library_before_a_command_needs_it() -> None:
    program = f"import sys, infoscreen.cli; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [("fly",), ("db", "backup"), ("user", "add", "anna", "--role", "king"), ("clients",), ("simulate",)],
)
def test_wrong_usage_ends_with_2(here: CommandLine, arguments: tuple[str, ...]) -> None:
    assert here.run(*arguments).code == 2


def test_a_database_is_set_up_checked_and_saved(here: CommandLine) -> None:
    assert "Run `infoscreen db upgrade`." in here.refused("db", "check")
    assert here.ok("db", "current", "--json").json["fitness"] == "empty"
    assert f"{here.directory}/infoscreen.db is set up" in here.ok("db", "upgrade", "--create").out
    assert "Nothing to do" in here.ok("db", "upgrade").out
    state = here.ok("db", "current", "--json").json
    assert state == {"revision": state["needed"], "needed": state["needed"], "fitness": "current"}
    here.ok("db", "check")
    saved = here.ok("db", "backup", "copy.db", "--json")
    assert saved.json == {
        "file": str(here.directory / "copy.db"),
        "bytes": (here.directory / "copy.db").stat().st_size,
    }
    assert "not overwritten" in here.refused("db", "backup", "copy.db")


def test_a_database_newer_than_the_code_is_refused(ready: CommandLine) -> None:
    with closing(sqlite3.connect(ready.directory / "infoscreen.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    for command in (("db", "check"), ("db", "upgrade"), ("user", "list")):
        assert "Upgrade infoscreen, or restore a backup" in ready.refused(*command)


def test_a_database_server_that_is_gone_is_one_line_without_the_password(here: CommandLine) -> None:
    here.give("DATABASE_URL=postgresql+asyncpg://me:hidden@127.0.0.1:1/infoscreen")
    for command in (("db", "upgrade"), ("db", "check"), ("db", "current"), ("user", "list")):
        reason = here.refused(*command)
        assert "The database cannot be reached" in reason
        assert "hidden" not in reason


def test_users_are_added_listed_and_disabled(ready: CommandLine) -> None:
    ready.ok("user", "add", "anna", "--role", "admin", typed=PASSWORD)
    ready.ok("user", "add", "bert", typed=PASSWORD)
    assert "already a user" in ready.refused("user", "add", "ANNA", typed=PASSWORD)
    assert "5 characters" in ready.refused("user", "add", "carl", typed="short\n")
    ready.ok("user", "disable", "bert")
    assert "last admin" in ready.refused("user", "disable", "anna")
    assert "no such user" in ready.refused("user", "passwd", "nobody", typed=PASSWORD)
    ready.ok("user", "passwd", "anna", typed="another long password\n")
    listed = ready.ok("user", "list", "--json").json
    assert [(user["username"], user["role"], user["disabled"]) for user in listed] == [
        ("anna", "admin", False),
        ("bert", "viewer", True),
    ]
    assert "password" not in str(listed)
    assert ready.ok("user", "list").out.splitlines()[2].split()[:3] == ["bert", "viewer", "disabled"]


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(ready: CommandLine) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "infoscreen", "user", "add", "anna"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    seen = ""
    for prompt in ("Password: ", "Repeat for confirmation: "):
        while not seen.endswith(prompt):
            seen += os.read(controller, 1000).decode()
        os.write(controller, PASSWORD.encode())
    # The end of a terminal that nobody holds any more is an error, not an empty read.
    try:
        while True:
            seen += os.read(controller, 1000).decode()
    except OSError:
        os.close(controller)
    assert process.wait() == 0, seen
    assert "Added anna as viewer." in seen
    assert PASSWORD.strip() not in seen


def test_a_token_is_shown_once_alone_on_standard_output(ready: CommandLine) -> None:
    ready.ok("user", "add", "anna", "--role", "operator", typed=PASSWORD)
    made = ready.ok("token", "create", "ci", "--user", "anna", "--role", "operator", "--days", "0.5")
    secret = made.out.strip()
    assert secret.startswith("isc_")
    assert len(secret.split()) == 1
    assert "too high" in ready.refused("token", "create", "x", "--user", "anna", "--role", "admin")
    listed = ready.ok("token", "list", "--json")
    assert secret not in listed.out
    assert [(token["name"], token["role"]) for token in listed.json] == [("ci", "operator")]
    assert ready.ok("token", "list").out.splitlines()[1].split()[1:4] == ["ci", "anna", "operator"]
    token_id = str(listed.json[0]["id"])
    ready.ok("token", "revoke", token_id)
    assert "no token" in ready.refused("token", "revoke", token_id)


def test_settings_are_checked_without_starting_anything(here: CommandLine) -> None:
    here.give("HTTP_PORT=99999", "MQTT_USER=daemon")
    done = here.run("config", "check")
    assert done.code == 1
    assert "HTTP_PORT=99999 (environment): allowed is a port" in done.err
    assert "MQTT_PASSWORD is not set" in done.err
    for_programs = here.run("config", "check", "--json")
    assert for_programs.code == 1
    assert (for_programs.json["ok"], len(for_programs.json["faults"])) == (False, 2)
    (here.directory / ".env").write_text("HTTP_PROT=80\n")
    here.give("HTTP_PORT=80", "MQTT_PASSWORD=hidden")
    assert "Did you mean HTTP_PORT?" in here.ok("config", "check").err
    assert here.ok("config", "check", "--json").json["ok"] is True


def test_settings_are_shown_with_their_source_and_without_secrets(here: CommandLine) -> None:
    (here.directory / ".env").write_text("HTTP_PORT=8123\nMQTT_PASSWORD=hidden\n")
    here.give("DATABASE_URL=postgresql+asyncpg://me:hidden@127.0.0.1/infoscreen")
    shown = here.ok("config", "show").out
    assert "hidden" not in shown
    values = {
        value["variable"]: (value["value"], value["source"])
        for value in here.ok("config", "show", "--json").json
    }
    assert values["HTTP_PORT"] == ("8123", str(here.directory / ".env"))
    assert values["MQTT_PASSWORD"] == ("********", str(here.directory / ".env"))
    assert values["DATABASE_URL"] == ("postgresql+asyncpg://me:********@127.0.0.1/infoscreen", "environment")
    assert values["METRICS_TOKEN"] == (None, "default")


def test_serve_names_everything_that_is_missing(here: CommandLine) -> None:
    done = here.run("serve")
    assert (done.code, done.out) == (1, "")
    assert "MQTT_USER is not set" in done.err
    assert "MQTT_PASSWORD is not set" in done.err


async def test_serve_refuses_a_database_that_is_not_set_up(here: CommandLine) -> None:
    here.give("MQTT_USER=daemon", "MQTT_PASSWORD=hidden")
    process = await here.start("serve")
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (1, b"")
    assert b"Run `infoscreen db upgrade`." in err
    assert b"Traceback" not in err
