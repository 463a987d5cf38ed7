"""``infoscreen clients``, ``show`` and ``send``: what an operator does, over the HTTP API with a token."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infoscreen.cli.output import as_json_option, plain, write_json, write_table
from infoscreen.domain.clients import Condition
from infoscreen.domain.commands import FINAL, Action, CommandStatus

if TYPE_CHECKING:
    from infoscreen.cli.api import Api

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60
"""How long ``send --wait`` bears a server that does not answer; a restart takes a few seconds."""

ENDS = FINAL | {CommandStatus.EXPIRED}
"""Where waiting ends. A late ack may still correct an expired command, but nobody knows when."""


ca_option = click.option(
    "--ca",
    envvar="INFOSCREEN_CA",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CA certificate for checking the server's, instead of the system's CAs; also INFOSCREEN_CA.",
)


def api_options(command: Decorated) -> Decorated:
    """Add where the server is, and the token to show there."""
    url = click.option(
        "--url",
        envvar="INFOSCREEN_URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        help="Address of the server; also INFOSCREEN_URL.",
    )
    token = click.option(
        "--token",
        envvar="INFOSCREEN_TOKEN",
        required=True,
        help="API token (`infoscreen token create`); better set INFOSCREEN_TOKEN.",
    )
    return url(token(ca_option(command)))


@click.command()
@api_options
@click.option(
    "--status",
    "statuses",
    type=click.Choice([*(condition.value for condition in Condition), "stale"]),
    multiple=True,
    help="Only clients with this status; repeatable.",
)
@as_json_option
def clients(url: str, token: str, ca: Path | None, statuses: tuple[str, ...], as_json: bool) -> None:
    """List the clients."""
    query = {"status": ",".join(statuses)} if statuses else {}
    found = with_api(url, token, ca, lambda api: api.every("/api/clients", **query))
    if as_json:
        write_json(found)
        return
    write_table(
        ("STATUS", "NAME", "SITE", "LAST HEARTBEAT", "UUID"),
        [
            (
                client["status"],
                client["name"] or client["hostname"],
                client["site"],
                client["last_alive"],
                client["uuid"],
            )
            for client in found
        ],
    )


@click.command()
@click.argument("uuid", type=click.UUID)
@api_options
@as_json_option
def show(uuid: object, url: str, token: str, ca: Path | None, as_json: bool) -> None:
    """Show a client.

    Its status, and whether a command can be sent.
    """
    client = with_api(url, token, ca, lambda api: api.get(f"/api/clients/{uuid}"))
    if as_json:
        write_json(client)
        return
    known = {name: value for name, value in client.items() if value not in (None, [], {})}
    width = max(map(len, known))
    for name, value in known.items():
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        click.echo(f"{name:<{width}}  {plain(shown)}")


@click.command()
@click.argument("uuid", type=click.UUID)
@click.argument("action", type=click.Choice([action.value for action in Action]))
@api_options
@click.option("--reason", help="Stored with the command and sent to the device.")
@click.option("--force", is_flag=True, help="Override the lockout; admins only, with a reason.")
@click.option(
    "--when-back",
    is_flag=True,
    help="If the client is silent, send the command once it is heard again.",
)
@click.option(
    "--expires-in",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give the command up after so many seconds; with --when-back up to 7 days.",
)
@click.option(
    "--wait", is_flag=True, help="Wait for the end of the command; exit with 0 only if it completed."
)
@as_json_option
def send(
    uuid: object,
    action: str,
    url: str,
    token: str,
    ca: Path | None,
    reason: str | None,
    force: bool,
    when_back: bool,
    expires_in: float | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Send a command to a client."""
    body: dict[str, Any] = {"action": action, "force": force, "when_back": when_back}
    given = {"reason": reason, "expires_in": expires_in}
    body |= {name: value for name, value in given.items() if value is not None}

    async def request(api: "Api") -> dict[str, Any]:
        command: dict[str, Any] = (await api.post(f"/api/clients/{uuid}/commands", body))["command"]
        if not as_json:
            click.echo(f"{command['command_id']} {command['status']}")
        return await follow(api, command["command_id"], nothing if as_json else _say) if wait else command

    command = with_api(url, token, ca, request)
    if as_json:
        write_json(command)
    if wait and command["status"] != CommandStatus.COMPLETED:
        sys.exit(1)


@click.command()
@click.argument("command_id", type=click.UUID)
@api_options
@as_json_option
def cancel(command_id: object, url: str, token: str, ca: Path | None, as_json: bool) -> None:
    """Withdraw a command that is still queued."""
    command = with_api(url, token, ca, lambda api: api.post(f"/api/commands/{command_id}/cancel", {}))
    if as_json:
        write_json(command)
    else:
        click.echo(f"{command['command_id']} {command['status']}")


async def follow(api: "Api", command_id: str, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Tell every change of the command's state until its last one, and return the command then."""
    from infoscreen.cli.api import Unreachable
    from infoscreen.clock import SystemClock

    clock = SystemClock()
    told = 1  # the first event is the request itself
    heard = clock.monotonic()
    while True:
        try:
            command = await api.get(f"/api/commands/{command_id}")
        except Unreachable:
            if clock.monotonic() - heard > PATIENCE_SECONDS:
                raise
        else:
            heard = clock.monotonic()
            for event in command["events"][told:]:
                tell(event)
            told = len(command["events"])
            if command["status"] in ENDS:
                return command
        await clock.sleep(POLL_SECONDS)


def _say(event: dict[str, Any]) -> None:
    if event["from"] != event["to"]:
        detail = f": {plain(event['detail'])}" if event["detail"] else ""
        click.echo(f"{event['at']} {event['to']}{detail}")


def nothing(event: dict[str, Any]) -> None:
    """Tell nothing of a command's event."""


def with_api(url: str, token: str | None, ca: Path | None, step: Callable[["Api"], Awaitable[T]]) -> T:
    """Run the step in a session with the server, and return what it returns."""
    from infoscreen.cli.api import Api

    async def run() -> T:
        async with Api(url, token, ca) as api:
            return await step(api)

    return asyncio.run(run())
