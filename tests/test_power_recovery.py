"""The third rung: the automatic recovery and outlets, before the judge."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from infoscreen.judge import Judge
from tests.spine import uuid_of

ONE, TWO = uuid_of(1), uuid_of(2)
BEAT, POLL = 30, 15
DARK_FROM = 900


class Story:
    """Clients that beat until they hang, and boot a minute after their power was cut."""

    def __init__(self, power: Mapping[str, Any], dark: Collection[str], *, cured: bool = True) -> None:
        self._power = power
        self._dark = set(dark)
        self._cured = cured
        self._boots: dict[str, tuple[int, int]] = {}
        self.cycles: list[dict[str, Any]] = []
        self.reasons: dict[str, list[str]] = {uuid: [] for uuid in power}
        self.statuses: dict[str, str] = {}
        self.published: list[dict[str, Any]] = []

    def _is_up(self, uuid: str, at: int) -> bool:
        if uuid not in self._dark or at < DARK_FROM:
            return True
        return uuid in self._boots and at >= self._boots[uuid][0]

    async def until(self, end: int) -> "Story":
        judge = Judge()
        try:
            for uuid, power in self._power.items():
                line = {"at": 0, "kind": "client", "uuid": uuid}
                await judge.take(line | ({} if power is None else {"power": power}))
            for at in range(0, end, POLL):
                for uuid in self._power:
                    if at % BEAT == 0 and self._is_up(uuid, at):
                        await judge.take({"at": at, **self._beat(uuid)})
                    if at == DARK_FROM + BEAT and uuid in self._dark:
                        topic = f"infoscreen/{uuid}/presence"
                        await judge.take({"at": at, "kind": "message", "topic": topic, "payload": "offline"})
                answer = await judge.take({"at": at, "kind": "poll"})
                assert answer is not None
                self._hear(answer, at)
        finally:
            await judge.close()
        return self

    def _beat(self, uuid: str) -> dict[str, Any]:
        boot = self._boots.get(uuid, (0, 0))[1]
        body = {"timestamp": "2026-01-01T00:00:00Z", "process_status": "running", "boot_id": f"boot-{boot}"}
        return {"kind": "message", "topic": f"infoscreen/{uuid}/heartbeat", "payload": body}

    def _hear(self, answer: dict[str, Any], at: int) -> None:
        self.statuses |= answer["statuses"]
        self.published += answer["published"]
        for decision in answer["decisions"]:
            self.reasons[decision["client_uuid"]].append(decision["reason"])
        for cycle in answer["power_cycles"]:
            self.cycles.append({**cycle, "at": at})
            for uuid in cycle["switched"]:
                if self._cured:
                    self._boots[uuid] = (at + 60, self._boots.get(uuid, (0, 0))[1] + 1)


async def test_a_client_that_no_command_reaches_gets_its_power_cycled_and_is_well_again() -> None:
    story = await Story({ONE: True}, {ONE}).until(3_000)
    (cycle,) = story.cycles
    assert (cycle["status"], cycle["switched"]) == ("completed", [ONE])
    # Not before a reboot or an update would be over.
    assert DARK_FROM + 900 - BEAT <= cycle["at"] <= DARK_FROM + 1_200
    assert story.statuses[ONE] == "online"
    assert story.published == []
    assert "relapse_watch" in story.reasons[ONE]


@pytest.mark.parametrize(
    ("power", "reason"),
    [
        (None, "no_outlet"),
        (False, "no_outlet"),
        ({"protected": True}, "outlet_unusable"),
        ({"answers": "no"}, "refused"),
        ({"answers": "lies"}, "exhausted"),
    ],
)
async def test_where_the_outlet_does_not_help_somebody_is_called(power: Any, reason: str) -> None:
    story = await Story({ONE: power}, {ONE}).until(7_200)
    assert story.reasons[ONE][-1] == reason or reason in story.reasons[ONE]
    assert all(cycle["switched"] == [] for cycle in story.cycles)
    # An outlet that does not answer is asked once an hour, one that lies is not asked again.
    assert len(story.cycles) <= 2


async def test_a_cycle_that_does_not_help_is_made_once() -> None:
    story = await Story({ONE: True}, {ONE}, cured=False).until(9_000)
    assert [cycle["status"] for cycle in story.cycles] == ["completed"]
    assert story.reasons[ONE][-1] == "exhausted"


async def test_a_shared_outlet_waits_until_everybody_at_it_is_silent() -> None:
    power = {ONE: {"outlet": "strip"}, TWO: {"outlet": "strip"}}
    story = await Story(power, {ONE}).until(4_500)
    assert story.cycles == []
    assert "outlet_unusable" in story.reasons[ONE]
    assert story.statuses[TWO] == "online"


async def test_one_cycle_serves_all_at_a_shared_outlet() -> None:
    power = {ONE: {"outlet": "strip"}, TWO: {"outlet": "strip"}}
    story = await Story(power, {ONE, TWO}).until(4_500)
    (cycle,) = story.cycles
    assert cycle["switched"] == [ONE, TWO]
    assert story.statuses == {ONE: "online", TWO: "online"}


async def test_while_one_client_boots_its_neighbour_at_the_outlet_is_waited_for() -> None:
    """The cycle brings nobody back: the second client gets a cycle of its own, but only after the wait."""
    power = {ONE: {"outlet": "strip"}, TWO: {"outlet": "strip"}}
    story = await Story(power, {ONE, TWO}, cured=False).until(6_000)
    assert len(story.cycles) == 2
    assert story.cycles[1]["at"] - story.cycles[0]["at"] >= 900
