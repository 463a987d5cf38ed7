"""``infoscreen broker``: the broker's files, and the accounts of devices."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infoscreen.cli.broker_devices import add_device, list_devices, remove_device, rotate
from infoscreen.cli.broker_options import directory_option, directory_type, existing, some, tell_broker
from infoscreen.cli.output import as_json_option, write_json, write_table

if TYPE_CHECKING:
    from infoscreen.mqtt.connection import BrokerAddress
    from infoscreen.pki.authority import Authority
    from infoscreen.provisioning.broker_files import BrokerFiles
    from infoscreen.provisioning.broker_process import Peer


restart_option = click.option(
    "--restart/--no-restart", "restarts", default=True, help="Restart the broker, if systemd runs it."
)


@click.group()
def broker() -> None:
    """Set up the broker and its accounts.

    docs/tls-runbook.md says what to do when.
    """


@broker.command()
@click.argument("directory", type=directory_type, default=Path("/etc/mosquitto"))
@click.option(
    "--name",
    "names",
    multiple=True,
    help="Host name or address under which devices reach the broker; the first one is written into their "
    "settings. Default: this host's name.",
)
@click.option(
    "--pki",
    "pki_directory",
    type=directory_type,
    envvar="PKI_DIRECTORY",
    help="Where the CA is. Default: /etc/infoscreen/pki, or DIRECTORY/pki for a private broker.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8883, show_default=True, help="For devices, TLS."
)
@click.option(
    "--server-port",
    type=click.IntRange(1, 65535),
    default=1883,
    show_default=True,
    help="For the daemon on this host: loopback, plain.",
)
@click.option(
    "--server-listener",
    type=click.IntRange(1, 65535),
    is_flag=False,
    flag_value=8884,
    help="Also listen for a daemon on another host, over TLS.  [8884]",
)
@click.option("--migration", is_flag=True, help="Also let devices in without TLS, until `close-plain`.")
@click.option(
    "--migration-address", multiple=True, help="Only on this address of the host; default: on all of them."
)
@click.option(
    "--refresh",
    is_flag=True,
    help="Keep the names, ports and listeners of an existing configuration, and bring the rest up to date.",
)
@restart_option
def init(
    directory: Path,
    names: Sequence[str],
    pki_directory: Path | None,
    port: int,
    server_port: int,
    server_listener: int | None,
    migration: bool,
    migration_address: Sequence[str],
    refresh: bool,
    restarts: bool,
) -> None:
    """Write configuration, ACL, certificates and the server's account.

    In /etc/mosquitto this is a drop-in for Debian's mosquitto. Any other DIRECTORY becomes a private broker:
    start it with `mosquitto -c DIRECTORY/mosquitto.conf`. Run again, it keeps all accounts and certificates
    and brings the rest up to date.
    """
    from infoscreen.provisioning import broker_process
    from infoscreen.provisioning.broker_files import BrokerFiles, Listeners, listeners_of, write_broker
    from infoscreen.resources import resource

    place = BrokerFiles(directory.absolute())
    if refresh and place.devices.exists():
        listeners = listeners_of(place)
        listeners = replace(listeners, names=names or listeners.names)
    else:
        listeners = Listeners(
            server=server_port,
            devices=port,
            names=names or (_host_name(),),
            remote_server=server_listener,
            migration=(migration_address or _addresses()) if migration or migration_address else (),
        )
    authority = _authority(place, pki_directory, listeners.names)
    valid_for = authority.server_names()
    if unknown := [name for name in names if name not in valid_for]:
        every = " ".join([*unknown, *valid_for])
        click.echo(
            f"The broker's certificate is not valid for {', '.join(unknown)}, which devices will refuse. "
            f"Make another one: infoscreen pki issue-server {every}",
            err=True,
        )
    write_broker(place, resource("mosquitto"), listeners, authority)
    click.echo(f"Wrote {place.rules}, {place.acl} and {place.passwords}.")
    click.echo(f"Settings of the daemon: {place.secrets / 'server.env'}")
    if restarts and not broker_process.restart(place):
        click.echo(f"Start the broker: mosquitto -c {place.config}", err=True)


def _authority(place: "BrokerFiles", directory: Path | None, names: Sequence[str]) -> "Authority":
    """Return the CA with a server certificate, both made if missing."""
    from infoscreen.clock import SystemClock
    from infoscreen.pki.authority import Authority, Kind
    from infoscreen.pki.files import Access
    from infoscreen.provisioning.broker_files import DEBIANS, SHIPPED_PKI

    now = SystemClock().now()
    default = Path(SHIPPED_PKI) if place.path == DEBIANS else place.path / "pki"
    authority = Authority((directory or default).absolute())
    if not authority.exists:
        authority.create(authority.directory, now)
        click.echo(f"Made a CA in {authority.directory}. Keep a backup of it offline.")
    if not authority.pair(Kind.SERVER, "server").certificate.exists():
        key = place.access
        authority.issue_server(
            [*names, "localhost", "127.0.0.1"], now, key_access=Access(0o600, key.user, key.group)
        )
    return authority


def _host_name() -> str:
    import socket

    return socket.getfqdn()


def _addresses() -> list[str]:
    """Return the addresses of this host that others reach."""
    import json
    import subprocess

    from infoscreen.domain.errors import ProvisioningError

    try:
        found = subprocess.run(["ip", "-json", "address"], check=True, capture_output=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        raise ProvisioningError("cannot list the addresses of this host: give --migration-address") from None
    return [
        one["local"]
        for interface in json.loads(found)
        for one in interface.get("addr_info", ())
        if one.get("scope") == "global"
    ]


@broker.command()
@directory_option
@as_json_option
def status(directory: Path, as_json: bool) -> None:
    """Show accounts, files and which devices are still on plain MQTT.

    That is the port of their last connection, as far back as the broker's log goes; they may be switched off.
    """
    from infoscreen.provisioning import broker_log, broker_process, devices

    place = existing(directory)
    plain, accounts = _plain(place), devices.accounts(place)
    ports = broker_log.last_ports(place)
    found = {
        "running": broker_process.pid(place) is not None,
        "accounts": len(accounts),
        "rotating": sum(one.rotating for one in accounts),
        "migration": place.migration.exists(),
        "plain_clients": len(plain),
        "plain_addresses": sorted({peer.address for peer in plain}),
        "plain_devices": _plain_devices(place),
        "tls_devices": sum(ports.get(one.uuid) == place.device_access().port for one in accounts),
        "unseen_devices": sum(one.uuid not in ports for one in accounts),
        "faults": broker_process.faults(place),
    }
    if as_json:
        write_json(found)
    else:
        for name, value in found.items():
            shown = ", ".join(map(str, value)) or "-" if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' ') + ':':<17} {shown}")
    if found["faults"]:
        sys.exit(1)


@broker.command()
@directory_option
@click.option("--host", default="localhost", show_default=True, help="The broker's.")
@click.option("--differences", is_flag=True, help="Show only what differs.")
@as_json_option
def check(directory: Path, host: str, differences: bool, as_json: bool) -> None:
    """Try who may publish and read what, at the running broker.

    Each line is a role, a topic and an operation, with what is expected and what was delivered. Exits with 1
    if something differs. The daemon may run or not; it notices nothing.
    """
    import asyncio

    from infoscreen.provisioning import acl_check
    from infoscreen.provisioning.broker_files import OWN_ACCOUNTS

    place = existing(directory)
    server, devices = _ways_in(place, host)
    passwords = {account: place.password(account) for account in OWN_ACCOUNTS}
    findings = asyncio.run(acl_check.check(server, devices, passwords))
    wrong = [one for one in findings if not one.is_right]
    shown = wrong if differences else findings
    if as_json:
        write_json(shown)
    else:
        words = {True: "yes", False: "no"}
        write_table(
            ("ROLE", "TOPIC", "OPERATION", "EXPECTED", "OBSERVED", ""),
            [
                (
                    *(one.role, one.topic, one.operation, words[one.expected], words[one.observed]),
                    "" if one.is_right else "DIFFERS",
                )
                for one in shown
            ],
        )
        click.echo(f"{len(findings)} checked, {len(wrong)} differ.", err=True)
    sys.exit(1 if wrong else 0)


def _ways_in(place: "BrokerFiles", host: str) -> "tuple[BrokerAddress, BrokerAddress]":
    """Return the listeners for the server and for devices, without an account."""
    from infoscreen.mqtt.connection import BrokerAddress, TlsSettings
    from infoscreen.provisioning import broker_process

    local = "127.0.0.1" if host == "localhost" else host
    server = BrokerAddress(local, broker_process.server_port(place), None, None, "")
    ca = place.ca_file()
    tls = None if ca is None else TlsSettings(ca)
    return server, BrokerAddress(host, place.device_access().port, None, None, "", tls)


@broker.command("close-plain")
@directory_option
@click.option("--force", is_flag=True, help="Also if clients are still on plain MQTT: they are locked out.")
@restart_option
def close_plain(directory: Path, force: bool, restarts: bool) -> None:
    """End the migration: devices come in over TLS only.

    The way back is `infoscreen broker init --migration`.
    """
    from infoscreen.domain.errors import ProvisioningError
    from infoscreen.provisioning import broker_process

    place = existing(directory)
    if not place.migration.exists():
        click.echo("Plain MQTT is not open.")
        return
    plain, late = _plain(place), _plain_devices(place)
    if plain and not force:
        addresses = some(sorted({one.address for one in plain}))
        raise ProvisioningError(
            f"{len(plain)} clients are still on plain MQTT, from {addresses}. "
            "Move them first, or use --force."
        )
    if late and not force:
        raise ProvisioningError(
            f"{len(late)} devices last came over plain MQTT and may only be switched off: {some(late)}. "
            "Move them first, or use --force."
        )
    place.migration.unlink()
    click.echo("Plain MQTT is closed.")
    if not (restarts and broker_process.restart(place)):
        click.echo("Restart the broker: it closes a listener only then.", err=True)


@broker.command()
@directory_option
def reload(directory: Path) -> None:
    """Have the broker read accounts, ACL and certificates again.

    Refused while one of the files is not right, because mosquitto then allows everything.
    """
    tell_broker(existing(directory), reloads=True)


@broker.command(hidden=True)
@click.argument("pid", type=int)
@directory_option
def guard(pid: int, directory: Path) -> None:
    """Stand in for `kill -HUP` as ExecReload= of mosquitto.service."""
    from infoscreen.provisioning import broker_process, broker_reload

    place = existing(directory)
    broker_process.require_good_files(place)
    if broker_process.daemon_is_connected(place):
        broker_reload.send_sighup(place, pid)
    else:
        broker_process.restart_later()


@broker.command()
@directory_option
@click.option(
    "--socket",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Listen here, for this user only, until stopped. Default: the socket that systemd passes.",
)
@click.option(
    "--idle",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="End after so many idle seconds, if systemd passed the socket.",
)
def helper(directory: Path, path: Path | None, idle: float) -> None:
    """Let the daemon add devices and restart the broker.

    Started by infoscreen-broker-helper.socket. It does nothing else, and not more than docs/security.md says.
    """
    from infoscreen import logs
    from infoscreen.cli.broker_helper import serve

    logs.configure()
    serve(existing(directory), path, idle if path is None else None)


def _plain_devices(place: "BrokerFiles") -> list[str]:
    """Return the devices with an account whose last connection was a plain one."""
    from infoscreen.provisioning import broker_log, broker_process, devices

    port, ports = broker_process.server_port(place), broker_log.last_ports(place)
    return sorted(one.uuid for one in devices.accounts(place) if ports.get(one.uuid) == port)


def _plain(place: "BrokerFiles") -> "list[Peer]":
    """Return who is connected to the plain port from elsewhere."""
    from infoscreen.provisioning import broker_process

    return broker_process.connected_to(broker_process.server_port(place))


for command in (add_device, remove_device, rotate, list_devices):
    broker.add_command(command)
