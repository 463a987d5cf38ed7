"""A picture of what a simulated screen shows, as a small valid PNG made with the standard library only."""

import struct
import zlib
from enum import Enum
from uuid import UUID

WIDTH, HEIGHT = 320, 180
_HEADER_HEIGHT, _FOOTER_HEIGHT, _MARGIN = 28, 18, 12


class Shown(Enum):
    """What is on the screen."""

    SLIDE = "slide"
    DESKTOP = "desktop"
    NOTHING = "nothing"


def screenshot(uuid: str, shown: Shown, slide: int) -> bytes:
    """Return the PNG; every device has its own colour, and each ``slide`` its own layout."""
    palette = _palette(uuid)
    rows = [_row(shown, y, slide) for y in range(HEIGHT)]
    # Each row opens with its filter type, 0 is none.
    pixels = zlib.compress(b"".join(b"\x00" + row for row in rows), 9)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"PLTE", palette)
        + _chunk(b"IDAT", pixels)
        + _chunk(b"IEND", b"")
    )


def _palette(uuid: str) -> bytes:
    """Return background, header, card, footer, desktop and black, three bytes each."""
    red, green, blue = (96 + byte % 128 for byte in UUID(uuid).bytes[-3:])
    colours = (
        (red, green, blue),
        (red // 2, green // 2, blue // 2),
        (245, 245, 240),
        (40, 44, 52),
        (0, 64, 96),
        (0, 0, 0),
    )
    return bytes(part for colour in colours for part in colour)


def _row(shown: Shown, y: int, slide: int) -> bytes:
    """Return row ``y`` as palette indexes, one byte per pixel."""
    match shown:
        case Shown.SLIDE:
            return _slide_row(y, slide)
        case Shown.DESKTOP:
            return bytes([4]) * WIDTH
        case Shown.NOTHING:
            return bytes([5]) * WIDTH


def _slide_row(y: int, slide: int) -> bytes:
    """Return one row of a slide: a header, some cards on the background, a footer."""
    if y < _HEADER_HEIGHT:
        return bytes([1]) * WIDTH
    if y >= HEIGHT - _FOOTER_HEIGHT:
        return bytes([3]) * WIDTH
    if not _HEADER_HEIGHT + _MARGIN <= y < HEIGHT - _FOOTER_HEIGHT - _MARGIN:
        return bytes(WIDTH)
    cards = 1 + slide % 3
    width = (WIDTH - _MARGIN * (cards + 1)) // cards
    row = (bytes(_MARGIN) + bytes([2]) * width) * cards
    return row + bytes(WIDTH - len(row))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
