"""Text from outside, made safe to look at. Everything that people read of a device's words goes through here.

A device may send characters that are not seen, that turn the reading direction or that a terminal obeys.
They are shown as escapes, and the stored text stays as it came.
"""

import json
import unicodedata

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are escaped: controls, invisible formatting, surrogates, unassigned, line ends."""

KEPT = frozenset("\n\t")
JOINERS = frozenset("\u200c\u200d")
"""Harmless and needed to write Persian, Hindi and emoji, as long as they stand between other characters."""


def visible(text: str, *, one_line: bool = False) -> str:
    r"""Return the text with everything that cannot be seen escaped, as ``\x1b`` or ``\u202e``.

    Line feeds and tabs stay unless the text is to be ``one_line``.
    """
    if text.isprintable():
        return text
    kept = frozenset() if one_line else KEPT
    return "".join(_escaped(one) if one not in kept and _is_hidden(one) else one for one in text)


def visible_json(document: str) -> str:
    """Return a JSON document that means the same, with everything that cannot be seen as JSON's escapes."""
    if document.isprintable():
        return document
    return "".join(json.dumps(one)[1:-1] if one not in KEPT and _is_hidden(one) else one for one in document)


def _is_hidden(character: str) -> bool:
    return character not in JOINERS and unicodedata.category(character) in HIDDEN


def _escaped(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def storable(text: str) -> str:
    """Return the text without what no database takes: NUL and lone surrogates are written as escapes."""
    return "".join(
        _escaped(one) if one == "\x00" or unicodedata.category(one) == "Cs" else one for one in text
    )
