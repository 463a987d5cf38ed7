"""A real PostgreSQL server for the tests that hold the SQL portable, started from Debian's package."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

PASSWORD = "only-for-tests"  # noqa: S105 - of a server that lives as long as the test run


@dataclass(frozen=True)
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    programs = _programs()
    if programs is None:
        reason = "PostgreSQL's server is not installed (Debian package postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Not pytest's own directory: initdb refuses to run as root, and the server's user could not enter it.
    directory = Path(tempfile.mkdtemp(prefix="infoscreen-postgres-"))
    data = directory / "data"
    secret = directory / "password"
    secret.write_text(PASSWORD)
    owner = _server_user(directory, secret)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def tool(program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [programs / program, *arguments],
            user=owner,
            group=owner,
            extra_groups=[] if owner else None,
            cwd=directory,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    try:
        tool(
            "initdb", "-D", data, "-U", "infoscreen", "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8"
        )
        # Nothing here outlives the test run, so nothing has to survive a power failure.
        settings = f"-h 127.0.0.1 -p {port} -k {directory} -F -c full_page_writes=off"
        tool("pg_ctl", "start", "-w", "-D", data, "-l", directory / "log", "-o", settings)
        try:
            yield PostgresServer(programs, port)
        finally:
            tool("pg_ctl", "stop", "-w", "-D", data, "-m", "immediate")
    finally:
        shutil.rmtree(directory)


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
