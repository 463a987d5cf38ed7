"""Documents that tell people what to type: their blocks taken out, and typed into one shell, in order."""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from infoscreen.provisioning.broker_files import CHECKLIST_ACCOUNT
from tests.broker import Broker
from tests.daemon import Daemon

ROOT = Path(__file__).parents[1]

STEP_SECONDS = 150.0
"""How long a block may take: a simulated reboot with its verification, on a busy machine."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_END = "=== end of the block"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, and what stands before it since the block before, or its heading."""

    section: str
    before: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to type, and what it prints: ``...`` stands for anything within a line, None for not told."""

    section: str
    script: str
    output: str | None


def blocks(page: str) -> list[Block]:
    """Return a document's fenced blocks in order."""
    found: list[Block] = []
    for number, part in enumerate(re.split(r"^## ", page, flags=re.MULTILINE)):
        section = part.partition("\n")[0] if number else ""
        end = 0
        for fence in _FENCE.finditer(part):
            found.append(Block(section, part[end : fence.start()], fence[1], fence[2]))
            end = fence.end()
    return found


def steps(page: str) -> list[Step]:
    """Return what a document tells to type: its ``sh`` blocks, with the ``text`` block right below each."""
    told = blocks(page)
    return [
        Step(block.section, block.text, after.text if _is_output(after) else None)
        for block, after in zip(told, [*told[1:], None], strict=True)
        if block.language == "sh"
    ]


def _is_output(block: Block | None) -> bool:
    return block is not None and block.language == "text" and not block.before.strip()


class Shell:
    """A shell in which somebody follows a document."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self._process = process
        self._script = directory / ".block.sh"

    async def type(self, script: str) -> str:
        """Run a block in this shell and return all it printed."""
        self._script.write_text(script, encoding="utf-8")
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f". {self._script} </dev/null; echo '{_END}'\n".encode())
        printed: list[str] = []
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while (line := (await stdout.readline()).decode()) != f"{_END}\n":
                    assert line, f"the shell ended:\n{''.join(printed)}\n{script}"
                    printed.append(line)
        except TimeoutError:
            raise AssertionError(
                f"still running after {STEP_SECONDS:g} s:\n{script}\n{''.join(printed)}"
            ) from None
        return "".join(printed)

    async def follow(self, told: Sequence[Step]) -> None:
        """Type every block and compare what it prints with what the document says."""
        assert told
        for step in told:
            printed = await self.type(step.script)
            if step.output is not None:
                wanted = re.escape(step.output).replace(re.escape("..."), "[^\n]+")
                assert re.fullmatch(wanted, printed), (
                    f"{step.section}\n{step.script}\nprinted:\n{printed}\nwanted:\n{step.output}"
                )
            else:
                assert printed == "", f"{step.section}\n{step.script}\nprinted:\n{printed}\nwanted: nothing"


@contextlib.asynccontextmanager
async def shell(directory: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Shell]:
    """Yield a shell in a directory, with the ``infoscreen`` of this checkout; end it with all it started."""
    ours = Path(sys.executable).parent
    process = await asyncio.create_subprocess_exec(
        "sh",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
        env={"PATH": f"{ours}{os.pathsep}{os.environ.get('PATH', os.defpath)}", **(environment or {})},
        start_new_session=True,
        limit=1024 * 1024,
    )
    try:
        yield Shell(process, directory)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def way_in(broker: Broker) -> dict[str, str]:
    """Return how the pages reach the broker, and their own account there."""
    return {
        "BROKER_HOST": broker.host,
        "BROKER_PORT": str(broker.port),
        "CHECK_USER": CHECKLIST_ACCOUNT,
        "CHECK_PASSWORD": broker.passwords[CHECKLIST_ACCOUNT],
    }


def demo_env(daemon: Daemon, broker: Broker, hand: str, **more: str) -> str:
    """Return the file that the demo writes for people, for a daemon and a broker of the test's own."""
    values = {
        "INFOSCREEN_URL": f"http://127.0.0.1:{daemon.port}",
        "ADMIN": "admin",
        "DATABASE_URL": daemon.url,
        "MQTT_HOST": broker.host,
        "MQTT_PORT": str(broker.port),
        "MQTT_USER": broker.server_user,
        "MQTT_PASSWORD": broker.server_password,
        **way_in(broker),
        "CANARY": hand,
        "HAND": hand,
        "HAND_PASSWORD": broker.passwords[hand],
        **more,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def page(name: str) -> str:
    """Return a document of this repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def require_infoscreen() -> None:
    """Fail where the checkout is not installed, so that no other infoscreen of the machine answers."""
    if not (Path(sys.executable).parent / "infoscreen").exists():
        pytest.fail("infoscreen is not installed beside this Python; scripts/setup does it", pytrace=False)
