"""The command line: each command a few lines that call into the package.

Exit codes: 0 done, 1 refused or failed with the reason on standard error, 2 wrong usage. The command modules
import what they need inside their functions, so that ``--help`` is quick and a device's commands never load
the server's libraries.
"""

import logging
import os
import sys
from typing import IO, Any

import click

from infoscreen import __version__, logs
from infoscreen.cli.accounts import token, user
from infoscreen.cli.broker import broker
from infoscreen.cli.configuration import config
from infoscreen.cli.daemon import demo, doctor, health, serve
from infoscreen.cli.database import db
from infoscreen.cli.descriptions import describe
from infoscreen.cli.device import agent, report_service_failed
from infoscreen.cli.notify import notify
from infoscreen.cli.pki import pki
from infoscreen.cli.power import power
from infoscreen.cli.recovery import recovery
from infoscreen.cli.remote import cancel, clients, send, show
from infoscreen.cli.simulate import simulate
from infoscreen.domain.errors import InfoscreenError, Refused


class _Failed(click.ClickException):
    """An expected error. Under systemd `journalctl -p err` shows it."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Say what is wrong, on standard error or in the journal."""
        if not logs.is_journal(sys.stderr, os.environ):
            super().show(file)
            return
        logs.configure()
        logging.getLogger("infoscreen").critical(self.format_message(), extra={"event": "failed"})


class _Commands(click.Group):
    """Says expected errors in one line; whatever is not expected keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its expected errors become exit code 1."""
        try:
            return super().invoke(ctx)
        except Refused as refusal:
            from infoscreen.words.speaking import say

            raise _Failed(say(refusal.fact)) from refusal
        except InfoscreenError as error:
            raise _Failed(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which somebody new meets them."""
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="infoscreen")
def cli() -> None:
    """Keep fleets of digital-signage screens alive.

    Settings come from the environment, from systemd credentials, from /etc/infoscreen/infoscreen.env, and
    from .env in the working directory: see `infoscreen config show`.
    """


for command in (
    *(serve, demo, db, user, token, clients, show, send, cancel),
    *(power, recovery, notify, config, broker, pki),
    *(agent, report_service_failed, simulate, describe, doctor, health),
):
    cli.add_command(command)


def main() -> None:
    """Be the command ``infoscreen``; end with its exit code."""
    cli(prog_name="infoscreen")
