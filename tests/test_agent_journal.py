"""The agent's journal on disks that lose power, are full, or give back something else than was written."""

import json
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from infoscreen.agent.journal_file import FILE, JournalFile, JournalUnavailable
from infoscreen.agent.mail import Mail
from infoscreen.agent.protocol.journal import (
    AckGiven,
    AckSent,
    Entry,
    Forgotten,
    Journal,
    JournalContents,
    Linked,
    Lost,
    Record,
    StateAtStart,
)
from infoscreen.agent.refusals import SIZE, SLOTS, Refusals
from infoscreen.domain.commands import AckStatus, Action
from infoscreen.wire.messages import Command, CommandAck
from tests.fakes import FakeClock
from tests.test_agent_protocol import command

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def entry(status: AckStatus = AckStatus.ACCEPTED, before: StateAtStart | None = None) -> Entry:
    taken = Command.model_validate_json(command(Action.SCREENSHOT))
    return Entry(taken, CommandAck(command_id=taken.command_id, status=status), before)


def later(one: Entry, status: AckStatus) -> Entry:
    return Entry(
        one.command, CommandAck(command_id=one.command.command_id, status=status), StateAtStart("b", NOW)
    )


def life() -> list[Record]:
    """Return the records of a device that did this and that."""
    first, second, third = entry(), entry(), entry()
    return [
        *(Linked(1), AckGiven(1, first), AckSent(1), AckGiven(2, later(first, AckStatus.COMPLETED))),
        *(
            Linked(1, NOW),
            AckGiven(3, second),
            AckSent(2),
            AckGiven(4, third),
            Forgotten(second.command.command_id),
        ),
    ]


@pytest.fixture
def file(tmp_path: Path) -> JournalFile:
    file = JournalFile(tmp_path)
    file.open(NOW)
    return file


def test_what_was_written_is_known_to_the_next_process(file: JournalFile, tmp_path: Path) -> None:
    records = life()
    file.append(records)
    known = JournalFile(tmp_path).open(NOW)
    assert list(known.commands) == [2, 4]
    assert [entry.ack.status for entry in known.commands.values()] == ["completed", "accepted"]
    assert known.commands[2].before == StateAtStart("b", NOW)
    assert list(known.unsent) == [3, 4]
    assert (known.link, known.lost) == (Linked(1, NOW), None)
    assert Journal(known).unsent == list(known.unsent.items())


def test_the_journal_is_for_this_user_only(file: JournalFile) -> None:
    assert file.path.stat().st_mode & 0o077 == 0


def test_a_power_loss_at_any_byte_leaves_what_was_written_before_it(
    file: JournalFile, tmp_path: Path
) -> None:
    states = []
    for record in life():
        file.append([record])
        states.append(JournalFile(tmp_path).open(NOW))
    whole = (tmp_path / f"{FILE}-wal").read_bytes()
    assert whole
    for length in [*range(0, len(whole), 997), len(whole)]:
        copy = tmp_path / f"cut-{length}"
        copy.mkdir()
        shutil.copy(tmp_path / FILE, copy)
        (copy / f"{FILE}-wal").write_bytes(whole[:length])
        known = JournalFile(copy).open(NOW)
        assert known in [JournalContents.nothing(), *states]
        assert known.lost is None
    assert known == states[-1]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happened_to_the_file_a_command_is_known_or_mistrusted(tmp_path: Path, seed: int) -> None:
    file = JournalFile(tmp_path)
    file.open(NOW)
    given = [entry(AckStatus.COMPLETED) for _ in range(40)]
    file.append([AckGiven(serial, one) for serial, one in enumerate(given, start=1)])
    file.close()
    random = Random(seed)
    data = bytearray(file.path.read_bytes())
    match seed % 4:
        case 0:
            del data[random.randrange(1, len(data)) :]
        case 1:
            start = random.randrange(len(data))
            data[start : start + 4_096] = random.randbytes(4_096)
        case 2:
            for _ in range(3):
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        case 3:
            data[:] = random.randbytes(random.randrange(1, 20_000))
    file.path.write_bytes(data)
    again = JournalFile(tmp_path)
    known = again.open(NOW)
    ids = {one.command.command_id for one in known.commands.values()}
    assert known.lost == Lost(NOW) or ids == {one.command.command_id for one in given}
    again.append([AckGiven(1_000, entry())])
    assert JournalFile(tmp_path).open(NOW + timedelta(days=1)).lost == known.lost


def test_another_programs_database_is_moved_aside(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("CREATE TABLE commands (id INTEGER)")
    assert JournalFile(tmp_path).open(NOW) == JournalContents.nothing(lost=Lost(NOW))
    assert (tmp_path / "journal.damaged").exists()


def fill(file: JournalFile) -> None:
    """Let the disk have no room for another page."""
    assert file._database is not None
    pages = file._database.execute("PRAGMA page_count").fetchone()[0]
    file._database.execute(f"PRAGMA max_page_count={pages}")


def empty(file: JournalFile) -> None:
    assert file._database is not None
    file._database.execute("PRAGMA max_page_count=100000")


async def test_on_a_full_disk_nothing_is_forgotten_and_everything_written_later(
    file: JournalFile, tmp_path: Path, clock: FakeClock
) -> None:
    mail = Mail(file, JournalContents.nothing(), clock)
    assert await mail.save()
    fill(file)
    given = [entry() for _ in range(30)]
    for one in given:
        mail.journal.give(one)
        saved = await mail.save()
    assert not saved
    mail.journal.connected()
    assert not await mail.save()
    empty(file)
    assert await mail.save()
    known = JournalFile(tmp_path).open(NOW)
    assert list(known.commands.values()) == given
    assert list(known.unsent) == list(range(1, 31))
    assert known.link.connections == 1


@pytest.mark.parametrize("instead", ["nothing", "another file"])
async def test_a_file_that_was_taken_away_is_written_again_with_all_that_is_known(
    file: JournalFile, tmp_path: Path, clock: FakeClock, instead: str
) -> None:
    mail = Mail(file, JournalContents.nothing(), clock)
    first, second = entry(), entry()
    mail.journal.give(first)
    assert await mail.save()
    for path in [f"{FILE}-wal", f"{FILE}-shm", FILE]:
        (tmp_path / path).unlink(missing_ok=True)
    if instead == "another file":
        (tmp_path / FILE).write_bytes(b"x" * 5_000)
    mail.journal.give(second)
    await mail.save()
    assert await mail.save()
    known = JournalFile(tmp_path).open(NOW)
    assert list(known.commands.values()) == [first, second]


def test_rows_are_bounded(file: JournalFile, tmp_path: Path) -> None:
    kept: list[Record] = []
    journal = Journal(JournalContents.nothing(), keep=kept.append)
    for _ in range(3_000):
        journal.give(entry(AckStatus.FAILED))
        journal.connected()
    file.append(kept)
    known = JournalFile(tmp_path).open(NOW)
    assert (len(known.commands), len(known.unsent)) == (500, 2_000)


# The journal of earlier versions.


def old_line(fields: object) -> bytes:
    text = json.dumps(fields, separators=(",", ":")).encode()
    return b"\n%08x %s\n" % (zlib.crc32(text), text)


def test_the_journal_of_an_earlier_version_is_taken_over_once(tmp_path: Path) -> None:
    done, sent = entry(AckStatus.COMPLETED), entry(AckStatus.FAILED)
    lines = [old_line({"connections": 7, "last_disconnect_at": NOW.isoformat()})]
    for serial, one in ((4, done), (5, sent)):
        lines.append(
            old_line(
                {
                    "given": serial,
                    "command": one.command.model_dump(mode="json"),
                    "ack": one.ack.model_dump(mode="json"),
                    "boot_id": "b",
                    "app_started_at": None,
                }
            )
        )
    data = b"".join([*lines, old_line({"sent": 5}), b"\n0000 torn", old_line({"of": "another version"})])
    old = tmp_path / "journal"
    old.write_bytes(data)
    known = JournalFile(tmp_path).open(NOW)
    assert known.commands == {
        4: Entry(done.command, done.ack, StateAtStart("b")),
        5: Entry(sent.command, sent.ack, StateAtStart("b")),
    }
    assert known.unsent == {4: done.ack}
    assert known.link == Linked(7, NOW)
    assert not old.exists()
    file = JournalFile(tmp_path)
    file.open(NOW)
    file.append([AckSent(4)])
    old.write_bytes(data)  # as if the power had gone before it was deleted
    assert JournalFile(tmp_path).open(NOW).unsent == {}


# Refusals.


def test_refusals_are_remembered_on_a_disk_without_room_and_the_oldest_make_room(tmp_path: Path) -> None:
    uuid = str(uuid4())
    refusals = Refusals(tmp_path, uuid, {"RUNTIME_DIRECTORY": str(tmp_path / "nowhere")})
    assert refusals.load() == frozenset()
    assert (tmp_path / "refused").stat().st_size == SIZE
    ids = [uuid4() for _ in range(SLOTS + 10)]
    assert all(refusals.remember(one) for one in ids)
    assert (tmp_path / "refused").stat().st_size == SIZE
    assert Refusals(tmp_path, uuid, {}).load() == frozenset(ids[10:])


def test_without_a_state_directory_refusals_are_remembered_until_the_next_boot(tmp_path: Path) -> None:
    uuid, one = str(uuid4()), uuid4()
    runtime = {"RUNTIME_DIRECTORY": str(tmp_path)}
    refusals = Refusals(tmp_path / "nowhere", uuid, runtime)
    refusals.load()
    assert refusals.remember(one)
    assert Refusals(tmp_path / "nowhere", uuid, runtime).load() == frozenset({one})
    nowhere = Refusals(tmp_path / "nowhere", uuid, {"RUNTIME_DIRECTORY": str(tmp_path / "nowhere")})
    assert not nowhere.remember(one)


def test_a_file_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    uuid, target = str(uuid4()), tmp_path / "target"
    target.touch()
    (tmp_path / f"infoscreen-agent-{uuid}-refused").symlink_to(target)
    refusals = Refusals(tmp_path / "nowhere", uuid, {"RUNTIME_DIRECTORY": str(tmp_path)})
    assert not refusals.remember(uuid4())
    assert target.read_bytes() == b""


def test_calls_of_several_threads_take_turns(tmp_path: Path) -> None:
    """A task that is cancelled leaves its call running: two at once ended the process or lost the file."""
    script = (
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom datetime import UTC, datetime\n"
        "from pathlib import Path\nfrom infoscreen.agent.journal_file import JournalFile\n"
        "file, now = JournalFile(Path(sys.argv[1])), datetime.now(UTC)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(sum(contents.lost is not None for contents in pool.map(file.open, [now] * 200)))\n"
    )
    process = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_a_journal_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(JournalUnavailable, match="unable to open"):
        JournalFile(tmp_path).open(NOW)
