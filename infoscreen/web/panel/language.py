"""Which language a page is in: what its reader has chosen, else what their browser asks for."""

from aiohttp import web

from infoscreen.words.language import LANGUAGES, Language, language, preferred

COOKIE = "infoscreen_language"


def language_of(request: web.Request) -> Language:
    """Return the language chosen by cookie, else the one the browser asks for, else German."""
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return language(chosen)
    return language(preferred(request.headers.get("Accept-Language", "")))
