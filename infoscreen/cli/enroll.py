"""``infoscreen agent enroll``: puts in place what a device needs to connect."""

from pathlib import Path
from typing import TextIO

import click


@click.command()
@click.argument("file", type=click.File(encoding="utf-8"))
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
def enroll(file: TextIO, directory: Path, upcoming: bool) -> None:
    """Take account, broker and CA from FILE, which `infoscreen broker add-device` has made; - is the input.

    Other settings in agent.env stay. Afterwards delete FILE, which holds the password.
    """
    from infoscreen.domain.errors import ProvisioningError
    from infoscreen.pki import files
    from infoscreen.pki.files import Access
    from infoscreen.provisioning import enrolment

    made = enrolment.read(file.read(enrolment.MOST_BYTES + 1))
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
