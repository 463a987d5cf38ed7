"""What somebody has just done and may undo: kept in memory, for a minute, for the user who did it.

A restart forgets it, and so does time: what was done stays done then, and its opposite is one click away.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiohttp import web

from infoscreen.domain.accounts import Actor
from infoscreen.domain.errors import NotFound
from infoscreen.storage.recovery.pauses import StoredPause
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.forms import UndoForm, see_other
from infoscreen.web.registry import actor_of, read_form

UNDO_FOR = timedelta(seconds=60)
"""Longer than the message is shown, for those who read slowly or have no JavaScript."""

MOST_KNOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoable:
    """An act: clients that somebody has taken over, failed services acknowledged, a pause begun."""

    by: Actor
    at: datetime
    clients: tuple[str, ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    pause: StoredPause | None = None


class Undos:
    """The latest acts by a token that only their page knows; the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Undoable] = OrderedDict()

    def note(self, done: Undoable) -> str:
        """Remember an act and return its token."""
        token = secrets.token_urlsafe(16)
        self._known[token] = done
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return token

    def take(self, token: str, actor: Actor, now: datetime) -> Undoable | None:
        """Return an act and forget it; None if it was somebody else's, or too long ago."""
        done = self._known.get(token)
        if done is None or done.by.user_id != actor.user_id:
            return None
        del self._known[token]
        return done if done.at <= now <= done.at + UNDO_FOR else None


UNDOS = web.AppKey("UNDOS", Undos)


def note(request: web.Request, done: Undoable) -> dict[str, str]:
    """Remember an act, and return what its message needs to offer to undo it; nothing if nothing was done."""
    if not (done.clients or done.units or done.pause):
        return {}
    return {"undo": request.app[UNDOS].note(done)}


async def post_undo(request: web.Request) -> web.StreamResponse:
    """Take back what was done a moment ago, as far as nobody has changed it since."""
    form = await read_form(request, UndoForm)
    parts, actor = parts_of(request), actor_of(request)
    back = see_other(form.next)
    done = request.app[UNDOS].take(form.token, actor, parts.clock.now())
    if done is None:
        return flash.put(request, back, "not_undone")
    undone = 0
    for uuid in done.clients:
        undone += await parts.recovering.take_back(uuid, actor, done.at)
    for uuid, unit in done.units:
        try:
            undone += await parts.fleet.restore_service_failed(uuid, unit, actor, done.at)
        except NotFound:
            continue
    if (pause := done.pause) is not None:
        undone += await parts.pausing.take_back(pause, actor)
    return flash.put(request, back, "undone" if undone else "not_undone")
