"""Light, dark, or as the system has it: a cookie, which works before signing in and without JavaScript."""

from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from infoscreen.words.language import N_

COOKIE = "infoscreen_theme"

SYSTEM = "system"

THEMES: Mapping[str, str] = MappingProxyType({SYSTEM: N_("System"), "light": N_("Light"), "dark": N_("Dark")})


def theme_of(request: web.Request) -> str:
    """Return the theme that was chosen in this browser, else that of its system."""
    chosen = request.cookies.get(COOKIE, SYSTEM)
    return chosen if chosen in THEMES else SYSTEM
