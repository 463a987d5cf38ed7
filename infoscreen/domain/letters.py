"""Letters without regard to case, accents and the ways umlauts are written: for searching and for sorting."""

import re
import unicodedata

_SINGLE = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
"""Letters that Unicode does not take apart, after ``casefold``."""


def plain(text: str) -> str:
    """Return lower-case letters without accents and in their usual forms, with single blanks."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(char for char in apart if not unicodedata.combining(char))
    return " ".join(bare.casefold().translate(_SINGLE).split())


def without_e(text: str) -> str:
    """Return plain text with umlauts that were written as two letters as one: ``mueller`` is muller."""
    return re.sub(r"([aou])e", r"\1", text)


def words_of(text: str) -> list[frozenset[str]]:
    """Return the words of a search, each as the ways in which it may be written."""
    found = [plain(word) for word in text.split()]
    return [frozenset({word, without_e(word)}) for word in dict.fromkeys(found) if word]


def _number(match: re.Match[str]) -> str:
    digits = match[0].lstrip("0") or "0"
    return f"{min(len(digits), 99):02}{digits}"


def in_order(text: str) -> str:
    """Return what texts are compared by, character by character: ``Foyer 2`` comes before ``Foyer 10``."""
    return re.sub(r"[0-9]+", _number, plain(text))
