"""Which language and which local time a page is in: its reader's, as far as the browser tells."""

from aiohttp import web

from infoscreen.clock import zone_named
from infoscreen.web.keys import parts_of
from infoscreen.words.language import LANGUAGES, Language, language, preferred

COOKIE = "infoscreen_language"
ZONE_COOKIE = "infoscreen_zone"
"""The name of the reader's time zone; ``times.js`` sets it."""


def language_of(request: web.Request) -> Language:
    """Return the language chosen by cookie, else the one the browser asks for, else German.

    Times are in the time zone of the browser, and of this host until the browser has told its own.
    """
    parts = parts_of(request)
    chosen = request.cookies.get(COOKIE)
    code = chosen if chosen in LANGUAGES else preferred(request.headers.get("Accept-Language", ""))
    zone = zone_named(request.cookies.get(ZONE_COOKIE, "")) or parts.config.time_zone
    return language(code).at(zone, parts.clock.now())
