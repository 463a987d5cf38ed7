"""Takes a picture of what is shown, with a command that the administrator chose. Never decodes it."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infoscreen.wire.messages import MAX_SCREENSHOT_BYTES, image_type

TAKES_SECONDS = 20.0
FILE = "{file}"


class NoScreenshot(Exception):
    """There is no picture; the text says why."""


async def take(command: Sequence[str]) -> bytes:
    """Run the command and return its picture; raise ``NoScreenshot``."""
    if not any(FILE in word for word in command):
        return checked(await _output(command))
    with tempfile.TemporaryDirectory(prefix="screenshot-") as directory:
        file = Path(directory) / "screenshot"
        await _output([word.replace(FILE, str(file)) for word in command])
        return checked(await asyncio.to_thread(_start_of, file))


def checked(picture: bytes) -> bytes:
    """Return a picture that the contract allows; raise ``NoScreenshot``."""
    if len(picture) > MAX_SCREENSHOT_BYTES:
        raise NoScreenshot(f"larger than {MAX_SCREENSHOT_BYTES} bytes: choose JPEG, a lower quality or scale")
    if image_type(picture) is None:
        raise NoScreenshot("the command gave neither a whole JPEG nor a whole PNG")
    return picture


async def _output(command: Sequence[str]) -> bytes:
    """Return what the command wrote, at most one byte more than is allowed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise NoScreenshot(f"{command[0]}: {error.strerror}") from None
    assert process.stdout is not None  # noqa: S101  (it was asked for)
    output = b""
    try:
        async with asyncio.timeout(TAKES_SECONDS):
            while len(output) <= MAX_SCREENSHOT_BYTES and (part := await process.stdout.read(65_536)):
                output += part
            if len(output) <= MAX_SCREENSHOT_BYTES and await process.wait() != 0:
                raise NoScreenshot(f"{command[0]} ended with exit status {process.returncode}")
    except TimeoutError:
        raise NoScreenshot(f"{command[0]} took longer than {TAKES_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            # What it still wants to say would keep the pipe, and us, waiting.
            await process.communicate()
    return output


def _start_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_SCREENSHOT_BYTES + 1)
    except OSError as error:
        raise NoScreenshot(f"the command wrote no file: {error.strerror}") from None
