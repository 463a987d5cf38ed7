"""Our own style sheets, modules and images, read once and served under an address that changes with them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from aiohttp import web

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import NotFound

CONTENT_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by name. ``version`` digests their contents and is part of every address."""

    version: str
    bodies: dict[str, bytes]


@cache
def assets() -> Assets:
    """Return the files that are shipped with the package."""
    folder = files("infoscreen") / "web" / "static"
    bodies = {
        item.name: item.read_bytes()
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.is_file() and _suffix(item.name) in CONTENT_TYPES
    }
    digest = hashlib.sha256()
    for name, body in bodies.items():
        digest.update(name.encode() + b"\0" + body)
    return Assets(digest.hexdigest()[:12], bodies)


def asset_path(name: str) -> str:
    """Return the address of one file; raise ``KeyError`` when it does not exist."""
    known = assets()
    if name not in known.bodies:
        raise KeyError(name)
    return f"/assets/{known.version}/{name}"


async def get_asset(request: web.Request) -> web.Response:
    """Answer one file. Under an outdated version it is still served, but not to be kept."""
    known = assets()
    name = request.match_info["name"]
    body = known.bodies.get(name)
    if body is None:
        raise NotFound(ErrorCode.NO_FILE)
    current = request.match_info["version"] == known.version
    content_type = CONTENT_TYPES[_suffix(name)]
    text = content_type.startswith("text/") or content_type.endswith(("json", "xml"))
    return web.Response(
        body=body,
        content_type=content_type,
        charset="utf-8" if text else None,
        headers={"Cache-Control": FOREVER if current else "no-cache"},
    )


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
