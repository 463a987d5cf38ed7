"""A real PostgreSQL server for the tests that hold the SQL portable, started from Debian's package."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.programs import cannot_run, find_free_port

PASSWORD = "only-for-tests"  # noqa: S105 - of a server that lives as long as the test run


@dataclass
class PostgresServer:
    """A running server on loopback; ``programs`` is where its command line tools are."""

    programs: Path
    port: int

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql+asyncpg://infoscreen:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's tools against it."""
        connection = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "infoscreen"]
        subprocess.run(
            [self.programs / program, *connection, *arguments],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            capture_output=True,
        )


class OwnServer(PostgresServer):
    """A server that a test may stop, kill and start again."""

    def __init__(self, directory: Path, port: int, *more: str) -> None:
        programs = _programs()
        if programs is None:
            cannot_run("PostgreSQL's server is not installed (Debian package postgresql)")
        super().__init__(programs, port)
        secret = directory / "password"
        secret.write_text(PASSWORD)
        self._directory = directory
        self._owner = _server_user(directory, secret)
        # Nothing here outlives the test run, so nothing has to survive a power failure.
        settings = f"-h 127.0.0.1 -p {port} -k {directory} -F -c full_page_writes=off"
        self._options = " ".join((settings, *more))
        access = ("-U", "infoscreen", "--pwfile", str(secret), "-A", "scram-sha-256", "-E", "UTF8")
        self._tool("initdb", "-D", str(directory / "data"), *access)

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        data, written = str(self._directory / "data"), str(self._directory / "log")
        self._tool("pg_ctl", "start", "-w", "-D", data, "-l", written, "-o", self._options)

    def stop(self, how: str = "immediate") -> None:
        """Stop: ``fast`` in order, ``immediate`` like a crash."""
        self._tool("pg_ctl", "stop", "-w", "-D", str(self._directory / "data"), "-m", how)

    def _tool(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / program, *arguments],
            user=self._owner,
            group=self._owner,
            extra_groups=[] if self._owner else None,
            cwd=self._directory,
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def own_server(*more: str, place: Path | None = None) -> Iterator[OwnServer]:
    """Yield a running server with an empty cluster below ``place``; ``more`` are options of the server."""
    # Not pytest's own directory: initdb refuses to run as root, and the server's user could not enter it.
    directory = Path(tempfile.mkdtemp(prefix="infoscreen-postgres-", dir=place))
    try:
        server = OwnServer(directory, find_free_port(), *more)
        server.start()
        try:
            yield server
        finally:
            with suppress(subprocess.CalledProcessError):  # a test may have left it stopped
                server.stop()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with own_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    database = f"test_{uuid4().hex}"
    postgres_server.run("createdb", database)
    yield postgres_server.url(database)
    postgres_server.run("dropdb", "--force", database)


def _programs() -> Path | None:
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def _server_user(*paths: Path) -> str | None:
    """Give the paths to the user that the server runs as; None when that is ourselves."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("postgres")
    for path in paths:
        os.chown(path, user.pw_uid, user.pw_gid)
    return user.pw_name
