"""Any value for any setting: a sentence that names the variable, or a daemon that works with it."""

import asyncio
import os
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoscreen import config_check
from infoscreen.cli.configuration import check
from infoscreen.domain.commands import Action, Source
from infoscreen.domain.errors import InvalidSettings
from infoscreen.judge.daemon import build
from infoscreen.judge.surroundings import VirtualLink, VirtualPublisher
from infoscreen.services.ports import Incoming
from infoscreen.settings import Settings, effective
from infoscreen.storage import address
from infoscreen.storage.memory import in_memory
from tests.fakes import FakeClock
from tests.spine import OPERATOR, uuid_of, zulu

NAMES = sorted(name.upper() for name in Settings.model_fields)
NEEDED = {"MQTT_USER": "u", "MQTT_PASSWORD": "p"}

NASTY = [
    *("0", "-1", "1e12", "1e308", "1e-308", "nan", "inf", "-inf", "4000000", "0.01", "0.009", "2592000"),
    *("2592001", "9" * 400, "9" * 5000, "0x10", "1_000", " 5 ", "٣", "1,5", "true", "TRUE", "off", "none"),
    *("", " ", "\t", "\n", "\0", "\x1b[31m", "ä", "\u202e", "🖥", "a" * 300, "a" * 5000, "..", "a..b", "-a"),
    *("127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "localhost", "256.1.1.1", "host name", "host/path", "a:1"),
    *(
        "10.0.0.0/8",
        "10.0.0.1/8",
        "10.0.0.0/8,,::/0",
        "https://x",
        "https://[",
        "https://x:y",
        "https://a..b",
    ),
    *("/", "/etc/passwd", "/nonexistent", "/dev/null", "/" + "a" * 300, ".", "~"),
    *("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite:///x.db?mode=ro", "sqlite+aiosqlite:////" + "a" * 300),
    *("postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg://u:p@h:port/d", "postgresql+asyncpg://u:p@h:0/d"),
    *("postgresql+asyncpg://u:p@[::1/d", "postgresql+asyncpg://u:p@/d", "postgresql+asyncpg:///d"),
]
text = st.text(st.characters(codec="utf-8"), max_size=40)
numbers = st.one_of(st.floats().map(repr), st.integers().map(str), st.floats(0.001, 1e7).map(repr))
value = st.one_of(st.sampled_from(NASTY), text, numbers)


@contextmanager
def environment(directory: Path, given_values: Mapping[str, str]) -> Iterator[None]:
    """Let the environment name these settings and no others, in an empty working directory.

    What an environment cannot hold stands in ``.env``.
    """
    before, here = dict(os.environ), Path.cwd()
    try:
        os.chdir(directory)
        for name in (*NAMES, "CREDENTIALS_DIRECTORY"):
            os.environ.pop(name, None)
        os.environ.update({name: one for name, one in given_values.items() if "\0" not in one})
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.sampled_from(NAMES), value, max_size=4))
def test_any_value_is_either_told_in_a_sentence_or_serves_for_an_hour(
    tmp_path: Path, given_values: dict[str, str]
) -> None:
    with environment(tmp_path, NEEDED | given_values):
        try:
            found = config_check.loaded()
        except InvalidSettings as error:
            told = str(error).splitlines()
            assert told
            for line in told:
                assert line.isprintable()
                named = line.partition("=")[0].partition(" ")[0].rstrip(":")
                assert named in NAMES or line.startswith("cannot load"), line
            return
        assert effective(found)
    asyncio.run(an_hour(found))


async def an_hour(found: Settings) -> None:
    """Let the daemon's own services live for an hour of virtual time: heartbeats, silence, a command."""
    clock = FakeClock()
    link, publisher = VirtualLink(clock), VirtualPublisher()
    link.connect()
    store = await in_memory()
    try:
        daemon = build(found, store, clock, link, publisher, clock.now() - timedelta(days=1))
        for minute in range(60):
            if minute < 20:
                for number in range(3):
                    beat = f'{{"timestamp": "{zulu(clock.now())}", "process_status": "running"}}'.encode()
                    topic = f"infoscreen/{uuid_of(number)}/heartbeat"
                    await daemon.ingest.handle([Incoming(topic, beat, False)], clock.now())
            if minute == 5 and found.auto_register_clients:
                await daemon.commanding.request(
                    uuid_of(0), Action.RESTART_APP, source=Source.OPERATOR, actor=OPERATOR
                )
            await daemon.outbox.step()
            await daemon.watch.look()
            await daemon.watch.sweep()
            await daemon.watch.tidy()
            await daemon.recovering.poll()
            clock.advance(60)
    finally:
        await store.close()


SECRET = f"s3cr3t{uuid4().hex[:6]}"
password = st.text(string.ascii_letters + string.digits + "@:/?#%&= []\\'\"$!", max_size=8).map(
    lambda more: f"{SECRET}{more}{SECRET}"
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    user=st.sampled_from(["u", "us er", "us/er", "us@er", ""]),
    password=password,
    rest=st.sampled_from(
        ["@h/d", "@h:1/d", "@h:x/d", "@/d", "/d", "", "@h", "@h/d?sslmode=require", "@[::1]:1/d"]
    ),
    scheme=st.sampled_from(
        ["postgresql+asyncpg://", "postgresql://", "postgresql+asyncpg:/", "mysql://", ""]
    ),
)
def test_no_part_of_a_password_is_ever_shown(
    tmp_path: Path, user: str, password: str, rest: str, scheme: str
) -> None:
    url = f"{scheme}{user}:{password}{rest}"
    with environment(tmp_path, NEEDED | {"DATABASE_URL": url}):
        try:
            shown = repr(effective(config_check.loaded()))
        except InvalidSettings as error:
            shown = str(error)
    assert SECRET not in shown
    assert SECRET[:6] not in shown


FINE = [
    "postgresql+asyncpg://u:p@h/d?sslmode=require",
    "postgresql+asyncpg://u:p@h/d?sslmode=disable&application_name=infoscreen",
    "postgresql+asyncpg://u:p@h:5433/d?connect_timeout=3",
    "postgresql+asyncpg://u:p@h/d?connect_timeout=0",
    "postgresql+asyncpg://u:p@a,b:5433/d?target_session_attrs=read-write",
    "postgresql+asyncpg://u:p@h/d?options=-c%20search_path%3Dinfoscreen",
    "postgresql+asyncpg://u:p%40ss%2Fw%3Ard@h/d",
    "postgresql+asyncpg://u@/d?host=/var/run/postgresql",
    "postgresql+asyncpg://u:p@[::1]:5432/d",
    "postgresql+asyncpg:///?host=h&user=u&password=p&dbname=d",
    "sqlite+aiosqlite:///infoscreen.db",
    "sqlite+aiosqlite:////var/lib/infoscreen/infoscreen.db",
]
WRONG = {
    "postgresql+asyncpg://u:p@h:port/d": "port must be a number",
    "postgresql+asyncpg://u:p@h:0/d": "port must be a number",
    "postgresql+asyncpg://u:p@h:70000/d": "port must be a number",
    "postgresql+asyncpg://u:p@ss@h/d": "@ is written %40",
    "postgresql+asyncpg://u:p/ss@h/d": "@ is written %40",
    "postgresql+asyncpg://u:p#ss@h/d": "# %23",
    "postgresql+asyncpg://u:p@h/d?sslmode=maybe": "sslmode: allowed is",
    "postgresql+asyncpg://u:p@h/d?sslmode=verify-full": "needs sslrootcert",
    "postgresql+asyncpg://u:p@h/d?sslmode=verify-full&sslrootcert=/nonexistent": "sslrootcert: no such file",
    "postgresql+asyncpg://u:p@h/d?connect_timeout=soon": "connect_timeout: allowed is",
    "postgresql+asyncpg://u:p@h/d?target_session_attrs=standby": "target_session_attrs: allowed is",
    "postgresql+asyncpg://u:p@h/d?sslmod=require": "sslmod is not understood",
    "postgresql+asyncpg://u:p@h/d?sslmode": "only NAME=VALUE",
    "sqlite+aiosqlite:///x.db?mode=ro": "not allowed for SQLite",
    "sqlite+aiosqlite:////" + "a" * 300: "too long",
}


@pytest.mark.parametrize("url", FINE)
def test_the_usual_parameters_of_a_database_url_are_understood(url: str) -> None:
    parsed = address.parse(url)
    address.prove(parsed)
    assert parsed.is_sqlite == url.startswith("sqlite")


@pytest.mark.parametrize(("url", "reason"), WRONG.items())
def test_a_database_url_that_cannot_work_is_told_by_the_check(tmp_path: Path, url: str, reason: str) -> None:
    with environment(tmp_path, NEEDED | {"DATABASE_URL": url}), pytest.raises(InvalidSettings) as caught:
        config_check.loaded()
    assert reason in str(caught.value)


@pytest.mark.parametrize("url", [url for url in FINE if url.startswith("postgresql")])
async def test_the_driver_takes_what_the_check_takes(url: str, free_port: int) -> None:
    """With somebody at that address nothing but the connection could still fail."""
    found = address.parse(url)
    with pytest.raises(OSError):  # noqa: PT011 - refused, unreachable or unknown, as the machine has it
        await asyncpg.connect(found.dsn, host="127.0.0.1", port=free_port, timeout=2)


@pytest.mark.parametrize(
    "assignment",
    [
        "RETENTION_DAYS=4000000",
        "HEARTBEAT_STALE_SECONDS=1e12",
        "CRASH_RECOVERY_POLL_SECONDS=nan",
        "COMMAND_EXPIRY_SECONDS=inf",
        "RECOVERY_ACTIONS_PER_DAY=99999999999999999999",
        "HTTP_HOST=not a host",
        "MQTT_HOST=a..b",
        "MQTT_CLIENT_ID=\x07",
        "METRICS_TOKEN=schlüssel",
    ],
)
def test_what_once_passed_the_check_and_broke_the_start_is_told(tmp_path: Path, assignment: str) -> None:
    name, _, one = assignment.partition("=")
    with environment(tmp_path, NEEDED | {name: one}), pytest.raises(InvalidSettings) as caught:
        config_check.loaded()
    assert str(caught.value).startswith(f"{name}=")


def test_the_command_says_the_same(tmp_path: Path) -> None:
    from click.testing import CliRunner

    with environment(tmp_path, NEEDED | {"RETENTION_DAYS": "4000000"}):
        result = CliRunner().invoke(check, ["--json"])
    assert result.exit_code == 1
    assert "RETENTION_DAYS=4e+06" in result.output or "RETENTION_DAYS=4000000" in result.output
