"""Faults of simulated fleets by rate, and the figures of a run."""

import asyncio
import contextlib
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import click
import pytest

from infoscreen.agent.protocol.packets import Packet
from infoscreen.cli.simulate import FaultType
from infoscreen.domain.errors import InvalidArguments
from infoscreen.simulator import device_uuids
from infoscreen.simulator.connection import Endpoint
from infoscreen.simulator.device import DeviceFault
from infoscreen.simulator.faults import FaultPlan
from infoscreen.simulator.fleet import SimulatedFleet
from infoscreen.simulator.identity import identities
from infoscreen.simulator.line import Account
from infoscreen.simulator.multiplexer import Gateway
from infoscreen.simulator.traffic import MOST_UNANSWERED, PRECISION, Latencies, Unanswered
from infoscreen.wire import topics
from tests.broker import Broker
from tests.commands import CommandLine
from tests.fakes import FakeClock
from tests.waiting import DEADLINE_SECONDS, until

UUID = device_uuids(1, "faults")[0]
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_a_rate_is_met_on_average_by_every_device_and_every_fault() -> None:
    plan = FaultPlan(per_hour={DeviceFault.CRASH: 1.0, DeviceFault.HANG: 0.25, DeviceFault.DEAF: 0})
    random, passed = Random(1), timedelta(0)
    faults: Counter[DeviceFault] = Counter()
    victims: Counter[int] = Counter()
    while passed < timedelta(hours=100):
        chosen = plan.next_by_rate(20, random)
        assert chosen is not None
        pause, victim, fault = chosen
        passed += pause
        faults[fault] += 1
        victims[victim] += 1
    assert faults.keys() == {DeviceFault.CRASH, DeviceFault.HANG}
    assert faults[DeviceFault.CRASH] == pytest.approx(2_000, rel=0.1)
    assert faults[DeviceFault.HANG] == pytest.approx(500, rel=0.15)
    assert victims.keys() == set(range(20))


def test_without_rates_no_fault_occurs_and_the_rarest_rate_does_no_harm() -> None:
    assert FaultPlan(per_hour={DeviceFault.CRASH: 0}).next_by_rate(50_000, Random(1)) is None
    chosen = FaultPlan(per_hour={DeviceFault.CRASH: 1e-300}).next_by_rate(1, Random(1))
    assert chosen is not None
    assert chosen[0] > timedelta(days=10_000)


@pytest.mark.parametrize("rate", [-1, 3_601, float("nan"), float("inf")])
def test_impossible_rates_are_refused_with_what_was_given_and_what_is_allowed(rate: float) -> None:
    with pytest.raises(InvalidArguments, match=rf"crash={rate:g}/h: a rate is 0 to 3600 per hour and device"):
        FaultPlan(per_hour={DeviceFault.CRASH: rate})


async def test_a_long_run_keeps_having_faults(clock: FakeClock, free_port: int) -> None:
    fleet = SimulatedFleet(
        identities(device_uuids(20, "long run")),
        {},
        Endpoint("127.0.0.1", free_port),  # nobody is there, and none of this needs a broker
        clock,
        faults=FaultPlan(
            per_hour={DeviceFault.CRASH: 1.0, DeviceFault.POWER_LOSS: 0.5}, relief_after=timedelta(minutes=10)
        ),
        gateway=Gateway(Account("nobody", "nobody")),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(fleet.run(stop))
    halves = []
    for _ in range(2):
        for _ in range(10 * 60):
            clock.advance(60)
            for _ in range(5):
                await asyncio.sleep(0)
        halves.append(Counter(fleet.tally.faults))
        fleet.tally.faults.clear()
    stop.set()
    await task
    for half in halves:
        # 20 devices, 10 hours; a device that is off feels nothing, which costs some ten per cent.
        assert 120 < half["crash"] < 260
        assert 50 < half["power_loss"] < 140


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("crash=0.1", ("crash", 0.1, False)),
        ("hang=1", ("hang", 1.0, False)),
        ("crash=0.5/h", ("crash", 0.5, True)),
        ("crash=2/min", ("crash", 120.0, True)),
        ("deaf=12/d", ("deaf", 0.5, True)),
    ],
)
def test_a_fault_is_given_as_share_or_rate(text: str, meant: tuple[str, float, bool]) -> None:
    assert FaultType().convert(text, None, None) == meant


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boredom=0.5", "'boredom' is no fault; there are crash, hang"),
        ("crash", "'crash' is neither a share"),
        ("crash=often", "such as crash=0.1, nor a rate per device, such as crash=0.5/h; units are min, h, d"),
        ("crash=1/year", "'crash=1/year' is neither"),
        ("crash=1/", "'crash=1/' is neither"),
        ("crash=nan", "'crash=nan' is neither"),
        ("crash=inf/h", "'crash=inf/h' is neither"),
        ("crash=1.5", "crash=1.5: a share is 0 to 1"),
    ],
)
def test_a_fault_that_cannot_be_understood_is_answered_with_what_can(text: str, words: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        FaultType().convert(text, None, None)
    assert words in refused.value.message


def test_percentiles_of_many_durations_are_kept_closely_in_little_memory() -> None:
    took = Latencies()
    assert took.percentile(50) is None
    for milliseconds in range(1, 10_001):
        took.add(timedelta(milliseconds=milliseconds))
    assert took.count == 10_000
    for percent in (50, 95, 99, 100):
        exact = percent / 10
        found = took.percentile(percent)
        assert found is not None
        assert exact <= found <= exact * (1 + PRECISION) + 0.01
    took.add(timedelta(0))
    took.add(timedelta(microseconds=-1))
    assert took.percentile(0.001) == pytest.approx(1e-6)


def test_only_the_first_ack_of_a_command_that_was_heard_is_an_answer() -> None:
    unanswered, command, other = Unanswered(), str(uuid4()), str(uuid4())
    ours, alias = topics.acks(UUID)

    def ack(topic: str, command_id: str) -> Packet:
        return Packet(topic, f'{{"command_id":"{command_id}","status":"accepted"}}'.encode())

    assert unanswered.sending(UUID, ack(ours, command), NOON) is None
    unanswered.heard(f'{{"command_id": "{command.upper()}"}}'.encode(), NOON)
    unanswered.heard(b"no command at all", NOON)
    later = NOON + timedelta(seconds=3)
    assert unanswered.sending(UUID, Packet(topics.heartbeat(UUID), b"{}"), later) is None
    assert unanswered.sending(UUID, ack(ours, other), later) is None
    assert unanswered.sending(UUID, ack(ours, command), later) == timedelta(seconds=3)
    assert unanswered.sending(UUID, ack(alias, command), later) is None
    assert unanswered.sending(UUID, ack(ours, command), later) is None
    for _ in range(MOST_UNANSWERED):
        unanswered.heard(f'{{"command_id": "{uuid4()}"}}'.encode(), NOON)
    unanswered.heard(f'{{"command_id": "{other}"}}'.encode(), NOON)
    assert unanswered.sending(UUID, ack(ours, other), later) is not None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    (tmp_path / "work").mkdir()
    return CommandLine(tmp_path / "work", monkeypatch)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fault", "crash=0.1", "--fault", "crash=0.2"), "crash has more than one share."),
        (("--fault", "hang=1/h", "--fault", "hang=2/h"), "hang has more than one rate."),
        (("--gateway-password-file", "empty"), "--gateway-password-file needs --gateway-user."),
        (
            ("--gateway-user", "g", "--gateway-password-file", "empty"),
            "empty has no password in its first line.",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    here: CommandLine, options: tuple[str, ...], words: str
) -> None:
    (here.directory / "empty").write_text("\n")
    done = here.run("simulate", "--clients", "3", *options)
    assert done.code == 2
    assert words in done.err


@pytest.mark.broker
async def test_for_programs_the_figures_are_json_and_nothing_else_is_said(
    here: CommandLine, broker: Broker
) -> None:
    out, err = await _simulate(here, broker, "--json")
    assert err == b""
    figures = json.loads(out)
    assert figures["devices"] == 3
    assert figures["sent"] == figures["acked"] == figures["puback"]["count"] > 0
    assert figures["puback"]["median_ms"] <= figures["puback"]["p95_ms"] <= figures["puback"]["p99_ms"]
    assert figures["first_ack"] == {"count": 0, "median_ms": None, "p95_ms": None, "p99_ms": None}


@pytest.mark.broker
async def test_on_a_terminal_a_line_tells_how_it_goes(here: CommandLine, broker: Broker) -> None:
    terminal, its_end = os.openpty()
    try:
        out, _ = await _simulate(here, broker, stderr=its_end)
        os.close(its_end)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so when the other side is closed
            while part := os.read(terminal, 65_536):
                shown += part
    finally:
        os.close(terminal)
    assert b"/3 connected, " in shown
    assert b"ms from publishing to the broker's acknowledgement: median; p95 " in out


async def _simulate(
    here: CommandLine, broker: Broker, *options: str, stderr: int = asyncio.subprocess.PIPE
) -> tuple[bytes, bytes]:
    devices = await broker.add_devices(device_uuids(3, "figures"))
    credentials = here.directory / "devices"
    credentials.write_text("".join(f"{uuid} {password}\n" for uuid, password in devices.items()))
    process = await here.start(
        *("simulate", "--clients", "3", "--port", str(broker.port), "--credentials", str(credentials)),
        *("--start-within", "0.1", *options),
        stderr=stderr,
    )
    await until(lambda: all(f" as {uuid} " in broker.log for uuid in devices))
    process.terminate()
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 0, err
    return out, err or b""
