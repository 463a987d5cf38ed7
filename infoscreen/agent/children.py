"""Starts other programs. None of them inherits the agent's secrets, its sockets or its place at systemd.

Each is the leader of a process group of its own, so that it can be ended together with what it started.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

INHERITED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "DISPLAY", "XAUTHORITY"}
)
INHERITED_PREFIXES = ("LC_", "XDG_", "WAYLAND_", "DBUS_")
"""What a program needs to find the session and the display; everything else stays with the agent."""

END_SECONDS = 2.0
"""How long a killed program may take to be gone; one that waits for a dead disk cannot be waited for."""


class NotStarted(Exception):
    """A program could not be started; the text says why."""


def environment(ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a child finds in its environment."""
    return {
        name: value
        for name, value in ours.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }


@asynccontextmanager
async def child(
    command: Sequence[str], *, errors: int = asyncio.subprocess.DEVNULL, limit: int = 65_536, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program while the block runs, with its output in a pipe; ``more`` is added to its environment.

    If it still runs at the end, it is killed with everything it started.

    Raises:
        NotStarted: there is no such program, or no room for it.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment() | more,
            close_fds=True,
            start_new_session=True,
            limit=limit,
        )
    except OSError as error:
        raise NotStarted(f"{command[0]}: {error.strerror}") from None
    except (ValueError, RuntimeError) as error:  # a NUL in an argument; no thread to wait for it
        raise NotStarted(f"{command[0]}: {error}") from None
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the group, also what the program left behind, and read on so that its pipe does not hold it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        ending = asyncio.ensure_future(process.communicate())
        try:
            await asyncio.wait([ending], timeout=END_SECONDS)
        finally:
            ending.cancel()
        if ending.done() and not ending.cancelled():
            ending.result()
