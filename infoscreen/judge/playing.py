"""Plays a world against the judge: its lines in, the answers back, poll by poll."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from infoscreen.judge.court import Judge
from infoscreen.judge.lines import Line
from infoscreen.simulator.worlds import World


class Decider(StrEnum):
    """Who decides."""

    RECOVERY = "recovery"
    NAIVE = "naive"
    """Every client that is silent or crashed is rebooted at every poll, as far as the lockout lets it."""


NAIVELY_ILL = frozenset({"hung", "unreachable", "crashed"})


async def play(
    world: World,
    lasts: float,
    *,
    mode: Decider = Decider.RECOVERY,
    settings: Mapping[str, object] | None = None,
    progress: Callable[[float], object] | None = None,
    record: Callable[[Line], object] | None = None,
    told: Callable[[Line], object] | None = None,
) -> None:
    """Let so many seconds of the world pass; ``record`` is told every line in, ``told`` every answer."""
    judge = Judge()
    values = {"CRASH_RECOVERY_ENABLED": mode is Decider.RECOVERY, **(settings or {})}
    ill: set[str] = set()

    async def take(line: Line) -> dict[str, Any] | None:
        if record is not None:
            record(line)
        return await judge.take(line)

    try:
        with quiet_logs():
            await take({"at": 0, "kind": "settings", "values": values})
            at = world.terms.poll
            while at <= lasts:
                for line in world.lines(at):
                    await take(line)
                if mode is Decider.NAIVE:
                    for uuid in sorted(ill):
                        await take({"at": at, "kind": "request", "uuid": uuid, "action": "reboot_host"})
                answer = await take({"at": at, "kind": "poll"})
                assert answer is not None  # noqa: S101 - a poll is answered
                for uuid, status in answer["statuses"].items():
                    (ill.add if status in NAIVELY_ILL else ill.discard)(uuid)
                if mode is Decider.NAIVE:
                    _as_if_by_itself(answer)
                world.answered(answer)
                if told is not None:
                    told(answer)
                if progress is not None:
                    progress(at / lasts)
                at += world.terms.poll
    finally:
        await judge.close()


def _as_if_by_itself(answer: dict[str, Any]) -> None:
    """Let the score take the naive policy's commands for the daemon's own."""
    for message in answer["published"]:
        if isinstance(message["payload"], dict):
            message["payload"]["requested_by"] = None


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Leave out what the services log of single clients."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
