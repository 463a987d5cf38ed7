"""What a simulation says at its end, for people and for programs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from infoscreen.simulator.fleet import SimulatedFleet
from infoscreen.simulator.traffic import Latencies

MOST_TROUBLES = 5


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long something took, in milliseconds, at most 5 % too much; None when it never happened."""

    count: int
    median_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a fleet did.

    ``connections`` is how often devices came online, over ``shared_connections`` if those are not 0.
    ``unacknowledged`` is what was lost with a connection, or still under way at the end. ``puback`` is from
    publishing to the broker's acknowledgement, ``first_ack`` from a command's arrival to its first ack being
    sent.
    """

    devices: int
    shared_connections: int
    connections: int
    sent: int
    acked: int
    unacknowledged: int
    commands: int
    duplicates: int
    acks: int
    puback: Percentiles
    first_ack: Percentiles
    commands_ignored: Mapping[str, int]
    faults: Mapping[str, int]
    trouble: Mapping[str, int]


def figures(fleet: SimulatedFleet) -> Figures:
    """Return what the fleet has done so far."""
    traffic, tally = fleet.traffic, fleet.tally
    return Figures(
        devices=fleet.size,
        shared_connections=fleet.shared_connections,
        connections=traffic.connections,
        sent=traffic.sent,
        acked=traffic.acked,
        unacknowledged=traffic.sent - traffic.acked,
        commands=tally.commands,
        duplicates=tally.duplicates,
        acks=tally.acks,
        puback=_percentiles(traffic.pubacks),
        first_ack=_percentiles(traffic.answers),
        commands_ignored=dict(sorted(tally.ignored.items())),
        faults=dict(sorted(tally.faults.items())),
        trouble=dict(traffic.errors.most_common(MOST_TROUBLES)),
    )


def _percentiles(latencies: Latencies) -> Percentiles:
    def milliseconds(percent: float) -> float | None:
        seconds = latencies.percentile(percent)
        return None if seconds is None else round(seconds * 1000, 3)

    return Percentiles(latencies.count, milliseconds(50), milliseconds(95), milliseconds(99))


def lines(done: Figures) -> Iterator[str]:
    """Say it in text, a line per figure."""
    rows: list[tuple[str, int]] = [
        ("devices", done.devices),
        *([("connections shared by them", done.shared_connections)] if done.shared_connections else []),
        ("connections made", done.connections),
        ("messages sent", done.sent),
        ("acknowledged by the broker", done.acked),
        ("never acknowledged", done.unacknowledged),
        ("commands seen", done.commands),
        ("duplicates of commands", done.duplicates),
        ("acks given", done.acks),
        *((f"commands ignored: {reason}", times) for reason, times in done.commands_ignored.items()),
        *((f"faults: {fault}", times) for fault, times in done.faults.items()),
        *((f"connection trouble: {reason}", times) for reason, times in done.trouble.items()),
    ]
    for name, number in rows:
        yield f"{number:>10}  {name}"
    for name, took in (
        ("ms from publishing to the broker's acknowledgement", done.puback),
        ("ms from a command's arrival to its first ack", done.first_ack),
    ):
        if took.count:
            yield f"{took.median_ms:>10}  {name}: median; p95 {took.p95_ms}, p99 {took.p99_ms}"
