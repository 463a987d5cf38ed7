"""The simulator: devices that play themselves against a live broker."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import click

from infoscreen.cli.output import as_json_option, write_json
from infoscreen.cli.scenarios import playable
from infoscreen.domain.hosts import bare_host

seconds = click.FloatRange(min=0, min_open=True)
file = click.Path(exists=True, dir_okay=False, path_type=Path)

_PER_HOUR = {"min": 60.0, "h": 1.0, "d": 1 / 24}


class GivenFault(NamedTuple):
    """A fault's name, with a share of the fleet or a rate: times per hour and device."""

    name: str
    amount: float
    is_rate: bool


class FaultType(click.ParamType[GivenFault]):
    """``NAME=SHARE`` or ``NAME=TIMES/UNIT``."""

    name = "NAME=SHARE|TIMES/UNIT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> GivenFault:
        """Return what was given, or say what could have been."""
        from infoscreen.simulator import DeviceFault

        name, _, amount = str(value).partition("=")
        number, slash, unit = amount.partition("/")
        known = [fault.value for fault in DeviceFault]
        if name not in known:
            self.fail(f"{name!r} is no fault; there are {', '.join(known)}.", param, ctx)
        try:
            times = float(number)
        except ValueError:
            times = math.nan
        if not math.isfinite(times) or (slash and unit not in _PER_HOUR):
            self.fail(
                f"{value!r} is neither a share of the fleet, such as {name}=0.1, nor a rate per device,"
                f" such as {name}=0.5/h; units are {', '.join(_PER_HOUR)}.",
                param,
                ctx,
            )
        if slash:
            return GivenFault(name, times * _PER_HOUR[unit], is_rate=True)
        if not 0 <= times <= 1:
            self.fail(f"{value}: a share is 0 to 1.", param, ctx)
        return GivenFault(name, times, is_rate=False)


def _host(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        return bare_host(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command()
@playable
@click.option("--clients", type=click.IntRange(1, 50_000), required=True, help="Number of devices.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=_host,
    help="Host name or address of the broker.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=1883, show_default=True, help="Port of the broker."
)
@click.option("--ca", type=file, help="Use TLS with this CA certificate.")
@click.option("--cert", type=file, help="Client certificate of all devices, for mutual TLS.")
@click.option("--key", type=file, help="Private key of that certificate.")
@click.option("--insecure", is_flag=True, help="Do not check the host name in the broker's certificate.")
@click.option("--credentials", type=file, help="File with a line `UUID PASSWORD` for each device.")
@click.option(
    "--password",
    envvar="INFOSCREEN_DEVICE_PASSWORD",
    help="Password of every device, instead of a file; better set INFOSCREEN_DEVICE_PASSWORD.",
)
@click.option("--gateway-user", help="Account that may publish for all devices; they share connections.")
@click.option("--gateway-password-file", type=file, help="File with its password in the first line.")
@click.option(
    "--gateway-password",
    envvar="INFOSCREEN_GATEWAY_PASSWORD",
    help="The password itself; better set INFOSCREEN_GATEWAY_PASSWORD.",
)
@click.option(
    "--gateway-connections",
    type=click.IntRange(min=1),
    help="Number of shared connections; default: one per 2,500 devices.",
)
@click.option("--seed", help="The same seed gives the same devices, faults and jitter.")
@click.option("--start-within", type=seconds, help="Seconds over which the starts are spread.")
@click.option("--duration", type=seconds, help="Seconds to run; default: until Ctrl-C.")
@click.option("--heartbeat", type=seconds, help="Seconds between heartbeats; default: 30.")
@click.option("--health", type=seconds, help="Seconds between health messages; default: 60.")
@click.option("--log", type=seconds, help="Seconds between log lines; default: none.")
@click.option("--screenshot", type=seconds, help="Seconds between screenshots; default: none.")
@click.option("--boot", type=seconds, help="Seconds a reboot takes; default: 20.")
@click.option("--clean-sessions", is_flag=True, help="The broker keeps no messages for disconnected devices.")
@click.option(
    "--fault",
    "faults",
    type=FaultType(),
    multiple=True,
    help="crash=0.1 crashes a tenth of the devices once, crash=0.5/h each device every two hours on average"
    " (or /min, /d). Repeatable.",
)
@click.option(
    "--faults-within", type=seconds, help="Seconds after a start within which the faults of a share occur."
)
@click.option(
    "--relief-after",
    type=seconds,
    help="Seconds after a fault when network and power return; default: never.",
)
@as_json_option
def simulate(
    faults: tuple[GivenFault, ...],
    gateway_password: str | None,
    gateway_password_file: Path | None,
    clean_sessions: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Simulate many devices.

    They use a real broker, as the reference agent does, until Ctrl-C; figures are printed at the end.

    Up to 5,000 devices have a connection each, with --credentials or --password. Up to 50,000 share a few
    connections, with --gateway-user; docs/simulator.md says what that account must be allowed.

    With --scenario, the automatic recovery is tested on a virtual clock, without a broker (docs/recovery.md).
    """
    from infoscreen import simulator

    if gateway_password_file is not None:
        if options["gateway_user"] is None:
            raise click.UsageError("--gateway-password-file needs --gateway-user.")
        gateway_password = _first_line(gateway_password_file)
    given = {_NAMES.get(name, name): value for name, value in options.items() if value is not None}
    done = simulator.run(
        **given,
        gateway_password=gateway_password if options["gateway_user"] is not None else None,
        faults={
            simulator.DeviceFault(name): amount for name, amount in _once_each(faults, rates=False).items()
        },
        faults_per_hour={
            simulator.DeviceFault(name): amount for name, amount in _once_each(faults, rates=True).items()
        },
        persistent_sessions=not clean_sessions,
    )
    if as_json:
        write_json(done)
    else:
        for line in simulator.lines(done):
            click.echo(line)


_NAMES = {
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


def _once_each(faults: tuple[GivenFault, ...], *, rates: bool) -> dict[str, float]:
    """Return the shares or the rates by fault."""
    amounts: dict[str, float] = {}
    for fault in faults:
        if fault.is_rate != rates:
            continue
        if fault.name in amounts:
            what = "rate" if rates else "share"
            raise click.UsageError(f"{fault.name} has more than one {what}.")
        amounts[fault.name] = fault.amount
    return amounts


def _first_line(path: Path) -> str:
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {path}: {error}.") from None
    if not line:
        raise click.UsageError(f"{path} has no password in its first line.")
    return line
