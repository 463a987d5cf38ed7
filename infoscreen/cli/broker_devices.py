"""``infoscreen broker add-device`` and what else is done with accounts of devices."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infoscreen.cli.broker_options import (
    directory_option,
    directory_type,
    existing,
    reload_option,
    some,
    tell_broker,
)
from infoscreen.cli.output import as_json_option, write_json, write_table

if TYPE_CHECKING:
    from infoscreen.provisioning.broker_files import BrokerFiles

CA_ON_DEVICE = "/etc/infoscreen/ca.crt"
"""Where a device keeps the CA, as ``infoscreen agent enroll`` writes it."""

uuids_argument = click.argument("uuids", metavar="[UUID]...", nargs=-1)
from_option = click.option(
    "--from",
    "source",
    type=click.File(encoding="utf-8"),
    help="File with more: a UUID per line, or a CSV file with a column `uuid`.",
)
output_option = click.option("--output", type=directory_type, help="Write one file per device here.")
format_option = click.option(
    "--format",
    "kind",
    type=click.Choice(["enrolment", "env"]),
    default="enrolment",
    show_default=True,
    help="With --output: UUID.enrol for `infoscreen agent enroll`, or UUID.env (an agent.env) and ca.crt.",
)


@click.command("add-device")
@uuids_argument
@from_option
@directory_option
@output_option
@format_option
@click.option("--qr", is_flag=True, help="Print the enrolment as a QR code.")
@click.option("--replace", is_flag=True, help="Give devices that have an account a new password at once.")
@reload_option
@as_json_option
def add_device(
    uuids: Sequence[str],
    source: Iterable[str] | None,
    directory: Path,
    output: Path | None,
    kind: str,
    qr: bool,
    replace: bool,
    reloads: bool,
    as_json: bool,
) -> None:
    """Give devices accounts at the broker.

    Without --output, the settings of each device (an agent.env) are printed. They contain its password, which
    is kept nowhere else.
    """
    from infoscreen.provisioning import devices

    place, wanted = existing(directory), _wanted(uuids, source)
    with devices.adding(place, wanted, replace=replace) as added:
        _hand_out(place, added.passwords, output, kind, qr=qr, as_json=as_json)
    if added.known and not replace:
        click.echo(
            f"{len(added.known)} had an account already and keep their password: {some(added.known)}. "
            "`infoscreen broker rotate` gives them a new one.",
            err=True,
        )
    if added.passwords:
        click.echo(f"Added {len(added.passwords)} accounts.", err=True)
        tell_broker(place, reloads)


@click.command("remove-device")
@uuids_argument
@from_option
@directory_option
@reload_option
def remove_device(uuids: Sequence[str], source: Iterable[str] | None, directory: Path, reloads: bool) -> None:
    """Take devices' accounts away.

    Connected devices are cut off by the reload and stay out.
    """
    from infoscreen.domain.errors import ProvisioningError
    from infoscreen.provisioning import devices

    place = existing(directory)
    removed = devices.remove(place, _wanted(uuids, source))
    if not removed:
        raise ProvisioningError("None of these devices has an account.")
    click.echo(f"Removed {len(removed)} accounts.", err=True)
    tell_broker(place, reloads)


@click.command()
@uuids_argument
@from_option
@click.option("--all", "everybody", is_flag=True, help="All devices.")
@directory_option
@output_option
@format_option
@click.option("--finish", "step", flag_value="finish", help="Let the new passwords count.")
@click.option("--cancel", "step", flag_value="cancel", help="Forget the new passwords.")
@click.option(
    "--now", "step", flag_value="now", help="Do all at once: devices are locked out until they have it."
)
@reload_option
@as_json_option
def rotate(
    uuids: Sequence[str],
    source: Iterable[str] | None,
    everybody: bool,
    directory: Path,
    output: Path | None,
    kind: str,
    step: str | None,
    reloads: bool,
    as_json: bool,
) -> None:
    """Replace passwords of devices, in two steps.

    The first makes new passwords and prints or writes them; the old ones still count. Give them to the
    devices as AGENT_MQTT_PASSWORD_NEXT, or with `infoscreen agent enroll --next FILE`. The second, with
    --finish, lets the new ones count: each device is disconnected and comes back with its new password.
    """
    from infoscreen.provisioning import devices

    if everybody == bool(uuids or source):
        raise click.UsageError("Give devices, or --all.")
    place = existing(directory)
    chosen = None if everybody else _wanted(uuids, source)
    if step in (None, "now"):
        with devices.rotating(place, chosen) as made:
            _hand_out(place, made.passwords, output, kind, qr=False, as_json=as_json, upcoming=step is None)
        chosen = list(made.passwords)
        if step is None:
            click.echo(f"{len(chosen)} new passwords wait for --finish.", err=True)
            return
    if step == "cancel":
        click.echo(f"Forgot {len(devices.cancel_rotation(place, chosen))} new passwords.", err=True)
        return
    finished = devices.finish_rotation(place, chosen)
    click.echo(f"{len(finished)} new passwords count.", err=True)
    if finished:
        tell_broker(place, reloads)


@click.command("list")
@directory_option
@as_json_option
def list_devices(directory: Path, as_json: bool) -> None:
    """List the devices that have an account."""
    from infoscreen.provisioning import devices

    found = devices.accounts(existing(directory))
    if as_json:
        write_json(found)
        return
    states = {(True, False): "", (True, True): "a new password waits for `rotate --finish`"}
    write_table(
        ("DEVICE", "NOTE"),
        [
            [one.uuid, states.get((one.usable, one.rotating), "the line is broken: locked out")]
            for one in found
        ],
    )


def _wanted(uuids: Sequence[str], source: Iterable[str] | None) -> list[str]:
    from infoscreen.provisioning import devices

    wanted = [devices.device_name(uuid) for uuid in uuids]
    if source is not None:
        wanted += devices.read_devices("".join(source))
    if not wanted:
        raise click.UsageError("Give at least one device.")
    return wanted


def _hand_out(
    place: "BrokerFiles",
    passwords: Mapping[str, str],
    output: Path | None,
    kind: str,
    *,
    qr: bool,
    as_json: bool,
    upcoming: bool = False,
) -> None:
    """Write or print what devices are given; ``upcoming`` passwords do not count yet."""
    from infoscreen.provisioning import devices
    from infoscreen.provisioning.enrolment import Enrolment

    access = place.device_access()
    made = [Enrolment(uuid, password, access) for uuid, password in passwords.items()]
    if output is not None and kind == "env":
        contents = {f"{one.uuid}.env": one.env(CA_ON_DEVICE, upcoming=upcoming) for one in made}
        if access.ca is not None:
            contents["ca.crt"] = access.ca
        devices.write_all(output, contents)
    elif output is not None:
        devices.write_all(output, {f"{one.uuid}.enrol": one.file() for one in made})
    if as_json:
        write_json([one.settings(CA_ON_DEVICE, upcoming=upcoming) for one in made])
    elif output is None:
        for one in made:
            click.echo(one.env(CA_ON_DEVICE, upcoming=upcoming))
    if qr:
        import segno

        for one in made:
            segno.make(one.file(), error="l").terminal(out=sys.stdout, compact=True)
