"""Channels, rules and the outbox, with time in the test's hand; deliveries take no time here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from infoscreen.domain.accounts import Role
from infoscreen.domain.alerts import Alert, AlertCode, Certificate, Severity
from infoscreen.domain.codes import Fact
from infoscreen.domain.notifying import (
    DELAYS,
    NOTHING_TOLD,
    PER_HOUR,
    ChannelKind,
    DeliveryFault,
    NoticeStep,
    Rule,
    SeenIncident,
    ToldSoFar,
    after,
    matches,
    next_step,
    place_for,
    wait_after,
)
from infoscreen.domain.opening_hours import parsed
from infoscreen.domain.recovery import Closing, Incident, IncidentKind
from infoscreen.notifications import old_backup
from infoscreen.services.notify.channels import Notifying
from infoscreen.services.notify.delivery import Delivery
from infoscreen.services.notify.sources import Sources
from infoscreen.services.notify.telling import Telling
from infoscreen.services.ports import Delivered
from infoscreen.services.secrets import Secrets
from infoscreen.settings import Settings
from infoscreen.storage import tables
from infoscreen.storage.notify import channels, messages, needing
from infoscreen.storage.notify.messages import StoredMessage
from infoscreen.storage.recovery import incidents
from tests.api import ask
from tests.receivers import FakeSender
from tests.spine import ADMIN, MORNING, Spine, open_spine, sqlite_url, uuid_of
from tests.web import SECRETS, notifying_of, serving

SECRET = "s3cr3t-t0ken"  # noqa: S105 - of a test
BERLIN = ZoneInfo("Europe/Berlin")
WEEK = "Mo-Fr 08:00-18:00"


@dataclass
class Desk:
    """The parts of notifications on a spine."""

    spine: Spine
    sender: FakeSender = field(default_factory=FakeSender)
    alerts: list[Alert] = field(default_factory=list)
    secrets: Secrets = SECRETS

    def __post_init__(self) -> None:
        store, clock, wake = self.spine.store, self.spine.clock, asyncio.Event()
        self.delivery = Delivery(store, clock, self.sender, self.secrets, wake)
        self.managing = Notifying(store, clock, self.sender, self.secrets, self.delivery, wake)
        self.telling = Telling(store, clock, Sources(store, clock, lambda: self.alerts, lambda: None))

    async def channel(self, name: str = "mail") -> int:
        url = f"json://host/{SECRET}/{name}"
        return (await self.managing.add_channel(name, ChannelKind.APPRISE, url, "en", ADMIN)).channel.id

    async def incident(self, kind: IncidentKind = IncidentKind.SITE_OUTAGE, **more: Any) -> int:
        values = {"key": f"k{kind}", "kind": kind, "began_at": self.spine.clock.now(), "site": "Messe"} | more
        async with self.spine.store.write() as connection:
            return await incidents.save(connection, Incident(**values))

    async def change(self, number: int, **more: Any) -> None:
        async with self.spine.store.write() as connection:
            changed = update(tables.incidents).where(tables.incidents.c.id == number)
            await connection.execute(changed.values(**more))

    async def run(self, seconds: float = 0, poll: float = 60) -> list[NoticeStep]:
        """Let time pass, polling, and return the steps of what was sent meanwhile."""
        before = len(self.sender.sent)
        for _ in range(max(1, round(seconds / poll))):
            self.spine.clock.advance(min(seconds, poll))
            await self.telling.step()
            await self.deliver()
        return [one.step for one in self.sender.sent[before:]]

    async def deliver(self) -> None:
        """Deliver until nothing is due."""
        for _ in range(200):
            await self.delivery.step()
            if not self.delivery._busy:
                return
            await self.delivery.settled()
        raise AssertionError("there is always something to deliver")

    async def stored(self) -> list[StoredMessage]:
        async with self.spine.store.read() as connection:
            return list(reversed((await messages.page(connection, 500)).items))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk on each kind of database."""
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as spine:
        desk = Desk(spine)
        await desk.managing.add_rule("default", {}, ADMIN)  # as the migration does
        yield desk


async def test_without_a_channel_nothing_is_written(desk: Desk) -> None:
    await desk.incident()
    assert await desk.run(3_600) == []
    assert await desk.stored() == []


async def test_an_outage_is_one_message_and_one_when_it_is_over(desk: Desk) -> None:
    await desk.channel()
    number = await desk.incident(members=300)
    assert await desk.run(120) == []
    assert await desk.run(120) == [NoticeStep.OPENED]
    assert await desk.run(3_600) == []
    await desk.change(number, ended_at=desk.spine.clock.now(), closing="over")
    assert await desk.run(60) == [NoticeStep.RESOLVED]
    assert await desk.run(3_600) == []
    opened, resolved = desk.sender.sent
    assert opened.incident is not None
    assert (opened.incident.site, opened.incident.members, opened.incident_id) == ("Messe", 300, number)
    assert resolved.incident is not None
    assert resolved.incident.ended_at is not None


async def test_flapping_within_the_delay_makes_nothing(desk: Desk) -> None:
    await desk.channel()
    number = await desk.incident()
    for _ in range(30):
        assert await desk.run(60, 20) == []
        await desk.change(number, calm_since=desk.spine.clock.now())
        assert await desk.run(60, 20) == []
        await desk.change(number, calm_since=None)
    await desk.change(number, ended_at=desk.spine.clock.now())
    assert await desk.run(3_600) == []
    short = await desk.incident(key="short")
    await desk.change(short, ended_at=desk.spine.clock.now())
    assert await desk.run(3_600) == []


async def test_members_are_named_and_acknowledged_incidents_are_quiet(desk: Desk) -> None:
    await desk.channel()
    await desk.managing.change_rule(1, ADMIN, {"reminder_seconds": 3_600})
    uuids = [uuid_of(number) for number in range(40)]
    for uuid in uuids:
        await desk.spine.beat(uuid)
    number = await desk.incident(IncidentKind.LEFT_BEHIND, members=40)
    async with desk.spine.store.write() as connection:
        await incidents.join(connection, number, uuids, desk.spine.clock.now())
    assert await desk.run(60) == [NoticeStep.OPENED]
    assert (len(desk.sender.sent[0].clients), desk.sender.sent[0].incident.members) == (20, 40)  # type: ignore[union-attr]
    assert await desk.run(2 * 3_600, 600) == [NoticeStep.REMINDER, NoticeStep.REMINDER]
    await desk.spine.recovering.acknowledge_incident(number, ADMIN)
    assert await desk.run(5 * 3_600, 600) == []
    await desk.change(number, ended_at=desk.spine.clock.now(), closing="over")
    assert await desk.run(60) == [NoticeStep.RESOLVED]
    assert desk.sender.sent[-1].acknowledged_by == ADMIN.name


async def test_nobody_acknowledges_so_somebody_else_is_told(desk: Desk) -> None:
    first, second = await desk.channel("first"), await desk.channel("second")
    settings = {"channels": [first], "escalate_to": [second], "escalate_after_seconds": 1_800}
    await desk.managing.change_rule(1, ADMIN, settings)
    number = await desk.incident()
    assert await desk.run(300) == [NoticeStep.OPENED]
    assert await desk.run(1_800) == [NoticeStep.ESCALATED]
    assert desk.sender.receivers[-1].url.endswith("second")
    await desk.change(number, ended_at=desk.spine.clock.now(), closing="over")
    assert await desk.run(60) == [NoticeStep.RESOLVED, NoticeStep.RESOLVED]


async def test_what_fails_is_tried_again_under_the_same_id_and_given_up_after_a_day(desk: Desk) -> None:
    channel = await desk.channel()
    other = await desk.channel("other")
    failing = Delivered(ok=False, fault=DeliveryFault.FAILED, status=500, detail="no")
    desk.sender.answers = [failing] * 1_000
    await desk.managing.send(channel, "hello", ADMIN)
    for _ in range(24 * 12):
        await desk.deliver()
        desk.spine.clock.advance(300)
    await desk.deliver()
    tries = len(desk.sender.sent)
    assert 30 < tries < 70
    assert len({one.message_id for one in desk.sender.sent}) == 1
    (stored,) = await desk.stored()
    assert (stored.next_at, stored.sent_at) == (None, None)
    assert stored.given_up_at is not None
    assert stored.last_error == "failed 500 no"
    async with desk.spine.store.read() as connection:
        shown = await channels.get(connection, channel)
        well = await channels.get(connection, other)
    assert shown is not None
    assert well is not None
    assert (shown.failing_since, shown.last_error) == (MORNING, "failed 500 no")
    assert well.failing_since is None
    desk.spine.clock.advance(86_400)
    await desk.deliver()
    assert len(desk.sender.sent) == tries


async def test_a_channel_that_fails_for_a_while_is_an_alert(desk: Desk) -> None:
    channel = await desk.channel()
    desk.sender.answers = [Delivered(ok=False, fault=DeliveryFault.FAILED)] * 4
    await desk.managing.send(channel, "hello", ADMIN)
    await desk.deliver()
    await desk.run(30)
    assert list(desk.telling.alerts()) == []
    await desk.run(60)
    (alert,) = desk.telling.alerts()
    assert alert.fact.arguments == {"channel": "mail", "since": MORNING}
    await desk.run(300)
    assert [one.text for one in desk.sender.sent][-1] == "hello"
    assert list(desk.telling.alerts()) == []


async def test_a_receiver_that_asks_for_patience_gets_it(desk: Desk) -> None:
    channel = await desk.channel()
    desk.sender.answers = [
        Delivered(ok=False, fault=DeliveryFault.FAILED, status=429, retry_after=timedelta(hours=2))
    ]
    await desk.managing.send(channel, "hello", ADMIN)
    await desk.deliver()
    desk.spine.clock.advance(2 * 3_600 - 1)
    await desk.deliver()
    assert len(desk.sender.sent) == 1
    desk.spine.clock.advance(2)
    await desk.deliver()
    assert len(desk.sender.sent) == 2


async def test_a_channel_that_hangs_holds_up_no_other(desk: Desk) -> None:
    hanging, well = await desk.channel("hanging"), await desk.channel("well")
    desk.sender.hangs = {f"json://host/{SECRET}/hanging"}
    for channel in (hanging, well):
        await desk.managing.send(channel, "one", ADMIN)
        await desk.managing.send(channel, "two", ADMIN)
    for _ in range(4):
        await desk.delivery.step()
        await asyncio.wait(
            [task for number, task in desk.delivery._busy.items() if number != hanging] or [asyncio.sleep(0)]  # type: ignore[list-item]
        ) if well in desk.delivery._busy else None
    assert [one.text for one in desk.sender.sent] == ["one", "two"]
    assert list(desk.delivery._busy) == [hanging]
    desk.delivery._busy[hanging].cancel()


async def test_twenty_thousand_messages_become_nineteen_and_a_summary(desk: Desk) -> None:
    channel = await desk.channel()
    now = desk.spine.clock.now()
    many = [
        StoredMessage(
            message_id=str(number),
            channel_id=channel,
            step=NoticeStep.OPENED,
            severity=Severity.CRITICAL if number == 15_000 else Severity.WARNING,
            facts={"kind": "client"},
            created_at=now,
            next_at=now,
        )
        for number in range(20_000)
    ]
    async with desk.spine.store.write() as connection:
        for start in range(0, len(many), 1_000):
            await messages.add(connection, many[start : start + 1_000])
    await desk.deliver()
    assert len(desk.sender.sent) == PER_HOUR
    assert desk.sender.sent[0].message_id == "15000"
    assert desk.sender.sent[-1].step is NoticeStep.SUMMARY
    assert dict(desk.sender.sent[-1].counts) == {"client opened": 20_000 - PER_HOUR + 1}
    await desk.managing.send(channel, "late", ADMIN)
    await desk.deliver()
    assert len(desk.sender.sent) == PER_HOUR
    desk.spine.clock.advance(3_601)
    await desk.deliver()
    assert desk.sender.sent[-1].text == "late"


async def test_a_lost_key_is_told_per_channel_and_everything_else_works(desk: Desk) -> None:
    channel = await desk.channel()
    await desk.managing.send(channel, "hello", ADMIN)
    lost = Desk(desk.spine, secrets=Secrets([bytes(range(50, 90))]))
    await lost.deliver()
    assert lost.sender.sent == []
    (shown,) = (await lost.managing.channels(10)).items
    assert lost.managing.trouble_of(shown) is not None
    assert shown.last_error is not None
    assert shown.last_error.startswith("secret_unreadable")
    await lost.managing.change_channel(channel, ADMIN, {"url": f"json://host/{SECRET}"})
    desk.spine.clock.advance(60)
    await lost.deliver()
    assert [one.text for one in lost.sender.sent] == ["hello"]


async def test_certificates_and_logins_are_incidents(desk: Desk) -> None:
    await desk.channel()
    arguments = {"which": Certificate.BROKER, "at": MORNING}
    desk.alerts.append(Alert(Fact(AlertCode.CERTIFICATE_ENDS, arguments), Severity.WARNING))
    assert await desk.run(60) == [NoticeStep.OPENED]
    assert await desk.run(60) == []
    desk.alerts[:] = [Alert(Fact(AlertCode.CERTIFICATE_EXPIRED, arguments), Severity.CRITICAL)]
    assert await desk.run(60) == [NoticeStep.OPENED]
    assert desk.sender.sent[-1].alert == desk.alerts[0].fact
    desk.alerts.clear()
    assert await desk.run(60) == []
    assert await desk.run(900) == [NoticeStep.RESOLVED, NoticeStep.RESOLVED]


async def test_a_client_that_needs_a_person_is_told_until_it_is_well(desk: Desk) -> None:
    await desk.channel()
    spine, uuid = desk.spine, uuid_of(1)
    await spine.beat(uuid, process_status="running")

    await spine.beat(uuid, process_status="crashed")
    for _ in range(20):
        spine.clock.advance(30)
        await spine.beat(uuid, process_status="crashed")
        await spine.recovering.poll()
        await desk.run(0)
    assert [one.step for one in desk.sender.sent] == [NoticeStep.OPENED]
    (told,) = desk.sender.sent
    assert told.incident is not None
    assert told.incident.kind is IncidentKind.CLIENT
    assert told.reason is not None
    for _ in range(10):
        spine.clock.advance(30)
        await spine.beat(uuid, process_status="running")
        await spine.recovering.poll()
        await desk.run(0)
    assert [one.step for one in desk.sender.sent] == [NoticeStep.OPENED, NoticeStep.RESOLVED]


async def test_messages_go_with_the_retention(desk: Desk) -> None:
    channel = await desk.channel()
    await desk.managing.send(channel, "old", ADMIN)
    await desk.deliver()
    desk.spine.clock.advance(91 * 86_400)
    await desk.managing.send(channel, "new", ADMIN)
    await desk.spine.watch.tidy()
    assert [one.facts["text"] for one in await desk.stored()] == ["new"]


async def test_clients_that_stay_in_trouble_hold_up_none_that_is_well(desk: Desk) -> None:
    """Both have an incident and neither needs a person any more; only the second one is over."""
    spine = desk.spine
    numbers = []
    for number, status in ((1, "crashed"), (2, "running")):
        await spine.beat(uuid_of(number), process_status=status)
        numbers.append(await desk.incident(IncidentKind.CLIENT, key=f"k{number}"))
        async with spine.store.write() as connection:
            await incidents.join(connection, numbers[-1], [uuid_of(number)], spine.clock.now())
    await spine.recovering.poll()
    async with spine.store.read() as connection:
        over = await needing.no_longer(connection, 1)
    assert [one.id for one in over] == numbers[1:]


async def test_a_rule_of_a_channel_that_was_removed_can_be_changed_and_tells_nobody_else(desk: Desk) -> None:
    first, second = await desk.channel("first"), await desk.channel("second")
    settings = {"escalate_to": [second], "escalate_after_seconds": 600, "channels": [first, second]}
    both = await desk.managing.add_rule("both", settings, ADMIN)
    only = await desk.managing.add_rule("only", {"channels": [second]}, ADMIN)
    await desk.managing.remove_channel(second, ADMIN)
    known = {one.id: one for one in (await desk.managing.rules(100)).items}
    assert known[both.id].settings["channels"] == [first]
    assert known[both.id].settings["escalate_to"] == []
    assert known[both.id].enabled
    # Without channels it would tell all of them.
    assert not known[only.id].enabled
    await desk.managing.change_rule(both.id, ADMIN, {"reminder_seconds": 3600})


async def test_a_rule_of_a_tag_tells_an_outage_that_reaches_the_tag_later(desk: Desk) -> None:
    channel = await desk.channel()
    (default,) = (await desk.managing.rules(10)).items
    await desk.managing.remove_rule(default.id, ADMIN)
    await desk.managing.add_rule("lobbies", {"tags": ["lobby"], "channels": [channel]}, ADMIN)
    spine = desk.spine
    await spine.beat(uuid_of(1))
    await spine.fleet.edit(uuid_of(1), {"tags": ["lobby"]}, ADMIN)
    number = await desk.incident()
    assert await desk.run(300) == []
    async with spine.store.write() as connection:
        await incidents.join(connection, number, [uuid_of(1)], spine.clock.now())
    assert await desk.run(300) == [NoticeStep.OPENED]


# Pure rules.

TIMES = st.integers(0, 48 * 3_600).map(lambda seconds: MORNING + timedelta(seconds=seconds))


@settings(deadline=None, max_examples=50)
@given(
    rule=st.builds(
        Rule,
        id=st.just(1),
        name=st.just("r"),
        delay=st.none() | st.timedeltas(timedelta(0), timedelta(hours=2)),
        hours=st.none() | st.just(parsed(WEEK)),
        zone=st.just(BERLIN),
        reminder=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(hours=8)),
        resolved=st.booleans(),
        escalate_to=st.sampled_from([frozenset(), frozenset({2})]),
        escalate_after=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(hours=2)),
    ),
    kind=st.sampled_from(IncidentKind),
    severity=st.sampled_from(Severity),
    ends=st.none() | TIMES,
    acknowledged=st.none() | TIMES,
    stopped=st.none() | TIMES,
    calm=st.lists(TIMES, max_size=6).map(sorted),
)
def test_at_most_one_message_for_each_state_and_none_too_early(
    rule: Rule,
    kind: IncidentKind,
    severity: Severity,
    ends: datetime | None,
    acknowledged: datetime | None,
    stopped: datetime | None,
    calm: list[datetime],
) -> None:
    """Played minute by minute over two days, looked at as often as the rules ask."""
    told, steps, done = NOTHING_TOLD, [], False
    for minute in range(0, 48 * 60, 5):
        now = MORNING + timedelta(minutes=minute)
        seen = SeenIncident(
            kind=kind,
            began_at=MORNING,
            severity=severity,
            calm=sum(at <= now for at in calm) % 2 == 1,
            ended_at=ends if ends is not None and ends <= now else None,
            closing=Closing.OVER if ends is not None and ends <= now else None,
            acknowledged=acknowledged is not None and acknowledged <= now,
            stopped_at=stopped if stopped is not None and stopped <= now else None,
        )
        if told.opened_at is None and seen.calm:
            told = ToldSoFar(calm_at=now)
        if done:
            break
        follows = next_step(rule, seen, told, now)
        assert follows.look_at is None or follows.look_at > now
        assert follows.look_at is None or follows.step is None
        if follows.step is not None:
            steps.append((now, follows.step))
            told = after(told, follows.step, now)
            quiet = seen.acknowledged and follows.step is not NoticeStep.RESOLVED
            assert not quiet
            if rule.hours is not None and severity is Severity.WARNING:
                assert rule.hours.is_open(now, BERLIN)
        done = follows.done
    names = [step for _, step in steps]
    for once in (NoticeStep.OPENED, NoticeStep.ESCALATED, NoticeStep.RESOLVED):
        assert names.count(once) <= 1
    if names:
        assert names[0] is NoticeStep.OPENED
        delay = DELAYS[kind] if rule.delay is None else rule.delay
        assert steps[0][0] - MORNING >= delay
        assert NoticeStep.RESOLVED not in names[:-1]


def test_a_rule_is_about_its_kinds_sites_and_tags() -> None:
    seen = SeenIncident(
        kind=IncidentKind.SITE_OUTAGE, began_at=MORNING, site="Messe", tags=frozenset({"vip"})
    )
    fits = [{}, {"kinds": {seen.kind}}, {"sites": {"Messe"}}, {"tags": {"vip", "x"}}]
    fails = [{"enabled": False}, {"kinds": {IncidentKind.CLIENT}}, {"sites": {"Hafen"}}, {"tags": {"x"}}]
    for values in fits:
        assert matches(Rule(id=1, name="r", **values), seen), values  # type: ignore[arg-type]
    for values in [*fails, {"critical_only": True}]:
        assert not matches(Rule(id=1, name="r", **values), seen), values  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.lists(TIMES, max_size=60), st.integers(1, 30_000), TIMES)
def test_no_hour_has_more_than_the_limit(sent: list[datetime], waiting: int, now: datetime) -> None:
    place = place_for(sent, waiting, now)
    lately = [at for at in sent if now - timedelta(hours=1) < at <= now]
    assert len(lately) + place.singles + place.summary <= max(PER_HOUR, len(lately))
    assert place.singles + place.summary > 0 or place.until is not None
    assert place.until is None or place.until > now
    assert place.summary or place.until or place.singles == waiting


def test_waiting_grows_and_is_bounded() -> None:
    waits = [wait_after(attempts, None) for attempts in range(1, 100)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (timedelta(seconds=10), timedelta(minutes=30))
    assert wait_after(1, timedelta(days=900)) == timedelta(days=1)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        # The clocks go forward on Sunday, 29 March 2026, and back on Sunday, 25 October.
        ("2026-03-27 18:30", "2026-03-30 06:00"),  # Friday evening to Monday 08:00 CEST
        ("2026-10-23 18:30", "2026-10-26 07:00"),  # Monday 08:00 CET
        ("2026-03-27 10:00", "2026-03-27 10:00"),
        ("2026-03-27 17:00", "2026-03-30 06:00"),  # 18:00 is no longer open
    ],
)
def test_hours_wait_over_both_changes_of_clocks(now: str, opens: str) -> None:
    at, wanted = (datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (now, opens))
    assert parsed(WEEK).next_open(at, BERLIN) == wanted


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-10-25 00:00", "2026-10-25 00:30"),  # 02:30 CEST
        ("2026-10-25 01:10", "2026-10-25 01:30"),  # 02:10 CET: 02:30 comes a second time
        ("2026-03-29 00:50", "2026-03-29 01:00"),  # there is no 02:30: open from 03:00 CEST to 03:30
        ("2026-03-29 01:30", "2026-03-30 00:30"),
    ],
)
def test_what_opens_in_the_hour_of_a_change_of_clocks(now: str, opens: str) -> None:
    at, wanted = (datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (now, opens))
    assert parsed("Mo-Su 02:30-03:30").next_open(at, BERLIN) == wanted


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(
        ["24/7", WEEK, "Fr 22:00-02:00", "Mo-Su 02:30-03:30", "Sa-Mo 08:00-12:00,13:00-24:00; Su off"]
    ),
    TIMES,
)
def test_the_next_opening_is_open_and_nothing_before_it(hours: str, at: datetime) -> None:
    for begin in (at, at + timedelta(days=26), at + timedelta(days=236)):
        found = parsed(hours).next_open(begin, BERLIN)
        assert found is not None
        assert found >= begin
        assert parsed(hours).is_open(found, BERLIN)
        minute = begin
        while minute < found and minute < begin + timedelta(hours=3):
            assert not parsed(hours).is_open(minute, BERLIN)
            minute += timedelta(minutes=7)


@pytest.mark.parametrize(
    "wrong", ["", ";", "Mo", "8-18", "Mo-Xx 08:00-18:00", "Mo 8:0-9:00", "Mo 25:00-26:00", "x" * 600]
)
def test_opening_hours_that_make_no_sense_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$"):
        parsed(wrong)


# The API.


def contents_of(directory: Path) -> list[bytes]:
    found = [file.read_bytes() for file in directory.iterdir() if file.is_file()]
    assert found
    return found


async def test_the_api_never_shows_a_secret(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        sender = FakeSender([Delivered(ok=True, status=200, detail="done")])
        object.__setattr__(site.parts, "notifying", notifying_of(site.spine, sender))
        admin = await site.browser(Role.ADMIN)
        body = {"name": "Mail", "kind": "apprise", "url": f"mailtos://u:{SECRET}@host"}
        made = await ask(admin, "POST", "/api/channels", status=201, json=body)
        assert (made["target"], made["secret"], made["trouble"]) == ("mailtos://...", None, None)
        hook = {"name": "Hook", "kind": "webhook", "url": f"https://hooks.example/{SECRET}", "language": "en"}
        made = await ask(admin, "POST", "/api/channels", status=201, json=hook)
        assert made["target"] == "https://hooks.example/..."
        generated = made["secret"]
        assert len(generated) > 30
        await ask(admin, "POST", "/api/channels", status=409, json=body)
        await ask(admin, "POST", "/api/channels", status=422, json=hook | {"name": "x", "url": "file:///etc"})
        refused = {"name": "y", "kind": "nothing", "url": SECRET}
        assert SECRET not in str(await ask(admin, "POST", "/api/channels", status=422, json=refused))
        sender.understood = False
        refused = {"name": "y", "kind": "apprise", "url": SECRET}
        assert SECRET not in str(await ask(admin, "POST", "/api/channels", status=422, json=refused))
        listed = await ask(admin, "GET", "/api/channels")
        assert [one["name"] for one in listed["items"]] == ["Mail", "Hook"]
        changed = await ask(admin, "PATCH", "/api/channels/1", json={"enabled": False, "name": "Post"})
        assert (changed["name"], changed["enabled"]) == ("Post", False)
        tested = await ask(admin, "POST", "/api/channels/2/test", json={})
        assert tested == {"ok": True, "fault": None, "status": 200, "detail": "done"}
        sent = await ask(admin, "POST", "/api/channels/2/send", status=202, json={"text": "Hallo"})
        shown = await ask(admin, "GET", "/api/notifications")
        assert [one["message_id"] for one in shown["items"]] == [sent["message_id"]]
        rule = {"name": "Nights", "kinds": ["site_outage"], "hours": WEEK, "time_zone": "Europe/Berlin"}
        added = await ask(admin, "POST", "/api/notification-rules", status=201, json=rule)
        assert (added["hours"], added["resolved"], added["sites"]) == (WEEK, True, [])
        path = f"/api/notification-rules/{added['id']}"
        for wrong in ({"hours": "soon"}, {"time_zone": "Mars"}, {"channels": [99]}, {"escalate_to": [1]}):
            await ask(admin, "PATCH", path, status=422, json=wrong)
        assert (await ask(admin, "PATCH", path, json={"hours": None}))["hours"] is None
        assert len((await ask(admin, "GET", "/api/notification-rules"))["items"]) == 1
        everything = str([listed, changed, shown, await ask(admin, "GET", "/api/audit")])
        assert SECRET not in everything
        assert generated not in everything
        for content in contents_of(tmp_path):
            assert SECRET.encode() not in content
            assert generated.encode() not in content
        await ask(admin, "DELETE", "/api/channels/1", status=204)
        await ask(admin, "DELETE", path, status=204)
        await ask(admin, "GET", "/api/channels/1/test", status=405)
        await ask(admin, "POST", "/api/channels/1/test", status=404, json={})
        operator = await site.browser(Role.OPERATOR)
        await ask(operator, "GET", "/api/channels", status=403)


@pytest.mark.parametrize("place", ["dangling", "file"])
def test_backups_that_cannot_be_read_end_nothing(tmp_path: Path, place: str) -> None:
    """They may be on another disk, and are pruned by another process."""
    settings = Settings(database_url=sqlite_url(tmp_path))
    backups = tmp_path / "backups"
    if place == "file":
        backups.write_text("")
    else:
        backups.mkdir()
        (backups / "infoscreen-20260301T020000Z.db").symlink_to(tmp_path / "gone")
    assert old_backup(settings, MORNING) is None
