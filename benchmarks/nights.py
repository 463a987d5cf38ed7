"""Nights before the judge: most of a fleet go dark by a mains timer, over changes of clocks and holidays.

``python -m benchmarks.nights --clients 1000 --nights 14`` prints what it cost, and fails if anything was
done, called for or shown as an outage that is none.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from infoscreen.domain.hours import Schedule
from infoscreen.judge import Judge
from infoscreen.judge.playing import quiet_logs
from infoscreen.services.hours import Hours

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata")
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens: ``dead`` clients die in the first night, ``hours`` None tells the judge no hours."""

    begin: datetime
    nights: int = 1
    clients: int = 50
    dark: float = 0.8
    dead: int = 0
    interval: float = 60.0
    hours: str | None = "Mo-Su 06:00-22:00"
    country: str | None = "DE"
    zones: tuple[str, ...] = ZONES
    early: float = 300.0
    """Seconds by which a timer may switch off before the closing."""
    boots: float = 1_200.0
    """Seconds after the opening within which the screens are back."""
    grace: float = 1_500.0
    poll: float = 30.0
    off: tuple[tuple[float, float], ...] = ()
    """When the daemon is off: from and to, in hours since the beginning."""
    seed: int = 1


@dataclass
class Device:
    """One screen: by its timer it is dark outside its hours."""

    uuid: str
    zone: str
    timer: bool
    dies_at: datetime | None = None
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)

    def is_on(self, at: datetime) -> bool:
        """Tell whether it is powered and runs."""
        if self.dies_at is not None and at >= self.dies_at:
            return False
        return not self.timer or any(start <= at < end for start, end in self.spans)


@dataclass
class Outcome:
    """What the judge did: commands, calls for a person, incidents, and each client's changes of status."""

    published: list[tuple[datetime, str]] = field(default_factory=list)
    called: dict[str, datetime] = field(default_factory=dict)
    incidents: dict[int, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def ever(self, *words: str, after: datetime) -> set[str]:
        """Return the clients that had one of the statuses after a time, when their rhythm was known."""
        return {
            uuid
            for uuid, told in self.statuses.items()
            if any(at > after and word in words for at, word in told)
        }


def fleet(plan: Plan) -> list[Device]:
    """Return the screens of a plan, with the times at which their timers switch them."""
    random, hours = Random(plan.seed), Hours()
    devices = []
    written = plan.hours or "Mo-Su 06:00-22:00"
    for number in range(plan.clients):
        zone = plan.zones[0] if number % 10 < 8 else plan.zones[number % len(plan.zones)]
        devices.append(
            Device(f"00000000-0000-4000-8000-{number:012d}", zone, timer=random.random() < plan.dark)
        )
    end = plan.begin + (plan.nights + 2) * DAY
    for device in devices:
        schedule = Schedule(written, device.zone, plan.country)
        for one in hours.intervals(schedule, plan.begin - DAY, end):
            if one.within:
                start = one.start + timedelta(seconds=random.uniform(30, plan.boots))
                device.spans.append((start, one.end - timedelta(seconds=random.uniform(0, plan.early))))
    for device in random.sample([one for one in devices if one.timer], plan.dead):
        midnight = datetime.combine(plan.begin.date() + DAY, time(2, 30), ZoneInfo(device.zone))
        device.dies_at = midnight.astimezone(UTC)
    return devices


def lines(plan: Plan, devices: list[Device]) -> Iterator[dict[str, Any]]:
    """Yield what the judge is told, in order of time."""
    random = Random(plan.seed + 1)
    values = {"OPENING_GRACE_SECONDS": plan.grace, "CRASH_RECOVERY_POLL_SECONDS": plan.poll}
    yield {"at": _iso(plan.begin), "kind": "settings", "values": values}
    for number, device in enumerate(devices):
        told: dict[str, Any] = {"uuid": device.uuid, "site": f"site-{number % 7}-{device.zone[:4]}"}
        if plan.hours is not None:
            told |= {"hours": plan.hours, "time_zone": device.zone, "country": plan.country}
        yield {"at": _iso(plan.begin), "kind": "client", **told}
    beats = [(random.uniform(0, plan.interval), number) for number in range(len(devices))]
    was_on = [False] * len(devices)
    running, turn, at = True, 0, plan.begin
    end = plan.begin + plan.nights * DAY
    beats.sort()
    step = timedelta(seconds=plan.poll)
    round_began = plan.begin
    position = 0
    while at < end:
        following = at + step
        while True:
            if position == len(beats):
                position, round_began = 0, round_began + timedelta(seconds=plan.interval)
            after, number = beats[position]
            moment = round_began + timedelta(seconds=after)
            if moment >= following:
                break
            position += 1
            device = devices[number]
            is_on = device.is_on(moment)
            if is_on and not was_on[number]:
                yield _said(device, moment, "presence", "online")
            if is_on:
                body = {"timestamp": _iso(moment), "process_status": "running", "boot_id": f"b{moment:%j}"}
                yield _said(device, moment, "heartbeat", body)
            elif was_on[number]:
                yield _said(device, moment, "presence", "offline")
            was_on[number] = is_on
        at = following
        since = (at - plan.begin).total_seconds() / 3_600
        should_run = not any(start <= since < stop for start, stop in plan.off)
        if should_run is not running:
            running = should_run
            yield {"at": _iso(at), "kind": "daemon", "running": running}
        turn += 1
        yield {"at": _iso(at), "kind": "poll"}


def _said(device: Device, at: datetime, topic: str, payload: Any) -> dict[str, Any]:
    return {
        "at": _iso(at),
        "kind": "message",
        "topic": f"infoscreen/{device.uuid}/{topic}",
        "payload": payload,
    }


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


async def played(plan: Plan, devices: list[Device] | None = None) -> Outcome:
    """Let the judge see the nights of a plan."""
    outcome, judge = Outcome(), Judge()
    try:
        with quiet_logs():
            for line in lines(plan, devices if devices is not None else fleet(plan)):
                answer = await judge.take(line)
                if answer is not None:
                    _take_in(outcome, answer)
    finally:
        await judge.close()
    return outcome


def _take_in(outcome: Outcome, answer: dict[str, Any]) -> None:
    at = datetime.fromisoformat(answer["at"])
    for sent in answer["published"]:
        outcome.published.append((at, sent["topic"]))
    for uuid, status in answer["statuses"].items():
        outcome.statuses.setdefault(uuid, []).append((at, status))
    for incident in answer["incidents"]:
        outcome.incidents[incident["id"]] = incident
    for decision in answer["decisions"]:
        outcome.reasons[decision["reason"]] += 1
        if decision["reason"] in HUMAN:
            outcome.called.setdefault(decision["client_uuid"], at)


HUMAN = frozenset({"exhausted", "no_outlet", "limit_reached", "refused", "unanswered", "gone", "left_behind"})


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--dead", type=int, default=10)
    parser.add_argument("--interval", type=float, default=300.0)
    parser.add_argument("--poll", type=float, default=300.0)
    parser.add_argument("--begin", default="2026-10-18T10:00:00+00:00")
    parser.add_argument("--without-hours", action="store_true")
    given = parser.parse_args()
    plan = Plan(
        begin=datetime.fromisoformat(given.begin),
        nights=given.nights,
        clients=given.clients,
        dead=given.dead,
        interval=given.interval,
        hours=None if given.without_hours else Plan.hours,
        poll=given.poll,
    )
    devices = fleet(plan)
    outcome = asyncio.run(played(plan, devices))
    dead = {one.uuid for one in devices if one.dies_at is not None}
    silent = outcome.ever("unreachable", "hung", after=plan.begin + timedelta(hours=2))
    told = {
        "commands": len(outcome.published),
        "incidents": Counter(one["kind"] for one in outcome.incidents.values()),
        "dead": len(dead),
        "found": len(silent & dead),
        "healthy_shown_silent": len(silent - dead),
        "called": len(outcome.called.keys() & dead),
        "called_needlessly": len(outcome.called.keys() - dead),
        "reasons": outcome.reasons,
    }
    print(json.dumps(told, indent=2))  # noqa: T201 - a benchmark tells its figures
    wrong = told["commands"] or told["incidents"] or told["called_needlessly"] or told["found"] != len(dead)
    raise SystemExit(1 if wrong and not given.without_hours else 0)


if __name__ == "__main__":
    main()
