"""``infoscreen agent enroll``: puts in place what a device needs to connect."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from infoscreen.cli.remote import ca_option

if TYPE_CHECKING:
    from infoscreen.provisioning.enrolment import Enrolment

TRIES, PAUSE_SECONDS = 10, 3.0
PENDING = "agent.enrolling"
"""The password that the device has made and the server may already know; gone when enrolled."""


@click.command()
@click.argument("file", type=click.File(encoding="utf-8"), required=False)
@click.option("--server", help="Address of the server, https, instead of FILE.")
@click.option(
    "--code",
    envvar="INFOSCREEN_ENROLMENT_CODE",
    help="One-time code from the panel; also INFOSCREEN_ENROLMENT_CODE.",
)
@ca_option
@click.option(
    "--uuid", type=click.UUID, help="UUID of the device, where the code is for any. Default: as before."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/etc/infoscreen"),
    show_default=True,
    help="Where agent.env and ca.crt are.",
)
@click.option(
    "--next", "upcoming", is_flag=True, help="Only add the password that will replace the current one."
)
def enroll(
    file: TextIO | None,
    server: str | None,
    code: str | None,
    ca: Path | None,
    uuid: object | None,
    directory: Path,
    upcoming: bool,
) -> None:
    """Take account, broker and CA from FILE, or fetch them from a server with a one-time code.

    FILE is what `infoscreen broker add-device` or the panel has made; - is the input. Delete it afterwards:
    it holds the password. Other settings in agent.env stay.
    """
    from infoscreen.provisioning import enrolment

    if (file is None) == (server is None):
        raise click.UsageError("Give FILE, or --server and --code.")
    if file is not None:
        _install(enrolment.read(file.read(enrolment.MOST_BYTES + 1)), directory, upcoming=upcoming)
        return
    if not code or upcoming:
        raise click.UsageError("--server needs --code." if not code else "--next needs FILE.")
    if not str(server).lower().startswith("https://"):
        raise click.UsageError("--server must be an https address: passwords are exchanged.")
    password = _password(directory, code)
    known = str(uuid) if uuid is not None else _uuid_before(directory)
    body = {"code": code, "uuid": known, "password": password}
    said = asyncio.run(_redeem(str(server), ca, body))
    _install(_enrolment(said, password), directory, upcoming=False)
    (directory / PENDING).unlink(missing_ok=True)


async def _redeem(server: str, ca: Path | None, body: dict[str, Any]) -> dict[str, Any]:
    """Exchange the code; a server that does not answer is asked again, with the same password."""
    from infoscreen.cli.api import Api, Unreachable
    from infoscreen.clock import SystemClock

    async with Api(server, None, ca) as api:
        for last in [False] * (TRIES - 1) + [True]:
            try:
                return await api.post("/api/enrol", body)
            except Unreachable as error:
                if last:
                    raise
                click.echo(f"{error.message} Trying again.", err=True)
            await SystemClock().sleep(PAUSE_SECONDS)
    raise AssertionError


def _enrolment(said: dict[str, Any], password: str) -> "Enrolment":
    """Return what the server said, checked as a file is."""
    from infoscreen.provisioning import enrolment

    fields = {name: said.get(name) for name in ("uuid", "host", "port", "ca")}
    whole = {"infoscreen_enrolment": enrolment.VERSION, "password": password, **fields}
    return enrolment.read(json.dumps(whole))


def _password(directory: Path, code: str) -> str:
    """Return the password to send: a new one, or that of an earlier attempt with this code."""
    from infoscreen.domain.enrolment import PASSWORD, hash_of
    from infoscreen.domain.errors import ProvisioningError
    from infoscreen.pki import files

    path = directory / PENDING
    try:
        before = path.read_text(encoding="ascii").split() if path.exists() else []
        if len(before) == 2 and before[0] == hash_of(code) and PASSWORD.fullmatch(before[1]):
            return before[1]
        password = secrets.token_hex(20)
        directory.mkdir(parents=True, exist_ok=True)
        files.replace(path, f"{hash_of(code)} {password}\n".encode(), files.Access(0o600))
    except (OSError, UnicodeDecodeError) as error:
        raise ProvisioningError(f"cannot write {path}: {error}") from None
    return password


def _uuid_before(directory: Path) -> str | None:
    """Return the UUID in the settings of the agent; None where there is none."""
    from uuid import UUID

    try:
        lines = (directory / "agent.env").read_text(encoding="utf-8").splitlines()
        given = [line.partition("=")[2] for line in lines if line.startswith("AGENT_UUID=")]
        return str(UUID(given[-1])) if given else None
    except (OSError, ValueError):
        return None


def _install(made: "Enrolment", directory: Path, *, upcoming: bool) -> None:
    from infoscreen.domain.errors import ProvisioningError
    from infoscreen.pki import files
    from infoscreen.pki.files import Access
    from infoscreen.provisioning import enrolment

    target, ca = directory / "agent.env", directory / "ca.crt"
    settings = made.settings(str(ca))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        before = target.read_text(encoding="utf-8") if target.exists() else ""
        if upcoming:
            if f"AGENT_UUID={made.uuid}" not in before.splitlines():
                raise ProvisioningError(f"{target} is of another device")
            settings = {"AGENT_MQTT_PASSWORD_NEXT": made.password}
        else:
            settings["AGENT_MQTT_PASSWORD_NEXT"] = ""
            if made.broker.ca is not None:
                files.replace(ca, made.broker.ca.encode(), files.access_of(ca, Access(0o644)))
        content = enrolment.merged(before, settings).encode()
        files.replace(target, content, files.access_of(target, Access(0o600)))
    except OSError as error:
        raise ProvisioningError(f"cannot write {error.filename or directory}: {error.strerror}") from None
    click.echo(f"Wrote {target}. Restart the agent: systemctl restart infoscreen-agent")
