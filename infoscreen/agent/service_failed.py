"""``report-service-failed``: what the device's ``OnFailure=`` unit runs when systemd has given up on a unit.

The report is written to disk first. A running agent takes it from there: the broker knows a device by one
client id only, so a second connection would push the agent's out. Only if no agent runs, and none can start
meanwhile, does it connect itself.
"""

import asyncio
import logging
import os
from pathlib import Path
from random import Random

from infoscreen.agent.connection import backoff, make_client, publish
from infoscreen.agent.protocol import packets
from infoscreen.agent.protocol.values import build
from infoscreen.agent.settings import AgentSettings
from infoscreen.agent.state_files import StateFiles
from infoscreen.agent.systemd import Systemd, SystemdRefused
from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable, CannotStart
from infoscreen.wire.messages import ServiceFailed, encode

log = logging.getLogger(__name__)

RESTARTING = frozenset({"auto-restart", "auto-restart-queued"})
SETTLE_SECONDS, UP_SECONDS = 0.2, 2.0
"""How often the unit is looked at, and how long it must be up to count as restarted."""

LOOK_SECONDS = 0.5
"""How often it is looked whether the agent has brought the report to the broker."""


async def report(settings: AgentSettings, unit: str, clock: Clock, random: Random) -> None:
    """Return once the broker has the report, however long that takes.

    Started by ``OnFailure=`` of a unit that systemd restarts, report nothing.
    """
    if _is_started_for(unit) and not await has_given_up(unit, clock):
        log.info("systemd restarts the unit", extra={"event": "not_given_up", "unit": unit})
        return
    files = StateFiles(settings.state_dir)
    try:
        files.prepare()
    except OSError as error:
        raise CannotStart(f"{files.directory}: cannot be used: {error.strerror}") from None
    now = clock.now()
    message = build(
        ServiceFailed, unit=unit, failed_at=now, client_uuid=settings.uuid, result=await result_of(unit)
    )
    name = f"{now:%Y%m%dT%H%M%S%f}-{os.getpid()}"
    spooled: Path | None = None
    failures = 0
    while True:
        if spooled is None:
            spooled = await asyncio.to_thread(_write, files, name, encode(message))
        elif not await asyncio.to_thread(spooled.exists):
            break
        with files.lock() as alone:
            upcoming = failures % 2 == 1
            trouble = await _publish(settings, message, upcoming) if alone else None
        if alone and trouble is None:
            if spooled is not None:
                await asyncio.to_thread(spooled.unlink, missing_ok=True)
            break
        if trouble is None:
            await clock.sleep(LOOK_SECONDS)
            continue
        pause = backoff(settings.reconnect_seconds, failures, random)
        failures += 1
        log.warning(
            "the broker did not take the report, trying again",
            extra={"event": "broker_unavailable", "error": trouble, "retry_seconds": round(pause, 1)},
        )
        await clock.sleep(pause)
    log.info("the broker has the report", extra={"event": "report_sent", "unit": unit})


def _is_started_for(unit: str) -> bool:
    """Tell whether systemd started this because of the unit."""
    return os.environ.get("MONITOR_UNIT") == unit


async def has_given_up(unit: str, clock: Clock) -> bool:
    """Tell whether systemd has given up on the unit, once that is settled.

    systemd 254 and newer start ``OnFailure=`` at every crash of a unit that they restart. While this runs,
    they do not start it again: so a unit must have been up for a while before it counts as restarted.
    """
    since, pid = None, None
    while True:
        try:
            state = await Systemd().show(unit)
        except SystemdRefused:
            return True
        if state.active in ("failed", "inactive") and state.sub not in RESTARTING:
            return True
        now = clock.monotonic()
        if not state.is_up or state.pid != pid:
            since, pid = now, state.pid
        elif since is not None and now - since >= UP_SECONDS:
            return False
        await clock.sleep(SETTLE_SECONDS)


def _write(files: StateFiles, name: str, content: bytes) -> Path | None:
    """Write the report down for the agent; without, it lives as long as this process."""
    try:
        return files.spool(name, content)
    except OSError as error:
        log.warning(
            "the report cannot be written",
            extra={"event": "report_not_written", "error": str(error.strerror)},
        )
        return None


async def _publish(settings: AgentSettings, message: ServiceFailed, upcoming: bool) -> str | None:
    """Bring the report to the broker ourselves; return what went wrong."""
    try:
        async with await make_client(settings, will=False, upcoming=upcoming) as client:
            await publish(client, packets.service_failed(settings.name, message))
    except BrokerUnavailable as error:
        return str(error)
    return None


async def result_of(unit: str) -> str | None:
    """Return why systemd gave up, as it tells the units it starts for that (252), or when asked."""
    if _is_started_for(unit) and os.environ.get("MONITOR_SERVICE_RESULT"):
        return os.environ["MONITOR_SERVICE_RESULT"]
    try:
        return (await Systemd().show(unit)).result
    except SystemdRefused:
        return None
