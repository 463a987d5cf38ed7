"""What runs for long: the daemon and the demo; and the check of the whole installation."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from infoscreen.cli.output import as_json_option, write_json
from infoscreen.domain.visible import visible


@click.command()
def serve() -> None:
    """Run the daemon.

    It stays in the foreground until SIGTERM or Ctrl-C.
    """
    import faulthandler
    import signal

    # From here on a reload that comes too early is left out; by default SIGHUP would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # systemd's watchdog sends SIGABRT: the stacks of all threads tell what hung.
    faulthandler.enable(sys.__stderr__ or sys.stderr)
    from infoscreen import app, config_check, logs

    settings = config_check.loaded()
    logs.configure(settings.log_level, settings.log_format)
    _run(app.serve(settings, config_check.loaded))


def _run(main: Coroutine[Any, Any, None]) -> None:
    loop_factory = None
    if sys.platform == "linux":
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)


@click.command()
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=25, show_default=True, help="Simulated devices."
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the panel; by default 8080, or another free port."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep all data in this directory and continue with it next time; by default nothing is kept.",
)
def demo(clients: int, port: int | None, directory: Path | None) -> None:
    """Run a complete demo.

    Runs broker, database, daemon and simulated devices, all local, and cleans up after Ctrl-C.
    """
    from infoscreen import demo

    demo.run(clients=clients, port=port, directory=directory)


@click.command()
@as_json_option
def health(as_json: bool) -> None:
    """Tell in one line whether the daemon is well.

    Made for monitoring: exits with 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3 (UNKNOWN).
    """
    from infoscreen import health
    from infoscreen.clock import SystemClock
    from infoscreen.domain.errors import InvalidSettings
    from infoscreen.settings import load

    try:
        found = health.examine(load(), SystemClock())
    except InvalidSettings as error:
        found = health.HealthReport(health.PluginState.UNKNOWN, "; ".join(str(error).splitlines()), {})
    if as_json:
        write_json({"state": found.state.name, "sentence": found.sentence, "figures": found.figures})
    else:
        click.echo(visible(found.line, one_line=True))
    sys.exit(found.state)


@click.command()
@as_json_option
def doctor(as_json: bool) -> None:
    """Check the installation.

    Each line is a verdict, what was found and what to do. Exits with 1 if something fails.
    """
    from infoscreen import doctor

    findings = asyncio.run(doctor.examine())
    if as_json:
        write_json(findings)
    else:
        for finding in findings:
            click.echo(doctor.line(finding))
    sys.exit(1 if any(finding.verdict is doctor.CheckStatus.FAIL for finding in findings) else 0)
