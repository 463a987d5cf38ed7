"""The size of a picture by its header. Never decodes: that is what a decompression bomb waits for."""

import re

_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ENDS = frozenset({0xD9, 0xDA})
# As decoders do, over stray bytes and over markers that begin no segment: 0x01, 0xD0 to 0xD8.
_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])", re.DOTALL)


def image_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a PNG or JPEG, the largest found; zeros where the header names none."""
    if data.startswith(b"\x89PNG"):
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    width = height = 0
    at = 2
    while (found := _SEGMENT.search(data, at)) is not None and found.end() + 7 <= len(data):
        marker, at = data[found.end() - 1], found.end()
        if marker in _STARTS_OF_FRAME:
            height = max(height, int.from_bytes(data[at + 3 : at + 5], "big"))
            width = max(width, int.from_bytes(data[at + 5 : at + 7], "big"))
        if marker in _ENDS:
            break
        at += int.from_bytes(data[at : at + 2], "big")
    return width, height
