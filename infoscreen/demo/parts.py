"""The demo's processes: started, watched, and ended whatever happens."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infoscreen.domain.errors import InfoscreenError

HOST = "127.0.0.1"

START_SECONDS = 60.0
"""So long a part may take until it answers, on a slow machine too."""

STOP_SECONDS = 20.0
"""So long a part may take to end before it is killed."""

POLL_SECONDS = 0.1
LAST_LINES = 15


class PartDied(InfoscreenError):
    """A process of the demo ended by itself, or never began to work; the text has its last words."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: its name for people, its command line and its log."""

    name: str
    command: Sequence[str]
    log: Path


class DemoProcess:
    """A running process of the demo."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process) -> None:
        self._program = program
        self._process = process
        self._ending = False

    async def must_live(self) -> None:
        """Return when it has ended because it was told to; raise ``PartDied`` when it ended by itself."""
        code = await self._process.wait()
        if not self._ending:
            raise PartDied(f"The {self._program.name} ended with exit status {code}.{self._last_words()}")

    async def until(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it works; raise ``PartDied`` when it does not within a minute."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    if await is_ready():
                        return
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise PartDied(
                f"The {self._program.name} did not come up in {START_SECONDS:g} s.{self._last_words()}"
            ) from None

    async def end(self) -> None:
        """Tell it to end, and kill it if it does not."""
        self._ending = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _last_words(self) -> str:
        try:
            lines = self._program.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "".join(f"\n    {line}" for line in lines[-LAST_LINES:])


@contextlib.asynccontextmanager
async def running(
    program: Program, directory: Path, environment: Mapping[str, str]
) -> AsyncIterator[DemoProcess]:
    """Run a program in ``directory`` while the block lasts, out of reach of the terminal's Ctrl-C."""
    # Should the demo be killed, nothing of it stays.
    tied = [setpriv, "--pdeathsig", "TERM"] if (setpriv := shutil.which("setpriv")) else []
    with (directory / f"{program.name}.log").open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *tied,
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
    part = DemoProcess(program, process)
    try:
        yield part
    finally:
        await part.end()


async def is_listening(port: int) -> bool:
    """Tell whether a server on loopback accepts connections."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
