"""``infoscreen recovery``: what the automatic recovery would have done with other settings."""

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from infoscreen.cli.output import as_json_option, plain, write_json, write_table

if TYPE_CHECKING:
    from infoscreen.judge.replay import Comparison, Replayed, ReplayedAct
    from infoscreen.settings import Settings

UNITS = {"m": "minutes", "h": "hours", "d": "days"}

NOT_REPLAYABLE = {"HEARTBEAT_STALE_SECONDS", "STALE_MIN_SECONDS"}
"""The record holds what followed from them, not what they were applied to."""

REPLAYABLE = (
    "crash_recovery_",
    "recovery_",
    "recovered_",
    "relapse_",
    "command_",
    "restart_",
    "reboot_",
    "power_cycle_",
    "boot_",
    "start_timeout_",
    "credible_",
)
"""How the settings begin that the judge can be given for a record."""


class Ago(click.ParamType[timedelta]):
    """``7d``, ``12h`` or ``30m``."""

    name = "AGO"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the length of time."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,4})([mhd])", str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is not such as 7d, 12h or 30m", param, ctx)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


@click.group()
def recovery() -> None:
    """Replay and judge the automatic recovery."""


@recovery.command()
@click.option("--since", type=Ago(), default="7d", show_default=True, help="Length of the period.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Setting to change; repeatable.")
@as_json_option
def replay(since: timedelta, changes: Sequence[str], as_json: bool) -> None:
    """Show what would have been done with other settings.

    Runs the rules over the recorded history, once with the current settings and once with the changed ones.
    Only reads; the daemon may be running.
    """
    present, changed = _settings(changes)
    comparison = asyncio.run(_replay(present, changed, since, quiet=as_json))
    if as_json:
        write_json(comparison)
    else:
        _tell(comparison, changes)


def _settings(changes: Sequence[str]) -> tuple["Settings", "Settings"]:
    from infoscreen import settings
    from infoscreen.domain.errors import InvalidSettings

    present = settings.load()
    wanted: dict[str, str] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if name in NOT_REPLAYABLE:
            raise click.UsageError(f"{name} cannot be replayed: the record holds only what followed from it.")
        if not equals or name.lower() not in _replayable(present):
            known = ", ".join(one.upper() for one in _replayable(present))
            raise click.UsageError(f"{change!r}: KEY=VALUE is wanted, KEY being {known}.")
        wanted[name.lower()] = value
    try:
        return present, settings.changed(present, wanted)
    except InvalidSettings as fault:
        raise click.UsageError(str(fault)) from None


def _replayable(settings: "Settings") -> dict[str, object]:
    """Return the settings that a replay depends on, by lower-case name."""
    names = [name for name in type(settings).model_fields if name.startswith(REPLAYABLE)]
    return {name: getattr(settings, name) for name in names}


async def _replay(present: "Settings", changed: "Settings", ago: timedelta, *, quiet: bool) -> "Comparison":
    from infoscreen.clock import SystemClock
    from infoscreen.judge.replay import Replay, compare
    from infoscreen.storage import past, schema
    from infoscreen.storage.engine import Store

    store = Store(present.database_url)
    try:
        await schema.check(store)
        now = SystemClock().now()
        async with store.read() as connection:
            record = await past.since(connection, now - ago, now)
    finally:
        await store.close()
    runs: list[Replayed] = []
    for settings in (present, changed):
        if settings is changed and _replayable(changed) == _replayable(present):
            runs.append(runs[0])
            break
        run = Replay(record, _replayable(settings))
        with click.progressbar(length=int(ago.total_seconds()), label="Replaying", hidden=quiet) as bar:
            runs.append(await run.run(_advancing(bar, record.since)))
    return compare(record, *runs)


def _advancing(bar: Any, since: datetime) -> Callable[[datetime], None]:
    def advance(at: datetime) -> None:
        bar.update(max(0, int((at - since).total_seconds()) - bar.pos))

    return advance


def _tell(comparison: "Comparison", changes: Sequence[str]) -> None:
    since, until = plain(comparison.since), plain(comparison.until)
    click.echo(f"From {since} to {until}:")
    click.echo(f"  really done by the recovery        {len(comparison.really)}")
    for title, run in (("present settings", comparison.before), ("changed settings", comparison.after)):
        if run is comparison.after and not changes:
            break
        done = f"{len(run.acts)} actions, {len(run.gave_up)} calls for help, {len(run.incidents)} outages"
        click.echo(f"  with the {title:24}  {done}")
    if not changes:
        _list("It would do:", comparison.before.acts)
    else:
        _list("Done in addition:", comparison.more)
        _list("Not done any more:", comparison.fewer)
        if comparison.moved:
            click.echo("\nDone at another time:")
            rows = [(old.at, new.at, new.label, new.action) for old, new in comparison.moved]
            write_table(("BEFORE", "AFTER", "CLIENT", "ACTION"), rows)
        if not comparison.more and not comparison.fewer and not comparison.moved:
            click.echo("\nNothing would have been different.")
    click.echo("\nWhat the record cannot show:")
    for limit in comparison.limits:
        click.echo(f"- {plain(limit)}")


def _list(title: str, acts: Sequence["ReplayedAct"]) -> None:
    if not acts:
        return
    click.echo(f"\n{title}")
    rows = [(act.at, act.label, act.action, act.well_at) for act in acts]
    write_table(("AT", "CLIENT", "ACTION", "ONLINE AGAIN"), rows)


@recovery.command()
@click.option("--quiet", "-q", is_flag=True, help="Do not report ignored input on standard error.")
def judge(quiet: bool) -> None:
    """Run the automatic recovery on events that are read as lines of JSON.

    Reads one object per line from standard input, in order of time, and answers each `poll` with one line.
    The services of the daemon run on a virtual clock and a database in memory; the settings of this machine
    are not used. docs/judge.md describes the lines.
    """
    from infoscreen.cli.judge import run

    sys.exit(asyncio.run(run(sys.stdin.buffer, sys.stdout, quiet=quiet)))
