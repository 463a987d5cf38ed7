import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from infoscreen.domain.errors import DatabaseNotReady, ToolFailed
from infoscreen.storage import backups, client_lists, clients, failed_services, schema
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.engine import Store
from infoscreen.storage.finding import is_declared
from infoscreen.storage.tables import metadata
from tests.postgres import PostgresServer

CHECKOUT = Path(__file__).parent.parent
BASE = "a0b1c2d3e4f5"
FAILURES = "b1c2d3e4f5a6"
FAILURE_COLUMNS = {
    "service_failed_at",
    "service_failed_unit",
    "mqtt_reconnect_count",
    "mqtt_last_disconnect_at",
}
HEAD = schema._needed()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/infoscreen.db"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    chosen: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres")
    return chosen


async def migrate(url: str, direction: str, revision: str) -> None:
    def run(connection: Connection) -> None:
        config = schema._config()
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)

    async with schema.migration(url) as connection:
        await connection.run_sync(run)


async def rows(url: str, statement: str) -> list[Any]:
    store = Store(url)
    try:
        async with store.write() as connection:
            result = await connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await store.close()


async def columns_of(url: str, table: str) -> set[str]:
    store = Store(url)
    async with store.read() as connection:
        found = await connection.run_sync(lambda sync: inspect(sync).get_columns(table))
    await store.close()
    return {column["name"] for column in found}


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


NOW = "2026-01-02 03:04:05"


async def fill_base(url: str) -> None:
    """Three clients and two commands, one of them in flight, as the first schema could hold them."""
    for uuid, name in (("u1", "Ärger"), ("u2", None), ("u3", "berlin")):
        named = "NULL" if name is None else f"'{name}'"
        await rows(
            url,
            "INSERT INTO clients (uuid, created_at, status_since, name, hostname, tags)"
            f" VALUES ('{uuid}', '{NOW}', '{NOW}', {named}, 'Host', '[\"lobby\"]')",
        )
    for command_id, status in (("c1", "completed"), ("c2", "published")):
        await rows(
            url,
            "INSERT INTO client_commands"
            " (command_id, client_uuid, action, status, source, created_at, expires_at)"
            f" VALUES ('{command_id}', 'u1', 'reboot_host', '{status}', 'operator', '{NOW}', '{NOW}')",
        )


async def fill_children(url: str) -> None:
    """A row that belongs to a client, and one to a command, in the tables of the newest schema."""
    await rows(
        url,
        "INSERT INTO command_events (command_id, client_uuid, at, to_status, by)"
        f" VALUES ('c1', 'u1', '{NOW}', 'queued', 'somebody')",
    )
    await rows(
        url,
        f"INSERT INTO timeline (client_uuid, at, kind, text) VALUES ('u1', '{NOW}', 'status', 'well')",
    )


async def test_models_and_migrations_agree(url: str) -> None:
    await schema.upgrade(url)
    store = Store(url)

    def differences(connection: Connection) -> list[Any]:
        # JSON defaults: see migrations/env.py, which `alembic check` uses.
        context = MigrationContext.configure(
            connection, opts={"target_metadata": metadata, "include_name": is_declared}
        )
        return list(compare_metadata(context, metadata))

    async with store.read() as connection:
        found = await connection.run_sync(differences)
    await store.close()
    assert found == []


async def test_alembic_check_finds_nothing_to_generate(url: str) -> None:
    await schema.upgrade(url)
    checked = await asyncio.to_thread(run_alembic, url, "check")
    assert checked.returncode == 0, checked.stderr
    assert "No new upgrade operations" in checked.stdout


def run_alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_alembic_command_goes_up_and_down(sqlite_url: str) -> None:
    for arguments in (("upgrade", "head"), ("downgrade", "-1"), ("upgrade", "head")):
        done = await asyncio.to_thread(run_alembic, sqlite_url, *arguments)
        assert done.returncode == 0, done.stderr
    assert (await schema.current(sqlite_url)).fitness is schema.Fitness.CURRENT


INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name",
    "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    " AND tablename <> 'alembic_version' ORDER BY indexname",
}


async def indexes_of(url: str) -> list[Any]:
    return await rows(url, INDEXES[url.split("+")[0]])


async def test_migrated_indexes_have_the_conditions_of_the_models(url: str) -> None:
    """`alembic check` does not look at the WHERE of a partial index."""
    await schema.upgrade(url)
    migrated = await indexes_of(url)
    await migrate(url, "downgrade", "base")
    store = Store(url)
    async with store.write() as connection:
        await connection.run_sync(metadata.create_all)
    await store.close()
    assert migrated == await indexes_of(url)


async def test_b1c2d3e4f5a6_adds_exactly_its_four_columns(url: str) -> None:
    await migrate(url, "upgrade", BASE)
    before = await columns_of(url, "clients")
    commands_before = await columns_of(url, "client_commands")
    await migrate(url, "upgrade", FAILURES)
    assert await columns_of(url, "clients") - before == FAILURE_COLUMNS
    assert before - await columns_of(url, "clients") == set()
    assert await columns_of(url, "client_commands") == commands_before
    await migrate(url, "downgrade", BASE)
    assert await columns_of(url, "clients") == before


async def test_upgrading_a_filled_database_keeps_every_row(url: str) -> None:
    await migrate(url, "upgrade", BASE)
    await fill_base(url)
    await migrate(url, "upgrade", FAILURES)
    await rows(url, "UPDATE clients SET service_failed_unit = 'app.service' WHERE uuid = 'u1'")
    await schema.upgrade(url)
    assert await rows(url, "SELECT uuid, sort_key, service_failed_unit FROM clients ORDER BY uuid") == [
        ("u1", "arger", "app.service"),
        ("u2", "host", None),
        ("u3", "berlin", None),
    ]
    assert await rows(
        url,
        "SELECT command_id, status, publish_count FROM client_commands"
        " WHERE deadline_at = expires_at ORDER BY command_id",
    ) == [("c1", "completed", 0), ("c2", "published", 0)]
    # And finds every client by what it is called, in whatever case.
    assert await rows(url, "SELECT client_uuid, text FROM client_search ORDER BY client_uuid") == [
        ("u1", "u1\narger\nhost\nlobby"),
        ("u2", "u2\nhost\nlobby"),
        ("u3", "u3\nberlin\nhost\nlobby"),
    ]
    assert await rows(url, "SELECT tag, count(*) FROM client_tags GROUP BY tag") == [("lobby", 3)]
    store = Store(url)
    async with store.read() as connection:
        for q, uuids in (("ÄRG", ["u1"]), ("OST", ["u3", "u1", "u2"]), ("nowhere", [])):
            found = await client_lists.matching_uuids(connection, ClientQuery(q=q), 10)
            assert sorted(found) == sorted(uuids)
    await store.close()


async def test_shown_failures_become_a_row_for_their_unit(url: str) -> None:
    await migrate(url, "upgrade", BASE)
    await fill_base(url)
    await migrate(url, "upgrade", "d5e1a0c70001")
    await rows(
        url,
        f"UPDATE clients SET service_failed_at = '{NOW}', service_failed_unit = 'app.service'"
        " WHERE uuid = 'u1'",
    )
    await schema.upgrade(url)
    assert await rows(url, "SELECT client_uuid, unit, held, cleared_at FROM failed_services") == [
        ("u1", "app.service", True, None)
    ]
    store = Store(url)
    async with store.read() as connection:
        known = (await failed_services.of_clients(connection, ["u1"]))["u1"]
        shown = (await clients.get_many(connection, ["u1"]))["u1"].failed_services
    await store.close()
    at = datetime.fromisoformat(NOW).replace(tzinfo=UTC)
    assert known["app.service"].known == (at,)
    assert [(one.unit, one.failed_at) for one in shown] == [("app.service", at)]
    await migrate(url, "downgrade", "d5e1a0c70001")
    assert await rows(url, "SELECT count(*) FROM clients WHERE service_failed_at IS NOT NULL") == [(1,)]


async def test_going_all_the_way_down_keeps_clients_and_commands(url: str) -> None:
    await migrate(url, "upgrade", BASE)
    await fill_base(url)
    await schema.upgrade(url)
    await fill_children(url)
    for revision in ("c2d3e4f5a6b7", FAILURES, BASE):
        await migrate(url, "downgrade", revision)
        assert await rows(url, "SELECT count(*) FROM clients") == [(3,)]
        assert await rows(url, "SELECT count(*) FROM client_commands") == [(2,)]
    await schema.upgrade(url)
    assert await rows(url, "SELECT name FROM clients ORDER BY uuid") == [("Ärger",), (None,), ("berlin",)]


async def test_the_newest_tables_come_and_go_on_a_filled_database(url: str) -> None:
    await schema.upgrade(url)
    user = f"(1, 'ada', '-', 'admin', '{NOW}')"
    await rows(url, f"INSERT INTO users (id, username, password_hash, role, created_at) VALUES {user}")
    for uuid, status in (("u1", "off_hours"), ("u2", "not_showing"), ("u3", "online")):
        await rows(
            url,
            "INSERT INTO clients (uuid, created_at, status, status_since, tags, capabilities, site, signs)"
            f" VALUES ('{uuid}', '{NOW}', '{status}', '{NOW}', '[]', '[]', 'Berlin', '[]')",
        )
    for number, uuid, action, status, waits in (
        (1, "u1", "reboot_host", "published", "NULL"),
        (2, "u1", "restart_app", "queued", "'turn'"),
        (3, "u1", "restart_app", "queued", "'client'"),
        (4, "u2", "power_cycle", "execution_started", "NULL"),
    ):
        await rows(
            url,
            "INSERT INTO client_commands (command_id, client_uuid, action, status, source, created_at,"
            " expires_at, deadline_at, batch_id, waits_for)"
            f" VALUES ('c{number}', '{uuid}', '{action}', '{status}', 'operator', '{NOW}', '{NOW}', '{NOW}',"
            f" 'b1', {waits})",
        )
        await rows(
            url,
            "INSERT INTO command_events (command_id, client_uuid, at, to_status, by)"
            f" VALUES ('c{number}', '{uuid}', '{NOW}', '{status}', 'ada')",
        )
    for statement in (
        "INSERT INTO power_cycles (command_id, client_uuid, outlet_key, outlet, cycle, began_at)"
        f" VALUES ('c4', 'u2', 'k', '{{}}', '{{}}', '{NOW}')",
        "INSERT INTO bulk_actions (batch_id, action, source, actor, at, clients)"
        f" VALUES ('b1', 'restart_app', 'operator', 'ada', '{NOW}', 1)",
        "INSERT INTO bulk_results (batch_id, position, client_uuid, outcome)"
        " VALUES ('b1', 0, 'u1', 'queued')",
        "INSERT INTO client_intervals (client_uuid, condition, began_at, ended_at)"
        f" VALUES ('u2', 'online', '{NOW}', '{NOW}')",
        f"INSERT INTO sites (name, hours, created_at) VALUES ('Berlin', 'Mo-Fr 08:00-20:00', '{NOW}')",
        "INSERT INTO recovery_codes (user_id, code_hash) VALUES (1, 'x')",
        "INSERT INTO identities (issuer, subject, user_id) VALUES ('i', 's', 1)",
    ):
        await rows(url, statement)
    await migrate(url, "downgrade", "a0711f1ca702")
    assert await rows(url, "SELECT uuid, status FROM clients ORDER BY uuid") == [
        ("u1", "unreachable"),
        ("u2", "online"),
        ("u3", "online"),
    ]
    # The version before would have sent what waits, and knows nothing of outlets.
    assert await rows(url, "SELECT command_id, status FROM client_commands ORDER BY command_id") == [
        ("c1", "published"),
        ("c2", "cancelled"),
        ("c3", "cancelled"),
    ]
    await schema.upgrade(url)
    assert await rows(url, "SELECT name, hours FROM sites") == [("Berlin", None)]
    assert await rows(url, "SELECT hours, within_hours FROM clients") == [("24/7", True)] * 3


async def test_the_recovery_comes_and_goes_and_its_clients_stay(url: str) -> None:
    await migrate(url, "upgrade", "d3e4f5a6b7c8")
    await fill_newer(url)
    await schema.upgrade(url)
    assert await rows(url, "SELECT uuid, well_until, heartbeats_at_change FROM clients") == [("u1", None, 0)]
    await rows(
        url,
        "INSERT INTO recovery_ladders"
        " (client_uuid, phase, began_at, unwell_since, changed_at, rung, returns)"
        f" VALUES ('u1', 'climbing', '{NOW}', '{NOW}', '{NOW}', 1, 0)",
    )
    decision = (
        "INSERT INTO recovery_decisions"
        " (client_uuid, verb, reason, arguments, would, first_at, first_poll)"
        f" VALUES ('u1', 'wait', 'grace', '{{}}', false, '{NOW}', 1)"
    )
    await rows(url, decision)
    with pytest.raises(IntegrityError):  # one stands at a time, and the index says so
        await rows(url, decision)
    await rows(url, "DELETE FROM clients WHERE uuid = 'u1'")
    assert await rows(url, "SELECT count(*) FROM recovery_decisions") == [(0,)]
    await fill_newer(url)
    await migrate(url, "downgrade", "d3e4f5a6b7c8")
    assert await rows(url, "SELECT uuid, status FROM clients") == [("u1", "online")]
    assert "well_until" not in await columns_of(url, "clients")
    await schema.upgrade(url)


async def fill_newer(url: str) -> None:
    """One client as the schema before the recovery's could hold it."""
    await rows(
        url,
        "INSERT INTO clients (uuid, created_at, status, status_since, tags, capabilities)"
        f" VALUES ('u1', '{NOW}', 'online', '{NOW}', '[]', '[]')",
    )


async def test_outages_become_incidents_with_members_and_back(url: str) -> None:
    before = "a6b7c8d9e0f1"
    await migrate(url, "upgrade", before)
    await fill_newer(url)
    for uuid in ("u2", "u3"):
        await rows(
            url,
            "INSERT INTO clients (uuid, created_at, status, status_since, tags, capabilities)"
            f" VALUES ('{uuid}', '{NOW}', 'hung', '{NOW}', '[]', '[]')",
        )
    ladder = "(client_uuid, phase, began_at, unwell_since, changed_at, rung, returns, tried, would)"
    attempt = "(command_id, client_uuid, rung, would, decided_at, published_at, ended_at, outcome)"
    decision = "(client_uuid, verb, reason, arguments, would, incident_id, first_at, first_poll, last_at)"
    for statement in (
        f"INTO recovery_ladders {ladder}"
        f" VALUES ('u1', 'climbing', '{NOW}', '{NOW}', '{NOW}', 1, 0, 0, false)",
        f"INTO recovery_ladders {ladder} VALUES ('u2', 'climbing', '{NOW}', '{NOW}', '{NOW}', 2, 0, 0, true)",
        f"INTO recovery_attempts {attempt} VALUES"
        f" ('c1', 'u1', 1, false, '{NOW}', '{NOW}', '{NOW}', 'recovered')",
        f"INTO recovery_attempts {attempt} VALUES ('c2', 'u2', 1, true, '{NOW}', '{NOW}', NULL, NULL)",
        f"INTO recovery_incidents (kind, site, began_at, clients)"
        f" VALUES ('site_outage', 'Messe', '{NOW}', 2)",
        f"INTO recovery_incidents (kind, began_at, ended_at) VALUES ('observer', '{NOW}', '{NOW}')",
        *(
            f"INTO recovery_decisions {decision} VALUES ('{uuid}', 'hold', '{reason}', '{{}}', false,"
            f" {incident}, '{NOW}', 1, NULL)"
            for uuid, reason, incident in (
                ("u1", "site_outage", "(SELECT min(id) FROM recovery_incidents)"),
                ("u2", "storm", "(SELECT min(id) FROM recovery_incidents)"),
                ("u3", "budget", "NULL"),
            )
        ),
    ):
        await rows(url, f"INSERT {statement}")
    await schema.upgrade(url)
    assert await rows(url, "SELECT kind, site, members, closing FROM incidents ORDER BY id") == [
        ("site_outage", "Messe", 2, "over"),
        ("observer", None, 0, "over"),
    ]
    assert await rows(url, "SELECT client_uuid FROM incident_members ORDER BY client_uuid") == [
        ("u1",),
        ("u2",),
    ]
    assert await rows(url, "SELECT client_uuid FROM recovery_ladders") == [("u1",)]
    assert await rows(url, "SELECT command_id, outcome FROM recovery_attempts") == [("c1", "helped")]
    told = "SELECT client_uuid, reason FROM recovery_decisions ORDER BY client_uuid"
    assert await rows(url, told) == [("u1", "site_outage"), ("u2", "outage_suspected")]
    await rows(url, f"INSERT INTO incidents (key, kind, began_at) VALUES ('k', 'alike', '{NOW}')")
    await rows(url, "UPDATE recovery_decisions SET reason = 'no_effect' WHERE client_uuid = 'u2'")
    await migrate(url, "downgrade", before)
    assert await rows(url, "SELECT kind, clients FROM recovery_incidents ORDER BY id") == [
        ("site_outage", 2),
        ("observer", 0),
    ]
    assert await rows(url, told) == [("u1", "site_outage")]
    assert await rows(url, "SELECT outcome, would FROM recovery_attempts") in (
        [("recovered", False)],
        [("recovered", 0)],
    )
    await rows(url, f"INSERT INTO recovery_incidents (kind, began_at) VALUES ('fleet_outage', '{NOW}')")
    await schema.upgrade(url)
    assert await rows(url, "SELECT count(*) FROM incidents") == [(3,)]


BEFORE_LONG_HISTORIES, LONG_HISTORIES = "d5e1a0c70001", "f5a6b7c8d9e0"
BIG = 2**40


async def fill_histories(url: str, first: int | None) -> None:
    """Three rows in every history, the last two related; numbered from ``first``, or by the database."""
    columns, number = ("", "") if first is None else ("id, ", "{}, ")
    numbers = [number.format((first or 0) + offset) for offset in range(3)]
    for nth, key in enumerate(numbers):
        for statement in (
            f"INTO timeline ({columns}client_uuid, at, kind, text)"
            f" VALUES ({key}'u1', '{NOW}', 'log', '{nth}')",
            f"INTO command_events ({columns}command_id, client_uuid, at, to_status, by, times)"
            f" VALUES ({key}'c1', 'u1', '{NOW}', 'queued', '{nth}', {first or 1})",
            f"INTO audit ({columns}at, actor, via, action) VALUES ({key}'{NOW}', '{nth}', 'cli', 'act')",
            f"INTO rejected_messages ({columns}at, topic, reason, detail, size, head)"
            f" VALUES ({key}'{NOW}', '', '', '{nth}', 1, '')",
            f"INTO recovery_incidents ({columns}kind, began_at) VALUES ({key}'site_outage', '{NOW}')",
            f"INTO recovery_decisions ({columns}client_uuid, verb, reason, arguments, would, incident_id,"
            f" first_at, first_poll, last_at) VALUES ({key}'u1', 'wait', 'grace', '{{}}', false,"
            f" (SELECT max(id) FROM recovery_incidents), '{NOW}', 1, '{NOW}')",
        ):
            await rows(url, f"INSERT {statement}")
    if first is not None and url.startswith("postgres"):
        for table in HISTORIES:
            await rows(url, f"SELECT setval('{table}_id_seq', {first + 2})")


HISTORIES = {
    "timeline": "text",
    "command_events": "by",
    "audit": "actor",
    "rejected_messages": "detail",
    "recovery_incidents": "id - (SELECT min(id) FROM recovery_incidents)",
    "recovery_decisions": "incident_id - (SELECT min(id) FROM recovery_incidents)",
}


async def test_histories_outgrow_32_bits_and_shrink_again_on_a_filled_database(url: str) -> None:
    await migrate(url, "upgrade", BASE)
    await fill_base(url)
    await migrate(url, "upgrade", BEFORE_LONG_HISTORIES)
    await fill_histories(url, None)
    await migrate(url, "upgrade", LONG_HISTORIES)
    await fill_histories(url, BIG)
    await rows(url, f"UPDATE clients SET heartbeats = {BIG} WHERE uuid = 'u1'")
    for direction in ("", "downgrade", "upgrade"):
        if direction:
            target = {"downgrade": BEFORE_LONG_HISTORIES, "upgrade": LONG_HISTORIES}[direction]
            await migrate(url, direction, target)
        for table, what in HISTORIES.items():
            told = [str(one[0]) for one in await rows(url, f"SELECT {what} FROM {table} ORDER BY id")]
            if table.startswith("recovery"):
                assert len(told) == 6
                assert len(set(told)) == 6
            else:
                assert told == ["0", "1", "2"] * 2, (direction, table)
        referred = (
            "SELECT count(*) FROM recovery_decisions WHERE incident_id IN (SELECT id FROM recovery_incidents)"
        )
        assert await rows(url, referred) == [(6,)], direction
        await fill_histories(url, None)  # the next number is free
        for table in HISTORIES:
            newest = f"(SELECT id FROM {table} ORDER BY id DESC LIMIT 3)"
            await rows(url, f"DELETE FROM {table} WHERE id IN {newest}")


async def test_copying_a_parent_table_keeps_its_children(sqlite_url: str) -> None:
    """A batch migration drops the old copy of ``clients``; with foreign keys on, its children too."""
    await migrate(sqlite_url, "upgrade", BASE)
    await fill_base(sqlite_url)
    await schema.upgrade(sqlite_url)
    await fill_children(sqlite_url)
    async with schema.migration(sqlite_url) as connection:
        await connection.run_sync(copy_clients)
    assert await rows(sqlite_url, "SELECT count(*) FROM client_commands") == [(2,)]
    assert await rows(sqlite_url, "SELECT count(*) FROM command_events") == [(1,)]
    assert await rows(sqlite_url, "SELECT count(*) FROM timeline") == [(1,)]
    await rows(sqlite_url, "DELETE FROM clients WHERE uuid = 'u1'")
    assert await rows(sqlite_url, "SELECT count(*) FROM timeline") == [(0,)]


def copy_clients(connection: Connection) -> None:
    operations = Operations(MigrationContext.configure(connection))
    with operations.batch_alter_table("clients", recreate="always"):
        pass


async def test_a_migration_that_leaves_orphans_changes_nothing(sqlite_url: str) -> None:
    await migrate(sqlite_url, "upgrade", BASE)
    await fill_base(sqlite_url)
    with pytest.raises(DatabaseNotReady, match="client_commands would belong to nothing"):
        async with schema.migration(sqlite_url) as connection:
            await connection.execute(text("DELETE FROM clients"))
    assert await rows(sqlite_url, "SELECT count(*) FROM clients") == [(3,)]


async def test_a_failed_upgrade_leaves_the_database_as_it_was(url: str) -> None:
    await migrate(url, "upgrade", FAILURES)
    await fill_base(url)
    await rows(url, "CREATE TABLE timeline (in_the_way INTEGER)")
    with pytest.raises(DatabaseNotReady, match="timeline"):
        await schema.upgrade(url)
    assert (await schema.current(url)).revision == FAILURES
    assert "stale_at" not in await columns_of(url, "clients")
    await rows(url, "DROP TABLE timeline")
    await schema.upgrade(url)


async def test_two_upgrades_at_once_both_end_well(url: str) -> None:
    results = await asyncio.gather(schema.upgrade(url), schema.upgrade(url))
    assert sorted(result.before or "" for result in results) == ["", HEAD]


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = Store(url)
    yield store
    await store.close()


async def test_a_migrated_database_is_fit(store: Store) -> None:
    await schema.upgrade(store.url)
    await schema.check(store)


async def test_a_database_never_migrated_is_refused_with_the_command_to_run(store: Store) -> None:
    with pytest.raises(DatabaseNotReady, match=r"not set up yet.*`infoscreen db upgrade`"):
        await schema.check(store)


async def test_checking_does_not_create_the_file(sqlite_url: str, tmp_path: Path) -> None:
    assert (await schema.current(sqlite_url)).fitness is schema.Fitness.EMPTY
    assert names_in(tmp_path) == []


async def test_a_database_behind_the_code_is_refused_with_the_command_to_run(store: Store) -> None:
    await migrate(store.url, "upgrade", FAILURES)
    with pytest.raises(
        DatabaseNotReady, match=rf"revision {FAILURES}.*needs {HEAD}.*`infoscreen db upgrade`"
    ):
        await schema.check(store)


async def test_a_database_newer_than_the_code_is_refused_and_left_alone(store: Store) -> None:
    await schema.upgrade(store.url)
    await rows(store.url, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    for refused in (schema.check(store), schema.upgrade(store.url)):
        with pytest.raises(DatabaseNotReady, match=r"ffffffffffff.*Upgrade infoscreen, or restore a backup"):
            await refused
    assert (await schema.current(store.url)).fitness is schema.Fitness.NEWER


async def test_a_file_that_is_no_database_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "infoscreen.db").write_text("this is a letter, not a database. " * 40)
    with pytest.raises(DatabaseNotReady, match=r"damaged \(SQLITE_NOTADB\)"):
        await schema.current(sqlite_url)


async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseNotReady, match=r"there is no directory .*missing"):
        await schema.upgrade(f"sqlite+aiosqlite:///{tmp_path}/missing/infoscreen.db")


async def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseNotReady, match="no file that this user may read and write"):
        await schema.current(f"sqlite+aiosqlite:///{tmp_path}")


async def test_a_server_that_is_not_there_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseNotReady, match="Check DATABASE_URL") as caught:
        await schema.current("postgresql+asyncpg://infoscreen:hidden@127.0.0.1:1/infoscreen?password=hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.postgres
async def test_a_wrong_password_is_refused_without_repeating_it(postgres_server: PostgresServer) -> None:
    with pytest.raises(DatabaseNotReady, match=r"does not let this user in \(28P01\)") as caught:
        await schema.current(postgres_server.url("postgres", "not-this-one"))
    assert "not-this-one" not in str(caught.value)


async def test_a_backup_of_a_database_in_use_is_whole_and_stands_alone(
    sqlite_url: str, tmp_path: Path
) -> None:
    await migrate(sqlite_url, "upgrade", BASE)
    await fill_base(sqlite_url)
    saved = tmp_path / "saved" / "copy.db"
    saved.parent.mkdir()
    store = Store(sqlite_url)
    async with store.write() as connection:
        await connection.execute(text("DELETE FROM clients WHERE uuid = 'u3'"))
        size = backups.backup(sqlite_url, saved)
    await store.close()
    assert names_in(saved.parent) == ["copy.db"]
    assert saved.stat().st_size == size
    assert saved.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"file:{saved}?mode=ro&immutable=1", uri=True)) as copy:
        assert copy.execute("SELECT count(*) FROM clients").fetchone() == (3,)


async def test_a_backup_never_overwrites(sqlite_url: str, tmp_path: Path) -> None:
    await schema.upgrade(sqlite_url)
    saved = tmp_path / "copy.db"
    saved.write_text("precious")
    with pytest.raises(ToolFailed, match="not overwritten"):
        backups.backup(sqlite_url, saved)
    assert saved.read_text() == "precious"


async def test_a_damaged_database_is_not_saved_as_a_backup(sqlite_url: str, tmp_path: Path) -> None:
    await schema.upgrade(sqlite_url)
    database = tmp_path / "infoscreen.db"
    data = bytearray(database.read_bytes())
    data[4096 * 3 : 4096 * 12] = b"\xff" * (4096 * 9)
    database.write_bytes(data)
    with pytest.raises(ToolFailed, match=r"damaged|malformed"):
        backups.backup(sqlite_url, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
    assert [name for name in names_in(tmp_path) if name.startswith(".copy")] == []


async def test_there_is_nothing_to_save_before_the_first_upgrade(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="nothing to save"):
        backups.backup(sqlite_url, tmp_path / "copy.db")
    assert names_in(tmp_path) == []


async def test_a_backup_into_a_missing_directory_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    await schema.upgrade(sqlite_url)
    with pytest.raises(ToolFailed, match="No such file or directory"):
        backups.backup(sqlite_url, tmp_path / "missing" / "copy.db")


async def test_postgresql_is_saved_with_its_own_tool(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="pg_dump"):
        backups.backup("postgresql+asyncpg://infoscreen@127.0.0.1/infoscreen", tmp_path / "copy.db")
