"""``infoscreen power``: the outlets of clients, over the HTTP API with an administrator's token."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infoscreen.cli.output import as_json_option, plain, write_json
from infoscreen.cli.remote import api_options, follow, nothing, with_api
from infoscreen.domain.commands import CommandStatus

if TYPE_CHECKING:
    from infoscreen.cli.api import Api

MOST_ROWS = 20_000
TEXTS = ("driver", "address", "outlet", "username", "password", "privacy_password", "identity")
YES = frozenset({"1", "true", "yes", "ja"})
NO = frozenset({"", "0", "false", "no", "nein"})


@click.group()
def power() -> None:
    """Configure and test the outlets that clients are plugged into."""


@power.command()
@click.argument("uuid", type=click.UUID)
@api_options
@click.option("--cycle", is_flag=True, help="Then cycle its power, and wait until it is on again.")
@click.option("--reason", default="infoscreen power test --cycle", show_default=True, help="For --cycle.")
@click.option("--yes", is_flag=True, help="Do not ask before the cycle.")
@as_json_option
def test(
    uuid: object,
    url: str,
    token: str,
    ca: Path | None,
    cycle: bool,
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask a client's outlet what it is and whether it is on.

    Without --cycle nothing is switched. Exit code 1 if it cannot be used, is another outlet than the
    configured one, or does not come back from a cycle.
    """
    told = with_api(url, token, ca, lambda api: api.post(f"/api/clients/{uuid}/power/test", {}))
    if as_json:
        write_json(told)
    else:
        watts = "" if told["watts"] is None else f", {told['watts']:g} W"
        click.echo(plain(f"{told['label']}: {told['state']}{watts}"))
        click.echo(plain(f"identity: {told['identity'] or 'none'}"))
    if not told["is_expected"]:
        raise click.ClickException(
            plain(f"The configured identity is {told['expected_identity']}; the outlet will not be switched.")
        )
    if cycle:
        if not yes:
            click.confirm("The client loses its power without shutting down. Go on?", abort=True, err=True)
        _cycle(str(uuid), reason, url, token, ca, as_json=as_json)


def _cycle(uuid: str, reason: str, url: str, token: str, ca: Path | None, *, as_json: bool) -> None:
    """Cycle the power and tell each step; exit with 1 unless it was switched off and on."""

    async def run(api: "Api") -> dict[str, Any]:
        body = {"action": "power_cycle", "reason": reason}
        command_id = (await api.post(f"/api/clients/{uuid}/commands", body))["command"]["command_id"]
        return await follow(api, command_id, nothing if as_json else _say)

    command = with_api(url, token, ca, run)
    if as_json:
        write_json(command)
    if command["status"] != CommandStatus.COMPLETED:
        raise click.exceptions.Exit(1)


def _say(event: dict[str, Any]) -> None:
    click.echo(plain(f"{event['at']} {event['to']}: {event['detail'] or '-'}"))


@power.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@api_options
def import_(file: Path, url: str, token: str, ca: Path | None) -> None:
    """Configure the outlets of many clients from a CSV file.

    The first line names the columns: uuid, driver, address, and optionally outlet, username, password,
    privacy_password, identity, protected, shared, also_feeds (UUIDs, separated by blanks), min_off_seconds
    and option:NAME. A file with an error in it changes nothing; otherwise lines that the server refuses are
    told and left out, and the exit code is 1.
    """
    rows = list(read_rows(file))

    async def configure(api: "Api") -> int:
        refused = 0
        for line, uuid, body in rows:
            try:
                await api.patch(f"/api/clients/{uuid}", {"power": body})
            except click.ClickException as error:
                refused += 1
                click.echo(f"line {line}: {error.format_message()}", err=True)
        return refused

    refused = with_api(url, token, ca, configure)
    click.echo(f"{len(rows) - refused} of {len(rows)} outlets configured")
    if refused:
        raise click.exceptions.Exit(1)


def read_rows(file: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the number of each line, its client's UUID and the body for it.

    Raises ``click.ClickException`` that names the line at fault.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} cannot be read: {error}") from None
    delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    known = {*TEXTS, "uuid", "protected", "shared", "also_feeds", "min_off_seconds"}
    strange = [name for name in names if name not in known and not name.startswith("option:")]
    if strange or not {"uuid", "driver", "address"} <= set(names):
        what = f"unknown column {strange[0]!r}" if strange else "columns uuid, driver and address are needed"
        raise click.ClickException(f"{file}: {what}")
    reader.fieldnames = names
    found = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise click.ClickException(f"{file} line {reader.line_num}: not {len(names)} columns")
            found.append((reader.line_num, *_body(row, f"{file} line {reader.line_num}")))
            if len(found) > MOST_ROWS:
                raise click.ClickException(f"{file}: more than {MOST_ROWS} lines")
    except csv.Error as error:
        raise click.ClickException(f"{file} line {reader.line_num}: {error}") from None
    yield from found


def _body(row: dict[str, str], where: str) -> tuple[str, dict[str, Any]]:
    values = {name: value.strip() for name, value in row.items()}
    try:
        uuid = str(click.UUID(values["uuid"], None, None))
    except click.BadParameter:
        raise click.ClickException(f"{where}: {values['uuid']!r} is no UUID") from None
    body: dict[str, Any] = {name: values[name] for name in TEXTS if values.get(name)}
    for name in ("protected", "shared"):
        word = values.get(name, "").lower()
        if word not in YES | NO:
            raise click.ClickException(f"{where}: {name} is {word!r}, neither yes nor no")
        body[name] = word in YES
    body["also_feeds"] = values.get("also_feeds", "").split()
    if values.get("min_off_seconds"):
        try:
            body["min_off_seconds"] = float(values["min_off_seconds"])
        except ValueError:
            raise click.ClickException(f"{where}: min_off_seconds is no number") from None
    body["options"] = {
        name.removeprefix("option:"): value
        for name, value in values.items()
        if name.startswith("option:") and value
    }
    return uuid, body
