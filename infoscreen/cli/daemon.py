"""What runs for long: the daemon, the demo and the simulator; and the check of the whole installation."""

import asyncio
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from infoscreen.cli.output import as_json_option, write_json
from infoscreen.cli.scenarios import playable

seconds = click.FloatRange(min=0, min_open=True)


@click.command()
def serve() -> None:
    """Run the daemon.

    It stays in the foreground until SIGTERM or Ctrl-C.
    """
    from infoscreen import app, logs
    from infoscreen.settings import load

    settings = load(serving=True)
    logs.configure(settings.log_level, settings.log_format)
    _run(app.serve(settings))


def _run(main: Coroutine[Any, Any, None]) -> None:
    loop_factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)


@click.command()
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=25, show_default=True, help="Simulated devices."
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Of the panel; without, 8080 or another that is free."
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything there, and go on with it next time; without, nothing stays.",
)
def demo(clients: int, port: int | None, directory: Path | None) -> None:
    """Try it out.

    Runs broker, database, daemon and simulated devices, all local, and cleans up after Ctrl-C.
    """
    from infoscreen import demo

    demo.run(clients=clients, port=port, directory=directory)


class FaultShare(click.ParamType[tuple[str, float]]):
    """``NAME=SHARE``: which fault, and the share of the fleet that it befalls, 0 to 1."""

    name = "NAME=SHARE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the pair."""
        name, _, share = str(value).partition("=")
        try:
            return name, float(share)
        except ValueError:
            self.fail(f"{value!r} is not NAME=SHARE, such as crash=0.1", param, ctx)


@click.command()
@playable
@click.option("--clients", type=click.IntRange(min=1), required=True, help="How many devices.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The broker's.")
@click.option("--port", type=click.IntRange(1, 65535), default=1883, show_default=True, help="The broker's.")
@click.option(
    "--credentials",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a line `UUID PASSWORD` for each device.",
)
@click.option(
    "--password",
    envvar="INFOSCREEN_DEVICE_PASSWORD",
    help="Of every device, without a file; better given as INFOSCREEN_DEVICE_PASSWORD.",
)
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Talk TLS, trusting it."
)
@click.option("--seed", help="The same one makes the same devices, faults and jitter.")
@click.option("--heartbeat", type=seconds, help="Seconds between heartbeats.")
@click.option("--health", type=seconds, help="Seconds between health messages.")
@click.option("--boot", type=seconds, help="Seconds that a reboot takes.")
@click.option("--log", type=seconds, help="Seconds between log lines; none without.")
@click.option("--screenshot", type=seconds, help="Seconds between screenshots; none without.")
@click.option("--start-within", type=seconds, help="Seconds over which the starts are spread.")
@click.option("--fault", "faults", type=FaultShare(), multiple=True, help="Such as crash=0.1; repeatable.")
@click.option("--faults-within", type=seconds, help="Seconds after the start within which faults befall.")
@click.option("--relief-after", type=seconds, help="Seconds after which network and power come back.")
@click.option("--duration", type=seconds, help="Seconds to run; until Ctrl-C without.")
@click.option("--clean-sessions", is_flag=True, help="The broker keeps nothing for devices that are away.")
def simulate(
    clients: int, faults: tuple[tuple[str, float], ...], clean_sessions: bool, **options: Any
) -> None:
    """Play many devices.

    They talk to a live broker; figures are printed at the end. With --scenario nothing is live: it judges the
    automatic recovery on a virtual clock (docs/recovery.md).
    """
    from infoscreen import simulator

    shares = _shares(faults, [fault.value for fault in simulator.Fault])
    renamed = {
        _SIMULATOR_NAMES.get(name, name): value for name, value in options.items() if value is not None
    }
    simulator.run(
        clients,
        faults={simulator.Fault(name): share for name, share in shares.items()},
        persistent_sessions=not clean_sessions,
        **renamed,
    )


_SIMULATOR_NAMES = {
    name: f"{name}_seconds"
    for name in (
        "heartbeat",
        "health",
        "boot",
        "log",
        "screenshot",
        "start_within",
        "faults_within",
        "relief_after",
        "duration",
    )
}


def _shares(faults: tuple[tuple[str, float], ...], known: list[str]) -> dict[str, float]:
    for name, share in faults:
        if name not in known:
            raise click.UsageError(f"{name!r} is no fault; there are {', '.join(known)}.")
        if not 0 <= share <= 1:
            raise click.UsageError(f"{name}={share:g}: a share is 0 to 1.")
    return dict(faults)


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
    sys.exit(1 if any(finding.verdict is doctor.Verdict.FAIL for finding in findings) else 0)
