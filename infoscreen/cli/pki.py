"""``infoscreen pki``: the private certification authority of broker, devices and panel."""

import grp
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infoscreen.cli.output import as_json_option, write_json, write_table

if TYPE_CHECKING:
    from infoscreen.pki.authority import Authority, Renewed
    from infoscreen.pki.files import Access

BROKER_UNIT, DAEMON_UNIT = "mosquitto.service", "infoscreen.service"
BROKER_GROUP = "mosquitto"

_directory_option = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/etc/infoscreen/pki"),
    show_default=True,
    envvar="PKI_DIRECTORY",
    show_envvar=True,
    help="Where the CA and its certificates are.",
)
_reload_option = click.option(
    "--reload/--no-reload", "reloads", default=True, help="Tell broker and daemon about it, if they run."
)


@click.group()
def pki() -> None:
    """Make and renew certificates for TLS.

    A private CA for the broker, the devices and the panel. docs/tls-runbook.md says what to do when.
    """


@pki.command()
@_directory_option
@click.option("--keep", is_flag=True, help="Do nothing if there is a CA already.")
def init(directory: Path, keep: bool) -> None:
    """Make the CA: EC P-256, valid for 10 years.

    Anyone with its key can impersonate the broker. Keep a backup of the directory offline.
    """
    authority = _authority(directory)
    if keep and authority.exists:
        click.echo(f"There is a CA in {directory} already; nothing was changed.")
        return
    authority.create(directory, _now())
    click.echo(f"Made a CA in {directory}. Give {authority.bundle} to everything that connects.")


@pki.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_directory_option
@click.option("--label", default="server", show_default=True, help="Name of the files, server/LABEL.crt.")
@click.option("--group", help="Group that may read the key; as root by default mosquitto, if it exists.")
@click.option("--keep", is_flag=True, help="Do nothing if there is a certificate of this label already.")
@_reload_option
def issue_server(
    names: Sequence[str], directory: Path, label: str, group: str | None, keep: bool, reloads: bool
) -> None:
    """Issue a server certificate, valid for 1 year.

    NAME... are all host names and IP addresses that clients connect to. A certificate of the same label is
    replaced, with a new key.
    """
    from infoscreen.pki.authority import Kind

    authority = _authority(directory)
    pair = authority.pair(Kind.SERVER, label)
    if keep and pair.certificate.exists():
        click.echo(f"There is {pair.certificate} already; nothing was changed.")
        return
    pair = authority.issue_server(names, _now(), label=label, key_access=_key_access(group))
    click.echo(f"Certificate: {pair.certificate}\nKey:         {pair.key}")
    _tell_servers(reloads)


@pki.command()
@click.argument("uuids", metavar="UUID...", nargs=-1, required=True)
@_directory_option
def issue_client(uuids: Sequence[str], directory: Path) -> None:
    """Issue client certificates for mutual TLS, valid for 1 year.

    UUID is the client's account at the broker; the daemon's is `infoscreen-server`.
    """
    for pair in _authority(directory).issue_clients(uuids, _now()):
        click.echo(f"Certificate: {pair.certificate}\nKey:         {pair.key}")


@pki.command()
@_directory_option
@click.option(
    "--days",
    type=click.IntRange(0, 3650),
    default=30,
    show_default=True,
    help="Renew what ends by then.",
)
@click.option("--new-keys", is_flag=True, help="Replace the keys, too.")
@_reload_option
@as_json_option
def renew(directory: Path, days: int, new_keys: bool, reloads: bool, as_json: bool) -> None:
    """Renew the certificates that end soon.

    Also those that do not fit their key or come from an earlier CA. Names, keys, owners and modes stay.
    """
    renewed = _authority(directory).renew(_now(), within=timedelta(days=days), new_keys=new_keys)
    if not renewed and not as_json:
        click.echo("No certificate had to be renewed.")
    _report(renewed, reloads, as_json)


@pki.command()
@click.argument("step", type=click.Choice(["begin", "switch", "finish", "abort"]), default="begin")
@_directory_option
@click.option(
    "--restart/--no-restart", "restarts", default=True, help="Restart the broker, if it runs, where needed."
)
@as_json_option
def rotate_ca(step: str, directory: Path, restarts: bool, as_json: bool) -> None:
    r"""Replace the CA without an interruption.

    \b
    begin   make a second CA; both are trusted. Distribute the bundle to all clients, then:
    switch  renew all certificates with the new CA
    finish  trust the new CA only
    abort   go back to the old CA, at any time before finish

    mosquitto reads the trusted CAs only when it starts, so begin, finish and abort restart it.
    """
    authority, now = _authority(directory), _now()
    renewed: list[Renewed] = []
    match step:
        case "begin":
            authority.begin_roll_over(now)
        case "switch":
            renewed = authority.switch(now)
        case "finish":
            authority.finish()
        case _:
            renewed = authority.abort(now)
    _report(renewed, restarts and step == "switch", as_json)
    if step == "begin":
        click.echo(
            f"Both CAs are trusted. Give {authority.bundle} to all clients before you go on.", err=True
        )
    if step != "switch":
        _restart_broker(restarts)


@pki.command()
@_directory_option
@click.option(
    "--check", is_flag=True, help="Exit with 1 if a certificate ends within 7 days or cannot be used."
)
@as_json_option
def status(directory: Path, check: bool, as_json: bool) -> None:
    """Show all certificates and when they end."""
    now = _now()
    rows: list[dict[str, Any]] = []
    bad = False
    for entry in _authority(directory).status():
        validity = entry.lifetime.at(now)
        bad = bad or validity.is_critical or entry.needs_action
        rows.append(
            {
                "which": entry.which,
                "names": entry.names,
                "not_before": entry.lifetime.not_before,
                "not_after": entry.lifetime.not_after,
                "days_left": (entry.lifetime.not_after - now) // timedelta(days=1),
                "state": str(validity),
                "issuer": entry.issuer,
                "serial": entry.serial,
                "sha256": entry.fingerprint,
                "note": entry.note,
            }
        )
    if as_json:
        write_json(rows)
    else:
        columns = ("which", "not_after", "days_left", "state", "names", "note")
        write_table(
            ("CERTIFICATE", "ENDS", "DAYS", "STATE", "NAMES", "NOTE"),
            [[", ".join(row[one]) if one == "names" else row[one] for one in columns] for row in rows],
        )
    if check and bad:
        raise SystemExit(1)


@pki.command()
@_directory_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead.")
def bundle(directory: Path, output: Path | None) -> None:
    """Print the trusted CAs, for everything that connects."""
    from infoscreen.pki import files

    content = _authority(directory).read_bundle()
    if output is None:
        click.echo(content, nl=False)
    else:
        files.write_public(output, content)


def _authority(directory: Path) -> "Authority":
    from infoscreen.pki.authority import Authority

    return Authority(directory)


def _now() -> datetime:
    from infoscreen.clock import SystemClock

    return SystemClock().now()


def _key_access(group: str | None) -> "Access":
    """Return who may read a server's key: the broker's group, as far as it is known."""
    from infoscreen.domain.errors import PkiError
    from infoscreen.pki.files import Access

    wanted = group or (BROKER_GROUP if os.geteuid() == 0 else None)
    if wanted is None:
        return Access(0o600)
    try:
        return Access(0o640, group=grp.getgrnam(wanted).gr_gid)
    except KeyError:
        if group is None:
            return Access(0o600)
        raise PkiError(f"there is no group {group}") from None


def _report(renewed: "list[Renewed]", reloads: bool, as_json: bool) -> None:
    from infoscreen.pki.authority import Kind

    if as_json:
        write_json([{"which": f"{one.kind}/{one.pair.name}", "reason": one.due} for one in renewed])
    else:
        for one in renewed:
            click.echo(f"Renewed {one.pair.certificate} ({one.due.replace('_', ' ')}).")
        if any(one.kind is Kind.CLIENT for one in renewed):
            click.echo("Copy the renewed client certificates to their clients.")
    if any(one.kind is Kind.SERVER for one in renewed):
        _tell_servers(reloads)


def _tell_servers(reloads: bool) -> None:
    from infoscreen.provisioning import units

    told = [unit for unit in (BROKER_UNIT, DAEMON_UNIT) if reloads and units.reload(unit)]
    if BROKER_UNIT not in told:
        click.echo("Reload the broker, which reads certificates on SIGHUP.", err=True)


def _restart_broker(restarts: bool) -> None:
    from infoscreen.provisioning import units

    if not (restarts and units.restart(BROKER_UNIT)):
        click.echo("Restart the broker: it reads the trusted CAs only when it starts.", err=True)
