"""Running a program for a driver: no shell, no inherited secrets, bounded time and output."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from infoscreen.domain.errors import PowerError
from infoscreen.domain.power import PowerFault

MOST_BYTES = 64 * 2**10
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a program, the outputs cut to 64 KiB.

    When the time is over, or the caller is cancelled, the program and all that it started are killed.
    """
    spawning = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": PATH, "LC_ALL": "C", **environment},
            cwd="/",
            start_new_session=True,
        )
    )
    try:
        # A start that is cancelled halfway kills the program alone, and leaves behind what that has started.
        process = await asyncio.shield(spawning)
    except asyncio.CancelledError:
        spawning.add_done_callback(_kill_what_was_started)
        raise
    except (OSError, ValueError) as error:
        raise PowerError(PowerFault.MISSING_PROGRAM, f"{command[0]}: {error}"[:200]) from None
    assert process.stdout is not None  # noqa: S101 - they are pipes
    assert process.stderr is not None  # noqa: S101
    try:
        async with asyncio.timeout(seconds):
            output, errors, code = await asyncio.gather(
                _head_of(process.stdout), _head_of(process.stderr), process.wait()
            )
    except TimeoutError:
        raise PowerError(PowerFault.NO_ANSWER, f"{command[0]} did not end within {seconds:g} s") from None
    finally:
        _kill(process.pid)
        if process.returncode is None:
            await process.wait()
    return code, output, errors


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _kill_what_was_started(spawning: asyncio.Future[asyncio.subprocess.Process]) -> None:
    if not spawning.cancelled() and spawning.exception() is None:
        _kill(spawning.result().pid)


async def _head_of(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    while chunk := await stream.read(16_384):
        if len(kept) < MOST_BYTES:
            kept += chunk[: MOST_BYTES - len(kept)]
    return kept.decode("utf-8", "replace")
