"""``infoscreen simulate --scenario``: a scenario on a virtual clock instead of devices against a broker."""

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource

from infoscreen.cli.output import write_json, write_table

OURS = {"scenario", "policy", "compare", "clients", "seed", "as_json"}


def playable(simulate: Callable[..., None]) -> Callable[..., None]:
    """Let the command play scenarios too. To be the outermost decorator, right below ``click.command``."""
    params: list[click.Parameter] = getattr(simulate, "__click_params__", [])
    clients = next(param for param in params if param.name == "clients")
    clients.required = False

    @functools.wraps(simulate)
    def command(
        scenario: str | None, policy: str | None, compare: bool, as_json: bool, **options: Any
    ) -> None:
        if scenario is None:
            if policy is not None or compare:
                raise click.UsageError("--policy and --compare need --scenario.")
            if options["clients"] is None:
                raise click.UsageError("Missing option '--clients'.")
            simulate(as_json=as_json, **options)
            return
        _refuse_others()
        if compare and policy is not None:
            raise click.UsageError("--compare plays both policies; leave --policy out.")
        modes = ["recovery", "naive"] if compare else [policy or "recovery"]
        _play(scenario, modes, options["clients"], options["seed"], as_json)

    options = (
        click.option("--compare", is_flag=True, help="Play both policies, and show them side by side."),
        click.option(
            "--policy", type=click.Choice(["recovery", "naive"]), help="Who decides; default: recovery."
        ),
        click.option("--scenario", help="Play it on a virtual clock, without a broker: a name, or a path."),
    )
    return functools.reduce(lambda decorated, option: option(decorated), options, command)


def _refuse_others() -> None:
    """Refuse options that are for a live broker only: they would be without effect."""
    context = click.get_current_context()
    given = [
        param.opts[0]
        for param in context.command.params
        if param.name is not None
        and param.name not in OURS
        and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: not with --scenario, which needs no broker.")


def _play(name: str, modes: list[str], clients: int | None, seed: str | None, as_json: bool) -> None:
    from infoscreen.judge.playing import Decider, play
    from infoscreen.simulator.scenarios import load
    from infoscreen.simulator.worlds.figures import figures_of, lines_of
    from infoscreen.simulator.worlds.scenes import world_of

    scenario = load(name)
    played: list[dict[str, object]] = []
    for mode in modes:
        world = world_of(scenario, clients, seed or "infoscreen")
        with _progress(f"{scenario.name}, {mode}") as progress:
            asyncio.run(play(world, scenario.lasts, mode=Decider(mode), progress=progress))
        played.append({"scenario": scenario.name, "policy": mode, **figures_of(world)})
    if as_json:
        write_json(played if len(played) > 1 else played[0])
        return
    if scenario.description:
        click.echo(scenario.description)
    click.echo(f"{played[0]['clients']} clients, {scenario.lasts / 3600:g} h of virtual time\n")
    columns = [dict(lines_of(one)) for one in played]
    write_table(["", *modes], [[line, *(column[line] for column in columns)] for line in columns[0]])


@contextmanager
def _progress(label: str) -> Iterator[Callable[[float], None] | None]:
    """Show how far it is, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=100, label=label, file=sys.stderr) as bar:
        yield lambda share: bar.update(round(share * 100) - bar.pos)
