"""Two devices under one identity are recognised, and a device that reboots never looks like two."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoscreen.domain.clients import Client, Condition
from infoscreen.domain.commands import Action, Verification
from infoscreen.domain.duplicates import devices_of
from infoscreen.domain.presence import StalePolicy, conditions_of
from infoscreen.services.beats import Beats
from infoscreen.services.reports import Folding, Told, fold, fold_beats, settle
from infoscreen.storage import timeline
from infoscreen.wire.messages import Discovery, Heartbeat
from infoscreen.words.clients import oddities
from infoscreen.words.language import ENGLISH
from tests.spine import MORNING, Spine, open_spine, sqlite_url, uuid_of

U = uuid_of(1)
POLICY = StalePolicy(45, 180)
A = {"boot_id": "boot-a", "hostname": "foyer", "ip": "192.0.2.1"}
B = {"boot_id": "boot-b", "hostname": "foyer", "ip": "192.0.2.2"}


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as opened:
        yield opened


async def alternate(spine: Spine, rounds: int, one: dict[str, Any] = A, other: dict[str, Any] = B) -> None:
    for _ in range(rounds):
        for who in (one, other):
            spine.clock.advance(15)
            await spine.beat(U, **who)


async def reboots(spine: Spine) -> int:
    async with spine.store.read() as connection:
        page = await timeline.page(connection, U, 100)
    return sum(entry.kind == "reboot" for entry in page.items)


async def test_a_cloned_card_is_a_problem_of_its_own(spine: Spine) -> None:
    await alternate(spine, 3)
    client = await spine.client(U)
    assert client.status is Condition.DUPLICATE
    told: list[Any] = [client, *client.speakers]
    assert {(one.hostname, one.ip) for one in told} == {
        ("foyer", "192.0.2.1"),
        ("foyer", "192.0.2.2"),
    }
    assert await reboots(spine) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hostname": "a", "ip": "192.0.2.1"}, {"hostname": "b", "ip": "192.0.2.2"}),
        ({"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}),
        ({"booted_at": "2026-03-01T00:00:00Z"}, {"booted_at": "2026-03-01T08:00:00Z"}),
        ({**A, "hostname": "same"}, {**B, "hostname": "same"}),
    ],
)
async def test_whatever_tells_them_apart(spine: Spine, one: dict[str, Any], other: dict[str, Any]) -> None:
    await alternate(spine, 3, one, other)
    assert (await spine.client(U)).status is Condition.DUPLICATE


async def test_it_is_over_when_only_one_speaks_for_a_while(spine: Spine) -> None:
    await alternate(spine, 3)
    for _ in range(19):
        spine.clock.advance(30)
        await spine.beat(U, **A)
    assert (await spine.client(U)).status is Condition.DUPLICATE
    for _ in range(4):
        spine.clock.advance(30)
        await spine.beat(U, **A)
    client = await spine.client(U)
    assert (client.status, client.speakers) == (Condition.ONLINE, [])


async def test_silence_does_not_end_it_and_nothing_automatic_touches_it(spine: Spine) -> None:
    await alternate(spine, 3)
    spine.clock.advance(7_200)
    await spine.watch.look()
    client = await spine.client(U)
    assert client.status is Condition.DUPLICATE
    conditions = conditions_of(client, spine.clock.now(), spine.link.listening_since)
    assert conditions == (Condition.DUPLICATE, Condition.UNREACHABLE)


async def test_no_command_to_it_is_ever_verified(spine: Spine) -> None:
    await alternate(spine, 3)
    command = await spine.request(U, Action.REBOOT_HOST)
    await spine.outbox.step()
    await spine.ack(command, "execution_started")
    await alternate(spine, 3)
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
    await spine.ack(command, "completed")
    await alternate(spine, 25)
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.UNVERIFIABLE


async def test_devices_whose_clocks_stand_still_are_recognised_a_little_later(spine: Spine) -> None:
    for _ in range(30):
        for who in (A, B):
            spine.clock.advance(15)
            await spine.beat(U, **who, timestamp="1970-01-01T00:00:07Z")
    assert (await spine.client(U)).status is Condition.DUPLICATE


class Sent(NamedTuple):
    """A heartbeat: when the device said it, by true time, and of which boot."""

    said: float
    boot: int


def story(messages: list[list[Sent]], skews: dict[int, float], at: list[float]) -> set[Condition]:
    """Fold batches, received at the times given; return the conditions that showed."""
    client = Client(uuid=U, created_at=MORNING, status_since=MORNING)
    seen = set()
    listening = MORNING - timedelta(hours=1)
    for batch, seconds in zip(messages, at, strict=True):
        now = MORNING + timedelta(seconds=seconds)
        beats: Beats | None = None
        for sent in batch:
            stamp = MORNING + timedelta(seconds=sent.said + skews[sent.boot])
            heartbeat = Heartbeat(timestamp=stamp, boot_id=f"boot-{sent.boot}", hostname="foyer")
            if beats is None:
                beats = Beats(heartbeat)
            else:
                beats.add(heartbeat)
        if beats is None:
            continue
        folding = Folding(before=client, client=client)
        fold_beats(folding, beats, now, listening, None, POLICY)
        settle(folding, now, listening)
        client = folding.client
        seen.add(client.status)
    return seen


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_reboots_late_and_repeated_messages_never_look_like_a_duplicate(data: st.DataObject) -> None:
    boots = data.draw(st.integers(1, 5))
    interval = data.draw(st.sampled_from([10, 30, 60]))
    skews = {boot: data.draw(st.sampled_from([0.0, 3600.0, -3600.0, 1e8])) for boot in range(boots)}
    batches: list[list[Sent]] = []
    at: list[float] = []
    now, kept = 0.0, []
    for boot in range(boots):
        now += 60  # a boot takes its time
        for _ in range(data.draw(st.integers(1, 6))):
            now += interval
            batch = [Sent(now, boot)]
            # What could not be sent before the reboot goes out between what is said now.
            late = data.draw(st.integers(0, len(kept)))
            batch = data.draw(st.permutations([*kept[:late], *batch]))
            kept = kept[late:]
            delivery = [[one] for one in batch] if data.draw(st.booleans()) else [list(batch)]
            for number, one in enumerate(delivery):
                batches.append(one)
                at.append(now + number * 0.2)
            if data.draw(st.integers(0, 3)) == 0 and len(batches) > 1:
                # The broker delivers the last ones again.
                batches.append([sent for one in batches[-2:] for sent in one])
                at.append(at[-1] + 0.1)
        if data.draw(st.booleans()):
            kept += [Sent(now + 5 * number, boot) for number in range(1, data.draw(st.integers(1, 3)) + 1)]
            now += 20
    assert Condition.DUPLICATE not in story(batches, skews, at)


@settings(deadline=None, max_examples=30)
@given(
    st.floats(5, 120),
    st.floats(5, 120),
    st.sampled_from([0.0, 3600.0, -3600.0, 1e8, -1e9]),
    st.sampled_from([0.0, 3600.0, -3600.0, 1e8, -1e9]),
    st.lists(st.floats(0, 5), min_size=200, max_size=200),
)
def test_two_devices_that_both_speak_are_always_recognised(
    one: float, other: float, skew: float, other_skew: float, jitter: list[float]
) -> None:
    sent = sorted(
        [(number * one + jitter[number], Sent(number * one, 0)) for number in range(100)]
        + [(number * other + jitter[100 + number], Sent(number * other, 1)) for number in range(100)]
    )
    horizon = 12 * max(one, other)
    within = [(at, what) for at, what in sent if at <= horizon]
    seen = story([[what] for _, what in within], {0: skew, 1: other_skew}, [at for at, _ in within])
    assert Condition.DUPLICATE in seen


def announced(mac: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return f"{U}/discovery", {"uuid": U, "mac": mac, **more}


MAC_A, MAC_B = "b8:27:eb:00:00:01", "B8-27-EB-00-00-02"


async def test_macs_that_alternate_tell_of_two_devices_whose_heartbeats_say_nothing(spine: Spine) -> None:
    for _ in range(2):
        for mac, ip in ((MAC_A, "192.0.2.1"), (MAC_B, "192.0.2.2")):
            spine.clock.advance(20)
            await spine.hear(announced(mac, hostname="foyer", ip=ip))
            await spine.beat(U)
    client = await spine.client(U)
    assert client.status is Condition.DUPLICATE
    assert [(one.mac, one.ip) for one in devices_of(client)] == [
        ("b8:27:eb:00:00:02", "192.0.2.2"),
        ("b8:27:eb:00:00:01", "192.0.2.1"),
    ]


async def test_another_mac_makes_one_boot_that_returns_enough(spine: Spine) -> None:
    for who, mac in ((A, MAC_A), (B, MAC_B)):
        await spine.hear(announced(mac, ip=who["ip"]))
        await spine.beat(U, **who)
        spine.clock.advance(20)
    assert (await spine.client(U)).status is Condition.ONLINE  # it may have rebooted with another interface
    await spine.beat(U, **A)
    client = await spine.client(U)
    assert client.status is Condition.DUPLICATE
    assert {(one.boot_id, one.mac) for one in devices_of(client)} == {
        ("boot-a", "b8:27:eb:00:00:01"),
        ("boot-b", "b8:27:eb:00:00:02"),
    }


@pytest.mark.parametrize("said", ["", "00:00:00:00:00:00", "eth0", "b8:27:eb:00:00:0g", "1" * 500])
async def test_what_is_no_mac_is_no_evidence(spine: Spine, said: str) -> None:
    for _ in range(5):
        for mac in (MAC_A, said):
            spine.clock.advance(20)
            await spine.hear(announced(mac))
            await spine.beat(U)
    assert (await spine.client(U)).status is Condition.ONLINE


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([MAC_A, MAC_B, None]), st.booleans()), max_size=12))
def test_one_device_with_two_interfaces_is_one(acts: list[tuple[str | None, bool]]) -> None:
    """It changes between its addresses as often as it likes; its boots only ever follow each other."""
    client = Client(uuid=U, created_at=MORNING, status_since=MORNING)
    boot, listening = 0, MORNING - timedelta(hours=1)
    for number, (mac, reboots_now) in enumerate(acts):
        now = MORNING + timedelta(seconds=20 * number)
        boot += reboots_now
        heartbeat = Heartbeat(timestamp=now, boot_id=f"boot-{boot}", hostname="foyer")
        folding = Folding(before=client, client=client)
        fold_beats(folding, Beats(heartbeat), now, listening, None, POLICY)
        report = Discovery(uuid=UUID(U), mac=mac)
        fold(folding, Told(report), now, None, POLICY)
        settle(folding, now, listening)
        client = folding.client
        assert client.status is Condition.ONLINE


async def test_the_evidence_stays_with_the_client_when_it_is_over(spine: Spine) -> None:
    await alternate(spine, 3)
    began = (await spine.client(U)).duplicate_since
    spine.clock.advance(15)
    await spine.beat(U, **A)
    seen = (await spine.client(U)).duplicate_seen_at
    for _ in range(25):
        spine.clock.advance(30)
        await spine.beat(U, **A)
    client = await spine.client(U)
    assert client.status is Condition.ONLINE
    assert client.identity is not None
    past = client.identity.last_duplicate
    assert past is not None
    assert (past.since, past.until) == (began, seen)
    assert {one.ip for one in past.devices} == {"192.0.2.1", "192.0.2.2"}
    said = oddities(client, ENGLISH)
    assert len(said) == 1
    assert "192.0.2.1" in said[0]
    assert "192.0.2.2" in said[0]
