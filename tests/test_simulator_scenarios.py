"""The simulator that judges the recovery: its scenarios, its files, and what must come out of them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from infoscreen.cli import cli
from infoscreen.domain.errors import InvalidArguments
from infoscreen.judge.playing import Decider, play
from infoscreen.simulator.scenarios import (
    Event,
    FleetTable,
    RhythmTable,
    Scenario,
    ScenarioEventKind,
    load,
    names,
)
from infoscreen.simulator.scenarios.reading import parse
from infoscreen.simulator.worlds import Score
from infoscreen.simulator.worlds.figures import figures_of
from infoscreen.simulator.worlds.scenes import world_of

WANTED = {
    "single-crash",
    "crash-loop",
    "hang",
    "dead-host",
    "service-failed",
    "broker-restart",
    "broker-outage-1h",
    "daemon-restart",
    "site-outage",
    "half-fleet-flapping",
    "jitter",
    "skewed-clocks",
    "slow-reboot",
    "mixed-day",
}


async def played(
    scenario: Scenario, clients: int = 30, seed: str = "test", mode: Decider = Decider.RECOVERY
) -> Score:
    world = world_of(scenario, clients, seed)
    await play(world, scenario.lasts, mode=mode)
    return world.score


def scenario_of(*events: Event, lasts: float = 3_600, fleet: FleetTable | None = None) -> Scenario:
    return Scenario(name="mine", lasts=lasts, clients=30, fleet=fleet or FleetTable(), event=events)


def test_every_scenario_that_was_asked_for_is_there_and_says_what_it_is() -> None:
    assert set(names()) >= WANTED
    assert all(load(name).description for name in names())


async def test_crashes_are_cured_soon_and_nobody_else_is_touched() -> None:
    score = await played(scenario_of(Event(what=ScenarioEventKind.CRASH, at=1_000, clients=2, within=600)))
    assert [fault.healed is not None for _, fault in score.recoverable()] == [True, True]
    assert max(fault.late for _, fault in score.recoverable()) < 2
    assert {act.needless for act in score.acts} == {None}
    assert score.without_reason == 0
    assert score.undecided == set()


async def test_the_naive_policy_reboots_who_would_have_come_back() -> None:
    cut = Event(what=ScenarioEventKind.NETWORK, at=900, share=0.9, lasts=(400, 400))
    outage = scenario_of(cut, lasts=1_500)
    naive, careful = await played(outage, mode=Decider.NAIVE), await played(outage)
    assert sum(act.needless is not None for act in naive.acts) > 10
    assert careful.acts == []


async def test_an_action_that_was_needless_is_counted_as_one() -> None:
    # A client that hangs and recovers by itself: nobody can know, and the score says so.
    score = await played(
        scenario_of(Event(what=ScenarioEventKind.HANG, at=1_000, clients=1, lasts=(2_000, 2_000)))
    )
    assert [act.needless for act in score.acts] == ["hang would have passed by itself"]


async def test_a_client_whose_failed_service_is_shown_and_that_loses_its_network_does_not_stop_time() -> None:
    # The simulator's own copy of ingest never returned here.
    failed = Event(what=ScenarioEventKind.SERVICE_FAILED, at=1_000, clients=5, cured_by="nothing")
    world = world_of(scenario_of(failed), 10, "x")
    for device in world.devices:
        world.at(1_400, world.cut, device)
        world.at(1_700, world.mend, device)
    await play(world, 2_100)
    assert world.score.polls == 140


async def test_the_same_seed_makes_the_same_world_and_another_makes_another() -> None:
    scenario = load("single-crash").model_copy(update={"lasts": 2_400.0})
    first, again, other = [figures_of(world_of(scenario, 20, seed)) for seed in ("a", "a", "b")]
    assert first == again
    lines = [world_of(scenario, 20, seed).lines(600) for seed in ("a", "a", "b")]
    assert lines[0] == lines[1] != lines[2]
    assert other["clients"] == 20


async def test_the_same_lines_make_the_same_answers() -> None:
    scenario = scenario_of(Event(what=ScenarioEventKind.CRASH, at=700, clients=2), lasts=1_200)
    first, again = [await played(scenario, 10) for _ in range(2)]
    assert [(act.at, act.device) for act in first.acts] == [(act.at, act.device) for act in again.acts]
    assert first.reasons == again.reasons


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WANTED - {"mixed-day"}))
async def test_a_shipped_scenario_is_played_without_a_needless_action(name: str) -> None:
    scenario = load(name)
    score = await played(scenario, 30)
    assert [act for act in score.acts if act.needless] == []
    assert score.without_reason == 0
    if scenario.outage:
        assert score.acts == []


# Files.


def test_a_file_says_everything_a_scenario_can_say() -> None:
    scenario = parse(
        """
        description = "mine"
        lasts = "1 d"
        clients = 20
        [fleet]
        heartbeat = [{ every = "10 s", share = 0.25 }, { every = 60, share = 0.75 }]
        sites = 4
        [[event]]
        what = "crash"
        at = "10 min"
        share = 0.5
        lasts = ["1 min", "2 h"]
        cured_by = "reboot_host"
        """,
        "mine",
        "mine.toml",
    )
    assert (scenario.name, scenario.lasts, scenario.clients, scenario.fleet.sites) == ("mine", 86_400, 20, 4)
    assert scenario.fleet.heartbeat == (RhythmTable(every=10, share=0.25), RhythmTable(every=60, share=0.75))
    (event,) = scenario.event
    assert (event.what, event.at, event.lasts, event.cured_by) == (
        ScenarioEventKind.CRASH,
        600,
        (60, 7_200),
        "reboot_host",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("lasts = ", "mine.toml: not TOML"),
        ('lasts = "soon"', "lasts is 'soon'; allowed is a duration"),
        ("lasts = -1", "lasts is -1; allowed is a duration"),
        ("clients = 0", "clients is 0; allowed is a whole number"),
        ("colour = 1", "colour is not known; there are"),
        ("fleet = 3", "fleet is 3; allowed is a table [fleet]"),
        ("event = 3", "event is 3; allowed are tables [[event]]"),
        ("[fleet]\njitter = 2", "[fleet] jitter is 2; allowed is a share, 0 to 1"),
        ("[fleet]\nheartbeat = [{every = 10, share = 0.5}]", "[fleet] heartbeat is"),
        ('[[event]]\nwhat = "meteor"\nclients = 1', "[[event]] 1: what is 'meteor'; allowed is crash"),
        ("[[event]]\nclients = 1", "[[event]] 1: what is missing; allowed is crash"),
        ('[[event]]\nwhat = "crash"', "needs exactly one of clients, share and per_year"),
        ('[[event]]\nwhat = "crash"\nclients = 1\nshare = 0.5', "needs exactly one of"),
        ('[[event]]\nwhat = "network"\nclients = 1', "say how long it `lasts`"),
        ('[[event]]\nwhat = "site_outage"\nsites = 1\nlasts = 60', "site_outage needs `sites`"),
        ('[[event]]\nwhat = "broker_outage"\nclients = 1\nlasts = 60', "happens to everybody"),
        ('[[event]]\nwhat = "crash"\nclients = 1\ntimes = 3', "`times` needs `every`"),
        ('[[event]]\nwhat = "crash"\nclients = 1\nlasts = [60, 30]', "the shorter first"),
        ('[[event]]\nwhat = "crash"\nclients = 1\ncured_by = "magic"', "allowed is restart_app"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place_and_what_is_allowed(text: str, fault: str) -> None:
    with pytest.raises(InvalidArguments) as error:
        parse(text, "mine", "mine.toml")
    assert fault in str(error.value)


def test_all_faults_of_a_file_are_said_at_once() -> None:
    with pytest.raises(InvalidArguments) as error:
        parse('lasts = "soon"\nclients = 0\n[[event]]\nwhat = "crash"', "mine", "mine.toml")
    assert str(error.value).count("mine.toml: ") == 3


# The command.


def simulate(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["simulate", *arguments])
    return result.exit_code, result.output


def test_a_scenario_is_played_from_the_command_line_and_compared() -> None:
    code, said = simulate("--scenario", "hang", "--clients", "8", "--compare")
    assert code == 0
    assert "recovery" in said
    assert "naive" in said
    assert "recovered" in said


def test_a_file_of_ones_own_is_played(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('lasts = "30 min"\n[[event]]\nwhat = "crash"\nclients = 2\n', encoding="utf-8")
    code, said = simulate("--scenario", str(file), "--clients", "20", "--policy", "naive", "--json")
    assert code == 0
    assert (json.loads(said)["scenario"], json.loads(said)["policy"]) == ("mine", "naive")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--scenario", "nope"], 1, "there are broker-outage-1h"),
        (["--scenario", "./nope.toml"], 1, "cannot read nope.toml"),
        (["--scenario", "hang", "--host", "elsewhere"], 2, "--host: not with --scenario"),
        (["--scenario", "hang", "--policy", "naive", "--compare"], 2, "leave --policy out"),
        (["--policy", "naive", "--clients", "3"], 2, "need --scenario"),
        ([], 2, "Missing option '--clients'"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(arguments: list[str], code: int, said: str) -> None:
    exit_code, output = simulate(*arguments)
    assert exit_code == code
    assert said in output
