"""What the screen shows, in two numbers: how bright it is, and when it changed last. Nothing is sent of it.

The capture is that of screenshots, scaled down to 64 x 36 in shades of grey.
"""

import asyncio
import io
import logging
import warnings
from datetime import datetime, timedelta
from typing import NamedTuple

from infoscreen.agent.screenshots import Camera, NoScreenshot
from infoscreen.clock import Clock
from infoscreen.wire.messages import MAX_SCREENSHOT_PIXELS, CapturedPicture

log = logging.getLogger(__name__)

SIZE = (64, 36)
SAME_WITHIN = 3
"""Levels of 255 by which a point may differ in two captures of the same picture."""


class Miniature(NamedTuple):
    """A picture scaled down: one byte a point."""

    points: bytes

    @property
    def luminance(self) -> float:
        """Return the mean brightness, 0 to 1."""
        return sum(self.points) / len(self.points) / 255

    def shows(self, other: "Miniature") -> bool:
        """Tell whether both are of the same picture."""
        return all(abs(a - b) <= SAME_WITHIN for a, b in zip(self.points, other.points, strict=True))


def miniature(picture: bytes) -> Miniature:
    """Scale a JPEG or PNG down.

    Raises:
        NoScreenshot: it cannot be read.
    """
    try:
        from PIL import Image, UnidentifiedImageError  # only devices that capture need it
    except ImportError:
        raise NoScreenshot("Pillow is not installed") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(picture), formats=("JPEG", "PNG")) as opened:
                if opened.width * opened.height > MAX_SCREENSHOT_PIXELS:
                    raise NoScreenshot("the picture is too large")
                opened.draft("L", SIZE)
                scaled = opened.convert("L").resize(SIZE, Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NoScreenshot(f"the picture cannot be read: {error}") from None
    return Miniature(scaled.tobytes())


class Watcher:
    """Looks at the screen now and then."""

    def __init__(self, camera: Camera, clock: Clock) -> None:
        self._camera = camera
        self._clock = clock
        self._before: Miniature | None = None
        self._changed: float = 0.0
        """On the monotonic clock, as the other one may be set."""
        self._trouble: str | None = None

    async def look(self) -> CapturedPicture | None:
        """Return what the screen shows; None while it cannot be captured, which is logged once."""
        try:
            # Taken again for each look, but never beside another one.
            captured = await self._camera.take()
            at, monotonic = self._clock.now(), self._clock.monotonic()
            mini = await asyncio.to_thread(miniature, captured)
        except NoScreenshot as error:
            self._note(str(error))
            return None
        self._note(None)
        if self._before is None or not mini.shows(self._before):
            self._changed = monotonic
        self._before = mini
        return CapturedPicture(
            captured_at=at,
            luminance=round(mini.luminance, 4),
            changed_at=_earlier(at, monotonic - self._changed),
        )

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and self._trouble is None:
            log.warning(
                "the screen cannot be captured: nobody is told whether it is dark or stuck",
                extra={"event": "no_picture", "error": trouble},
            )
        self._trouble = trouble


def _earlier(at: datetime, seconds: float) -> datetime:
    return at - timedelta(seconds=max(0.0, seconds))
