"""``report-service-failed``: what the device's ``OnFailure=`` unit runs when systemd has given up on a unit.

The report is written to disk first. A running agent takes it from there: the broker knows a device by one
client id only, so a second connection would push the agent's out. Only if no agent runs, and none can start
meanwhile, does it connect itself.
"""

import asyncio
import contextlib
import logging
import os
from datetime import datetime
from pathlib import Path
from random import Random

from infoscreen.agent.connection import backoff, make_client, publish
from infoscreen.agent.protocol import packets
from infoscreen.agent.settings import AgentSettings
from infoscreen.agent.state_files import StateFiles
from infoscreen.agent.systemd import Systemd, SystemdRefused
from infoscreen.clock import Clock
from infoscreen.domain.errors import BrokerUnavailable, CannotStart
from infoscreen.wire.messages import ServiceFailed, encode

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often it is looked whether the agent has brought the report to the broker."""


async def report(settings: AgentSettings, unit: str, clock: Clock, random: Random) -> None:
    """Return once the broker has the report, however long that takes."""
    files = StateFiles(settings.state_dir)
    now = clock.now()
    message = ServiceFailed(unit=unit, failed_at=now, client_uuid=settings.uuid, result=await result_of(unit))
    spooled = await asyncio.to_thread(_write, files, now, encode(message))
    log.info("the report is written", extra={"event": "report_written", "unit": unit})
    failures = 0
    while await asyncio.to_thread(spooled.exists):
        with files.lock() as alone:
            trouble = await _publish(settings, spooled) if alone else None
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


def _write(files: StateFiles, now: datetime, content: bytes) -> Path:
    try:
        files.prepare()
        return files.spool(f"{now:%Y%m%dT%H%M%S%f}-{os.getpid()}", content)
    except OSError as error:
        raise CannotStart(f"{files.directory}: the report cannot be written: {error.strerror}") from None


async def _publish(settings: AgentSettings, spooled: Path) -> str | None:
    """Bring the report to the broker ourselves; return what went wrong."""
    content = await asyncio.to_thread(_read, spooled)
    if content is None:
        return None
    try:
        async with await make_client(settings, will=False) as client:
            packet = packets.service_failed(settings.name, ServiceFailed.model_validate_json(content))
            await publish(client, packet)
    except BrokerUnavailable as error:
        return str(error)
    await asyncio.to_thread(spooled.unlink, missing_ok=True)
    return None


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


async def result_of(unit: str) -> str | None:
    """Return why systemd gave up, as it tells the units it starts for that (252), or when asked."""
    if os.environ.get("MONITOR_UNIT") == unit and os.environ.get("MONITOR_SERVICE_RESULT"):
        return os.environ["MONITOR_SERVICE_RESULT"]
    try:
        return (await Systemd().show(unit)).result
    except SystemdRefused:
        return None
