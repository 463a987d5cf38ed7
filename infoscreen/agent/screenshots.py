"""Takes a picture of what is shown, with a command that the administrator chose. Never decodes it."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infoscreen.agent.children import NotStarted, child
from infoscreen.wire.messages import MAX_SCREENSHOT_BYTES, image_type

TAKES_SECONDS = 20.0
FILE = "{file}"


class NoScreenshot(Exception):
    """There is no picture; the text says why."""


class Camera:
    """Takes one picture at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._taking = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        """Tell whether a picture is being taken."""
        return self._taking.locked()

    async def take(self) -> bytes:
        """Run the command and return its picture, after the one that is being taken.

        Raises:
            NoScreenshot: there is none.
        """
        async with self._taking:
            if not any(FILE in word for word in self._command):
                return checked(await _output(self._command))
            try:
                with tempfile.TemporaryDirectory(
                    prefix="screenshot-", ignore_cleanup_errors=True
                ) as directory:
                    file = Path(directory) / "screenshot"
                    await _output([word.replace(FILE, str(file)) for word in self._command])
                    return checked(await asyncio.to_thread(_start_of, file))
            except OSError as error:
                raise NoScreenshot(f"no directory for the picture: {error.strerror}") from None


def checked(picture: bytes) -> bytes:
    """Return a picture that the contract allows; raise ``NoScreenshot``."""
    if len(picture) > MAX_SCREENSHOT_BYTES:
        raise NoScreenshot(f"larger than {MAX_SCREENSHOT_BYTES} bytes: choose JPEG, a lower quality or scale")
    if image_type(picture) is None:
        raise NoScreenshot("the command gave neither a whole JPEG nor a whole PNG")
    return picture


async def _output(command: Sequence[str]) -> bytes:
    """Return what the command wrote, at most one byte more than is allowed."""
    output = b""
    try:
        async with child(command) as process, asyncio.timeout(TAKES_SECONDS):
            assert process.stdout is not None  # noqa: S101  (child() asks for it)
            while len(output) <= MAX_SCREENSHOT_BYTES and (part := await process.stdout.read(65_536)):
                output += part
            if len(output) <= MAX_SCREENSHOT_BYTES and await process.wait() != 0:
                raise NoScreenshot(f"{command[0]} ended with exit status {process.returncode}")
    except NotStarted as error:
        raise NoScreenshot(str(error)) from None
    except TimeoutError:
        raise NoScreenshot(f"{command[0]} took longer than {TAKES_SECONDS:g} s") from None
    return output


def _start_of(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_SCREENSHOT_BYTES + 1)
    except OSError as error:
        raise NoScreenshot(f"the command wrote no file: {error.strerror}") from None
