"""Devices that acknowledge every command at once; a process: ``python -m benchmarks.responder``.

Each takes the three steps without doing anything, and says each on both topics, as devices in the field do.
Reads port, account and password from its standard input, writes a line when it listens, and ends with it.
"""

import asyncio
import json
import sys

import uvloop

from benchmarks.line import line
from infoscreen.wire import topics
from infoscreen.wire.topics import COMMAND_FILTERS

STEPS = ("accepted", "execution_started", "completed")
ACKS = len(STEPS) * 2
"""Messages in answer to one command."""


def answers(topic: str, payload: bytes) -> list[tuple[str, bytes]]:
    """Return topic and payload of all that a device says to a command."""
    uuid, command_id = topic.split("/")[1], json.loads(payload)["command_id"]
    told = [
        json.dumps({"command_id": command_id, "status": step, "error_code": None, "error_message": None})
        for step in STEPS
    ]
    return [(name, one.encode()) for one in told for name in topics.acks(uuid)]


async def respond(port: int, account: str, password: str) -> None:
    """Answer until the standard input is closed."""

    def on_command(topic: str, payload: bytes) -> None:
        for name, told in answers(topic, payload):
            devices.publish(name, told)

    async with line(port, "responder", account, password, on_command) as devices:
        await devices.subscribe(COMMAND_FILTERS[0])
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Run with what the standard input says."""
    port, account, password = sys.stdin.readline().split()
    uvloop.run(respond(int(port), account, password))


if __name__ == "__main__":
    main()
