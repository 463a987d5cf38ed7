"""Backups: made while in use, verified, rotated, restored; damage is noticed before it does harm."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from infoscreen.domain.errors import ToolFailed
from infoscreen.storage import backups, schema
from infoscreen.storage.engine import Store
from tests.commands import CommandLine
from tests.postgres import PASSWORD
from tests.programs import require
from tests.template import copy_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def _migrate(url: str) -> None:
    await schema.upgrade(url)


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    file = tmp_path / "place" / "infoscreen.db"
    file.parent.mkdir()
    await copy_of("migrated", file, _migrate)
    file.chmod(0o600)
    return file


@pytest.fixture
def url(database: Path) -> str:
    return f"sqlite+aiosqlite:///{database}"


@pytest.fixture
def saved(url: str, tmp_path: Path) -> Path:
    file = tmp_path / "saved.db"
    backups.backup(url, file)
    return file


def mark(file: Path, text: str) -> None:
    """Leave something that tells two databases apart, in the write-ahead log only."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS marks (text)")
        connection.execute("INSERT INTO marks VALUES (?)", (text,))
        connection.commit()


def marks(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone():
            return []
        return [text for (text,) in connection.execute("SELECT text FROM marks ORDER BY rowid")]


def corrupt_an_index(file: Path) -> None:
    """Let two indexes miss their rows, as a file with another file's write-ahead log does."""
    with closing(sqlite3.connect(file)) as connection:
        for name, value in (("one", 1), ("two", 2)):
            connection.execute(f"CREATE TABLE {name} (a)")
            connection.execute(f"CREATE INDEX by_{name} ON {name} (a)")
            connection.execute(f"INSERT INTO {name} VALUES (?)", (value,))
        connection.commit()
        found = connection.execute(
            "SELECT name, rootpage FROM sqlite_master WHERE name IN ('by_one', 'by_two')"
        )
        pages = dict(found)
        connection.execute("PRAGMA writable_schema=ON")
        for name, other in (("by_one", "by_two"), ("by_two", "by_one")):
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (pages[other], name))
        connection.commit()


def test_a_backup_can_be_read_by_its_owner_only(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_a_new_database_can_be_read_by_its_owner_only(database: Path, tmp_path: Path) -> None:
    line = f"DATABASE_URL=sqlite+aiosqlite:///{tmp_path}/fresh.db python -m infoscreen db upgrade"
    subprocess.run(["sh", "-c", f"umask 000; {line}"], check=True, env=_environment())
    assert stat.S_IMODE((tmp_path / "fresh.db").stat().st_mode) == 0o600


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_verify_tells_what_is_in_a_backup(saved: Path) -> None:
    found = backups.verify(saved)
    assert (found.file, found.fitness, found.clients) == (str(saved), schema.Fitness.CURRENT, 0)
    assert not Path(f"{saved}-shm").exists()


@pytest.mark.parametrize(
    "damage", ["empty", "text", "half", "index", "page", "another database", "newer wal"]
)
def test_verify_and_restore_refuse_what_is_not_whole(
    url: str, saved: Path, database: Path, damage: str
) -> None:
    match damage:
        case "empty":
            saved.write_bytes(b"")
        case "text":
            saved.write_text("no database at all\n" * 1000)
        case "half":
            saved.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
        case "index":
            corrupt_an_index(saved)
        case "page":
            content = bytearray(saved.read_bytes())
            content[4096 * 3 : 4096 * 4] = b"\xff" * 4096
            saved.write_bytes(content)
        case "another database":
            saved.unlink()
            with closing(sqlite3.connect(saved)) as connection:
                connection.execute("CREATE TABLE other (a)")
                connection.commit()
        case _:
            Path(f"{saved}-wal").write_bytes(b"something")
    before = database.read_bytes()
    with pytest.raises(ToolFailed):
        backups.verify(saved)
    with pytest.raises(ToolFailed):
        backups.restore(url, saved, NOW)
    assert database.read_bytes() == before
    assert [file.name for file in database.parent.iterdir()] == [database.name]


async def test_the_checks_notice_a_corrupt_index(url: str, database: Path) -> None:
    corrupt_an_index(database)
    store = Store(url)
    try:
        async with store.read() as connection:
            assert await connection.scalar(text("PRAGMA quick_check")) == "ok"
        assert "missing from index" in (await schema.damage(store) or "")
    finally:
        await store.close()


def test_restore_puts_the_backup_in_place_and_keeps_what_was_there(
    url: str, saved: Path, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    mark(database, "written after the backup")
    done = backups.restore(url, saved, NOW)
    assert marks(database) == []
    assert done.kept == f"{database}.before-restore-20260102T030405Z"
    assert marks(Path(done.kept)) == ["written after the backup"]
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_a_write_ahead_log_that_a_killed_daemon_left_does_not_undo_a_restore(
    url: str, saved: Path, database: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE marks (text)")
        connection.execute("INSERT INTO marks VALUES ('in the log')")
        connection.commit()
        left = {ending: Path(f"{database}{ending}").read_bytes() for ending in ("", "-wal")}
    for ending, content in left.items():  # as kill -9 leaves them
        Path(f"{database}{ending}").write_bytes(content)
    done = backups.restore(url, saved, NOW)
    assert marks(database) == []
    assert done.kept is not None
    assert marks(Path(done.kept)) == ["in the log"]


def test_restore_replaces_a_database_that_is_damaged_lost_or_empty(
    url: str, saved: Path, database: Path
) -> None:
    database.write_bytes(b"\xff" * 8192)
    Path(f"{database}-wal").write_bytes(b"old")
    done = backups.restore(url, saved, NOW)
    assert done.kept is not None
    assert Path(done.kept).read_bytes() == b"\xff" * 8192
    assert Path(f"{done.kept}-wal").read_bytes() == b"old"
    database.write_bytes(b"")
    assert backups.restore(url, saved, NOW + timedelta(seconds=1)).kept is not None
    database.unlink()
    assert backups.restore(url, saved, NOW + timedelta(seconds=2)).kept is None
    assert backups.verify(database).fitness is schema.Fitness.CURRENT


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_restore_refuses_while_anybody_has_the_database_open(
    url: str, saved: Path, database: Path, mode: str
) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute(f"PRAGMA journal_mode={mode}")
        other.isolation_level = None
        if mode == "DELETE":
            other.execute("BEGIN")
        other.execute("SELECT count(*) FROM clients").fetchone()
        with pytest.raises(ToolFailed, match="in use"):
            backups.restore(url, saved, NOW)
    assert sorted(file.name for file in database.parent.iterdir()) == [database.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_whom_it_belonged_before(url: str, saved: Path, database: Path) -> None:
    os.chown(database.parent, 4711, 4712)
    os.chown(database, 4711, 4712)
    backups.restore(url, saved, NOW)
    assert (database.stat().st_uid, database.stat().st_gid) == (4711, 4712)
    database.unlink()
    backups.restore(url, saved, NOW + timedelta(seconds=1))
    assert (database.stat().st_uid, database.stat().st_gid) == (4711, 4712)


def test_restore_names_what_is_not_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="missing"):
        backups.restore(url, tmp_path / "missing.db", NOW)


def test_old_backups_go_and_other_files_stay(url: str, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    place.mkdir()
    (place / "notes.txt").touch()
    made = [backups.back_up_into(url, place, 3, NOW + timedelta(days=day))[0] for day in range(5)]
    assert backups.backups_in(place) == made[:1:-1]
    assert sorted(file.name for file in place.iterdir()) == [*(file.name for file in made[2:]), "notes.txt"]


def test_the_commands_back_up_verify_and_restore(
    url: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = CommandLine(tmp_path, monkeypatch)
    here.give(f"DATABASE_URL={url}", "HTTP_PORT=1")
    here.ok("db", "backup", "one.db")
    assert "0 clients" in here.ok("db", "verify", "one.db").out
    mark(database, "later")
    done = here.ok("db", "restore", "--yes", "one.db").out
    assert f"Restored {database} from {tmp_path}/one.db" in done
    assert "is kept as" in done
    assert marks(database) == []


@pytest.mark.postgres
async def test_the_commands_that_are_named_for_postgresql_work(postgres: str, tmp_path: Path) -> None:
    """The printed commands save, verify and restore."""
    require("pg_dump")
    await schema.upgrade(postgres)
    with pytest.raises(ToolFailed) as caught:
        backups.backup(postgres, tmp_path / "x")
    said = str(caught.value).split("`")[1::2]
    assert [command.split()[0] for command in said] == ["pg_dump", "pg_restore", "pg_restore"]
    for command in said:
        arguments = command.replace("FILE", str(tmp_path / "saved"))
        await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", arguments],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            capture_output=True,
        )
    assert (await schema.current(postgres)).fitness is schema.Fitness.CURRENT
