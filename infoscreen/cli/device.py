"""What runs on a device: the agent, and the report that systemd's ``OnFailure=`` makes."""

import asyncio
from importlib.util import find_spec

import click

from infoscreen.cli.enroll import enroll


@click.group(invoke_without_command=True)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Do not restart, reboot or shut down anything; answer that it was a dry run.",
)
@click.pass_context
def agent(context: click.Context, dry_run: bool) -> None:
    """Run the agent of this device.

    It stays in the foreground until SIGTERM or Ctrl-C. Its settings are the variables AGENT_..., see
    docs/agent.md.
    """
    if context.invoked_subcommand is not None:
        return
    from infoscreen.agent.settings import load
    from infoscreen.domain.errors import CannotStart

    settings = load()
    if find_spec("psutil") is None:
        raise CannotStart(
            "the agent needs psutil, which is not installed; `./install.sh --role device` installs it"
        )
    from infoscreen import logs
    from infoscreen.agent import program

    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(program.run(settings, dry_run=dry_run))


agent.add_command(enroll)
agent.add_command(enroll, "enrol")


@click.command("report-service-failed")
@click.option("--unit", required=True, help="The unit that systemd has given up on.")
def report_service_failed(unit: str) -> None:
    """Report a unit that systemd has given up on.

    Waits until the broker has the report, however long that takes.
    """
    from random import Random

    from infoscreen import logs
    from infoscreen.agent import service_failed
    from infoscreen.agent.settings import load
    from infoscreen.clock import SystemClock

    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(service_failed.report(settings, unit, SystemClock(), Random()))
