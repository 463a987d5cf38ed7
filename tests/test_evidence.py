"""What a device did by itself is never taken for the effect of a command, and its own effect is."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infoscreen.domain.commands import Action, ClientCommand, CommandStatus, Verification
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as opened:
        yield opened


class Device:
    """A device whose boots and application starts are numbered."""

    def __init__(self, spine: Spine) -> None:
        self.spine = spine
        self.boot = 1
        self.started_at = spine.clock.now()
        self.pid = 100

    def beat_at(self, at: datetime) -> tuple[str, dict[str, Any]]:
        return (
            f"{U}/heartbeat",
            {
                "timestamp": zulu(at),
                "boot_id": f"boot-{self.boot}",
                "process_status": "running",
                "app_started_at": zulu(self.started_at),
                "process_pid": self.pid,
            },
        )

    async def beat(self, times: int = 2, every: float = 15) -> None:
        for _ in range(times):
            self.spine.clock.advance(every)
            await self.spine.hear(self.beat_at(self.spine.clock.now()))

    def begin_again(self, action: Action, at: datetime | None = None) -> None:
        self.boot += action is Action.REBOOT_HOST
        self.started_at = at or self.spine.clock.now()
        self.pid += 1


async def sent(spine: Spine, action: Action) -> ClientCommand:
    command = await spine.request(U, action, expires_in=timedelta(hours=1))
    await spine.outbox.step()
    return command


async def verdict(spine: Spine, command: ClientCommand, device: Device) -> Verification | None:
    """Return the outcome after the device has gone on as it is for long enough."""
    for _ in range(20):
        await device.beat(1, every=40)
        await spine.watch.look()
    return (await spine.command(command)).verification


BOTH = pytest.mark.parametrize("action", [Action.REBOOT_HOST, Action.RESTART_APP])


@BOTH
@pytest.mark.parametrize("acts", [True, False])
async def test_what_it_did_between_two_publications_is_no_effect(
    spine: Spine, action: Action, acts: bool
) -> None:
    device = Device(spine)
    await device.beat()
    command = await sent(spine, action)
    spine.clock.advance(60)
    device.begin_again(action)  # it was away by itself, and missed the command
    await device.beat()
    assert await spine.outbox.step() == 1
    await spine.ack(command, "accepted")
    await spine.ack(command, "execution_started")
    await device.beat()
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
    if acts:
        device.begin_again(action)
    await spine.ack(command, "completed")
    expected = Verification.VERIFIED if acts else Verification.CONTRADICTED
    assert await verdict(spine, command, device) is expected


@BOTH
async def test_what_it_did_while_the_command_waited_for_it_is_no_effect(spine: Spine, action: Action) -> None:
    """A persistent session keeps the command while the device is away."""
    device = Device(spine)
    await device.beat()
    command = await sent(spine, action)
    spine.clock.advance(5)
    device.begin_again(action)
    await device.beat(2, every=1)
    spine.clock.advance(1)
    await spine.ack(command, "accepted")
    await spine.ack(command, "execution_started")
    await spine.ack(command, "completed")
    assert await verdict(spine, command, device) is not Verification.VERIFIED


@BOTH
async def test_what_waiting_messages_tell_of_before_the_command_is_no_effect(
    spine: Spine, action: Action
) -> None:
    device = Device(spine)
    await device.beat(4)
    begun_at = spine.clock.now()
    waiting = []
    spine.clock.advance(60)
    device.begin_again(action)
    for _ in range(3):
        spine.clock.advance(15)
        waiting.append(device.beat_at(spine.clock.now()))
    assert waiting[0][1]["timestamp"] > zulu(begun_at)
    spine.clock.advance(30)
    spine.link.listening_since = spine.clock.now()  # the daemon was away, and is back
    command = await sent(spine, action)
    spine.clock.advance(1)
    await spine.hear(*waiting)
    await spine.ack(command, "accepted")
    await spine.ack(command, "execution_started")
    await device.beat()
    await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
    await spine.ack(command, "completed")
    assert await verdict(spine, command, device) is Verification.CONTRADICTED


@BOTH
async def test_an_effect_that_the_daemon_slept_through_is_one(spine: Spine, action: Action) -> None:
    """Acks and heartbeats waited at the broker and arrive in one batch."""
    device = Device(spine)
    await device.beat(4)
    command = await sent(spine, action)
    spine.clock.advance(30)
    device.begin_again(action)
    heard = [device.beat_at(spine.clock.now())]
    spine.clock.advance(60)
    heard.append(device.beat_at(spine.clock.now()))
    spine.link.listening_since = spine.clock.now()
    acks = [
        (f"{U}/commands/ack", {"command_id": command.command_id, "status": status})
        for status in ("accepted", "execution_started")
    ]
    done = (f"{U}/commands/ack", {"command_id": command.command_id, "status": "completed"})
    await spine.hear(*acks, *heard, done)
    assert await verdict(spine, command, device) is Verification.VERIFIED


@BOTH
async def test_a_repetition_while_it_is_under_way_hides_no_effect(spine: Spine, action: Action) -> None:
    device = Device(spine)
    await device.beat()
    command = await sent(spine, action)
    await spine.ack(command, "accepted")
    spine.clock.advance(1)
    await spine.ack(command, "execution_started")
    spine.clock.advance(20)
    device.begin_again(action)
    await device.beat(1)
    spine.link.listening_since = spine.clock.now()  # the broker was away; an ack may have died with it
    await device.beat(2)
    await spine.outbox.step()
    assert (await spine.command(command)).publish_count == 2
    await spine.ack(command, "completed")
    assert await verdict(spine, command, device) is Verification.VERIFIED


@BOTH
async def test_lost_acks_of_an_earlier_publication_contradict_nobody(spine: Spine, action: Action) -> None:
    device = Device(spine)
    await device.beat()
    command = await sent(spine, action)
    spine.clock.advance(60)
    device.begin_again(action)  # because of the command, but nobody hears that
    await device.beat()
    assert await spine.outbox.step() == 1
    await spine.ack(command, "completed")
    assert (await spine.command(command)).status is CommandStatus.COMPLETED
    assert await verdict(spine, command, device) is Verification.UNVERIFIABLE


@BOTH
async def test_a_start_time_that_wavers_does_not_look_new(spine: Spine, action: Action) -> None:
    device = Device(spine)
    await device.beat()
    command = await sent(spine, action)
    spine.clock.advance(60)
    device.begin_again(action)
    await device.beat()
    assert await spine.outbox.step() == 1
    began = device.started_at
    await spine.ack(command, "accepted")
    await spine.ack(command, "execution_started")
    for number in range(4):
        device.started_at = began.replace(microsecond=100_000 * (number % 3))
        await device.beat(1)
        await spine.watch.look()
    assert (await spine.command(command)).verification is Verification.PENDING
