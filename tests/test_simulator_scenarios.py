"""The simulator that judges the recovery: its scenarios, its files, and what must come out of them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from infoscreen.cli import cli
from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.recovery import Rung
from infoscreen.simulator.scenarios import Event, Fleet, Kind, Rhythm, Scenario, load, names
from infoscreen.simulator.scenarios.reading import parse
from infoscreen.simulator.virtual import Figures, Mode, play

POLL = 15
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


def played(name: str, clients: int, seed: str = "test", mode: Mode = Mode.RECOVERY) -> Figures:
    return play(load(name), clients=clients, seed=seed, mode=mode)


def test_every_scenario_that_was_asked_for_is_there_and_says_what_it_is() -> None:
    assert set(names()) >= WANTED
    assert all(load(name).description for name in names())


@pytest.mark.parametrize("seed", ["one", "two"])
@pytest.mark.parametrize(
    ("name", "clients"),
    [
        ("single-crash", 200),
        ("crash-loop", 200),
        ("hang", 200),
        ("service-failed", 200),
        ("daemon-restart", 500),
        ("slow-reboot", 200),
    ],
)
def test_what_a_command_can_cure_is_recovered_within_a_poll_of_the_best_possible(
    name: str, clients: int, seed: str
) -> None:
    figures = played(name, clients, seed)
    assert figures.recoverable > 0
    assert figures.recovered == figures.recoverable
    # The watch looks every second, which comes on top of the poll.
    assert max(figures.late) <= POLL + 1
    assert (figures.needless, figures.healthy, figures.in_outages) == (0, 0, 0)
    assert figures.without_reason == 0


@pytest.mark.parametrize("seed", ["one", "two"])
@pytest.mark.parametrize(
    ("name", "clients"),
    [
        ("broker-restart", 150),
        ("broker-outage-1h", 150),
        ("site-outage", 400),
        ("fleet-outage-slow", 100),
        ("fleet-outage-slow", 12),
        ("half-fleet-flapping", 40),
        ("jitter", 20),
        ("skewed-clocks", 100),
    ],
)
def test_nothing_is_done_when_it_is_not_the_clients_fault(name: str, clients: int, seed: str) -> None:
    assert load(name).outage
    figures = played(name, clients, seed)
    assert figures.disruptive == 0
    assert figures.alarms == 0
    assert figures.without_reason == 0


def test_who_is_beyond_help_ends_as_a_call_for_help_and_is_then_left_alone() -> None:
    figures = played("dead-host", 100)
    assert figures.alarms == figures.faults == 8
    assert figures.disruptive <= figures.faults


def test_the_naive_policy_is_what_an_outage_should_not_meet() -> None:
    naive = played("fleet-outage-slow", 100, mode=Mode.NAIVE)
    assert naive.needless > 100
    assert naive.in_outages > 100


def test_the_daemon_goes_on_where_it_was_after_a_restart() -> None:
    figures = played("daemon-restart", 50)
    assert figures.actions == {"restart_app": 10, "reboot_host": 5}


def test_the_same_seed_makes_the_same_figures_and_another_makes_others() -> None:
    first, again, other = (played("single-crash", 100, seed) for seed in ("a", "a", "b"))
    assert first.as_dict() == again.as_dict()
    assert first.times != other.times


def test_recoveries_of_many_keep_to_the_budget() -> None:
    crash = Event(what=Kind.CRASH, at=600, share=0.03)
    scenario = Scenario(name="many", description="", lasts=7_200, clients=300, fleet=Fleet(), events=(crash,))
    figures = play(scenario)
    assert (figures.recovered, figures.recoverable) == (9, 9)
    assert figures.reasons["budget"] > 0
    assert figures.needless == 0


@pytest.mark.parametrize("fast", [1, 2, 5, 30])
def test_however_few_beat_fast_an_outage_does_not_get_one_of_them_rebooted(fast: int) -> None:
    share = fast / 100
    fleet = Fleet(
        rhythms=(Rhythm(seconds=10, share=share), Rhythm(seconds=60, share=1 - share)), keepalive=600
    )
    outage = Event(what=Kind.NETWORK, at=600, share=1, lasts=(600, 600))
    scenario = Scenario(
        name="slow", description="", lasts=3_600, clients=100, fleet=fleet, events=(outage,), outage=True
    )
    for seed in "abc":
        assert play(scenario, seed=seed).disruptive == 0


def test_an_action_that_was_needless_is_counted_as_one() -> None:
    # A client that hangs and comes to itself again: nobody can know, and the score keeper says so.
    hang = Event(what=Kind.HANG, at=600, clients=1, lasts=(1_000, 1_000))
    scenario = Scenario(name="own", description="", lasts=3_600, clients=50, fleet=Fleet(), events=(hang,))
    figures = play(scenario)
    assert (figures.disruptive, figures.needless, figures.recoverable) == (1, 1, 0)


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
    assert scenario.fleet.rhythms == (Rhythm(seconds=10, share=0.25), Rhythm(seconds=60, share=0.75))
    (event,) = scenario.events
    assert (event.what, event.at, event.lasts, event.cured_by) == (
        Kind.CRASH,
        600,
        (60, 7_200),
        Rung.REBOOT_HOST,
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
        ('[[event]]\nwhat = "broker_outage"\nclients = 1\nlasts = 60', "befalls everybody"),
        ('[[event]]\nwhat = "crash"\nclients = 1\ntimes = 3', "`times` needs `every`"),
        ('[[event]]\nwhat = "crash"\nclients = 1\nlasts = [60, 30]', "the shorter first"),
        ('[[event]]\nwhat = "crash"\nclients = 1\ncured_by = "magic"', "allowed is restart_app"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place_and_what_is_allowed(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(text, "mine", "mine.toml")
    assert fault in str(error.value)


def test_all_faults_of_a_file_are_said_at_once() -> None:
    with pytest.raises(InvalidInput) as error:
        parse('lasts = "soon"\nclients = 0\n[[event]]\nwhat = "crash"', "mine", "mine.toml")
    assert str(error.value).count("mine.toml: ") == 3


# The command.


def simulate(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["simulate", *arguments])
    return result.exit_code, result.output


def test_a_scenario_is_played_from_the_command_line_and_compared() -> None:
    code, said = simulate("--scenario", "single-crash", "--clients", "50", "--compare")
    assert code == 0
    assert "recovery" in said
    assert "naive" in said
    assert "5 of 5" in said
    code, said = simulate("--scenario", "single-crash", "--clients", "50", "--seed", "x", "--json")
    assert code == 0
    assert json.loads(said)["decisions_without_reason"] == 0


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
