"""What goes over a device's connection: topic, payload, retained or not. Builds packets, keeps none."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infoscreen.agent.protocol.values import build
from infoscreen.domain.clients import Presence
from infoscreen.wire import topics
from infoscreen.wire.messages import CommandAck, LogLine, ServiceFailed, encode
from infoscreen.wire.topics import LogLevel

AGENT_LOGGER = "infoscreen-agent"
"""Names the agent's own lines among those of the application."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message for the broker, always at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


def presence(uuid: str, value: Presence) -> Packet:
    """Return the device's own word on its connection; ``offline`` is its last will, too."""
    return Packet(topics.presence(uuid), value.encode(), retain=True)


def acks(uuid: str, ack: CommandAck) -> tuple[Packet, Packet]:
    """Return an ack for both topics, as devices in the field send it."""
    payload = ack.model_dump_json().encode()
    ours, alias = topics.acks(uuid)
    return Packet(ours, payload), Packet(alias, payload)


def service_failed(uuid: str, report: ServiceFailed) -> Packet:
    """Return the report that systemd has given up on a unit; retained, so that it outlives an outage."""
    return Packet(topics.service_failed(uuid), encode(report), retain=True)


def log_line(
    uuid: str,
    level: LogLevel,
    message: str,
    now: datetime,
    *,
    logger: str = AGENT_LOGGER,
    context: dict[str, Any] | None = None,
) -> Packet:
    """Return a line for the timeline; it is cut where the contract cuts, and may hold any characters."""
    line = build(LogLine, timestamp=now, message=message, logger=logger, context=context)
    return Packet(topics.logs(uuid, level), encode(line))
