"""What an agent finds out about its screen from a capture: how bright it is, and when it changed last."""

import io
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from infoscreen.agent.picture import Miniature, Watcher, miniature
from infoscreen.agent.screenshots import Camera, NoScreenshot
from tests.browser import ARGUMENTS
from tests.fakes import FakeClock
from tests.programs import require


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    image.save(written, kind)
    return written.getvalue()


def plain(grey: int, kind: str = "PNG", size: tuple[int, int] = (1920, 1080)) -> bytes:
    return saved(Image.new("RGB", size, (grey, grey, grey)), kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_brightness_is_that_of_the_whole_picture(grey: int, kind: str) -> None:
    assert miniature(plain(grey, kind)).luminance == pytest.approx(grey / 255, abs=0.005)


def test_half_a_picture_is_half_as_bright_and_a_small_logo_on_black_is_nearly_black() -> None:
    image = Image.new("RGB", (1280, 720), "black")
    ImageDraw.Draw(image).rectangle((0, 0, 639, 719), fill="white")
    assert miniature(saved(image)).luminance == pytest.approx(0.5, abs=0.02)
    logo = Image.new("RGB", (1280, 720), "black")
    ImageDraw.Draw(logo).rectangle((0, 0, 200, 200), fill="white")
    assert 0.02 < miniature(saved(logo)).luminance < 0.1


def test_a_moved_picture_is_another_and_the_same_one_compressed_again_is_not() -> None:
    image = Image.linear_gradient("L").resize((640, 360))
    assert miniature(saved(image)).shows(miniature(saved(image, "JPEG")))
    assert not miniature(saved(image)).shows(miniature(saved(image.transpose(Image.Transpose.ROTATE_180))))


@pytest.mark.parametrize(
    "broken", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", plain(9)[:200], b"GIF89a"], ids=len
)
def test_what_is_no_whole_picture_is_refused(broken: bytes) -> None:
    with pytest.raises(NoScreenshot):
        miniature(broken)


def test_a_picture_that_unfolds_to_too_much_is_refused_before_it_does() -> None:
    with pytest.raises(NoScreenshot, match="too large"):
        miniature(saved(Image.new("1", (8_000, 8_000))))


def command(folder: Path) -> tuple[str, ...]:
    """Return a command that prints the file ``shown``."""
    return "cat", str(folder / "shown")


async def test_a_still_picture_ages_and_a_new_one_does_not_whatever_the_clock_says(tmp_path: Path) -> None:
    clock = FakeClock()
    watcher = Watcher(Camera(command(tmp_path)), clock)
    shown = tmp_path / "shown"
    shown.write_bytes(plain(100))
    first = await watcher.look()
    assert first is not None
    assert first.captured_at == first.changed_at == clock.now()
    clock.advance(400)
    still = await watcher.look()
    assert still is not None
    assert still.captured_at is not None
    assert still.changed_at == still.captured_at - timedelta(seconds=400)
    clock.set_wall_time(clock.now() + timedelta(days=20_000))
    clock.advance(60)
    still = await watcher.look()
    assert still is not None
    assert still.captured_at is not None
    assert still.changed_at == still.captured_at - timedelta(seconds=460)
    shown.write_bytes(plain(200))
    other = await watcher.look()
    assert other is not None
    assert other.changed_at == other.captured_at == clock.now()
    assert other.luminance == pytest.approx(200 / 255, abs=0.01)


async def test_a_screen_that_cannot_be_captured_is_said_once_and_nothing_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(Camera(command(tmp_path)), FakeClock())
    with caplog.at_level(logging.WARNING):
        assert [await watcher.look() for _ in range(3)] == [None] * 3
    assert [record.__dict__["event"] for record in caplog.records] == ["no_picture"]
    (tmp_path / "shown").write_bytes(plain(50))
    assert await watcher.look() is not None


@pytest.mark.browser
@pytest.mark.slow
async def test_real_captures_of_a_black_a_still_and_a_moving_page(tmp_path: Path) -> None:
    page, taken = tmp_path / "page.html", tmp_path / "taken.png"
    program = (require("chromium"), "--headless", *ARGUMENTS, f"--user-data-dir={tmp_path}/profile")
    shell = 'rm -f "$0"; "$@" >/dev/null 2>&1; cat "$0"'
    camera = Camera(("sh", "-c", shell, str(taken), *program, f"--screenshot={taken}", str(page)))

    async def captured(style: str) -> Miniature:
        page.write_text(f"<!doctype html><body style='background:{style}'><h1>Open</h1>")
        return miniature(await camera.take())

    black, still = await captured("#000;color:#000"), await captured("#fff")
    assert black.luminance < 0.02
    assert still.luminance > 0.5
    assert still.shows(await captured("#fff"))
    assert not still.shows(await captured("#fa0"))
