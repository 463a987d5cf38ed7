"""``infoscreen notify``: try a channel, or send a text to it, over the HTTP API with an admin's token."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infoscreen.cli.output import as_json_option, plain, write_json
from infoscreen.cli.remote import api_options, with_api

if TYPE_CHECKING:
    from infoscreen.cli.api import Api


@click.group()
def notify() -> None:
    """Try notification channels and send messages."""


@notify.command()
@click.argument("channel")
@api_options
@as_json_option
def test(channel: str, url: str, token: str, ca: Path | None, as_json: bool) -> None:
    """Send a test message to CHANNEL, a name or a number, and show the receiver's answer."""

    async def step(api: "Api") -> dict[str, Any]:
        return await api.post(f"/api/channels/{await _number(api, channel)}/test", {})

    outcome = with_api(url, token, ca, step)
    if as_json:
        write_json(outcome)
    else:
        said = " ".join(str(outcome[name]) for name in ("fault", "status", "detail") if outcome[name])
        click.echo(plain(f"{'delivered' if outcome['ok'] else 'failed'} {said}".strip()))
    if not outcome["ok"]:
        sys.exit(1)


@notify.command()
@click.option("--channel", required=True, help="Its name or number.")
@click.argument("text")
@api_options
@as_json_option
def send(channel: str, text: str, url: str, token: str, ca: Path | None, as_json: bool) -> None:
    """Send TEXT to a channel. It is kept and tried for 24 hours until the channel takes it."""

    async def step(api: "Api") -> dict[str, Any]:
        return await api.post(f"/api/channels/{await _number(api, channel)}/send", {"text": text})

    message = with_api(url, token, ca, step)
    if as_json:
        write_json(message)
    else:
        click.echo(message["message_id"])


async def _number(api: "Api", channel: str) -> int:
    found = [one for one in await api.every("/api/channels") if channel in (one["name"], str(one["id"]))]
    if not found:
        raise click.ClickException(f"There is no channel {plain(channel)}.")
    # A name that looks like a number is a name.
    return int(next((one for one in found if one["name"] == channel), found[0])["id"])
