"""From a template and what it needs to an answer, with one immutable Jinja environment per language and zone.

They do not share an environment, so that a page cannot catch another request's words or local time.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, TypeVar

from aiohttp import web
from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.bccache import Bucket
from jinja2.runtime import Context

from infoscreen import __version__
from infoscreen.domain.accounts import Actor, Role
from infoscreen.domain.alerts import Alert
from infoscreen.domain.clients import PROBLEMS, Client, Condition
from infoscreen.domain.commands import Action
from infoscreen.domain.presence import shown_conditions
from infoscreen.domain.visible import visible
from infoscreen.resources import resource
from infoscreen.services.monitoring import Overview
from infoscreen.storage.paging import MOST_COUNTED
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash, recovery_words
from infoscreen.web.panel.assets import asset_path
from infoscreen.web.panel.groups import GROUPS, look_of, numbers_of
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.navigation import MenuEntry, MenuGroup, entries_for
from infoscreen.web.panel.stages import stages
from infoscreen.web.panel.theme import THEMES, theme_of
from infoscreen.web.registry import maybe_actor
from infoscreen.words import incidents, notices, recovery, telling
from infoscreen.words.clients import application, oddities, status_reason
from infoscreen.words.language import LANGUAGES, Language
from infoscreen.words.names import ACTION_NOUNS, word
from infoscreen.words.readiness import STORE_TROUBLES
from infoscreen.words.speaking import say

T = TypeVar("T")
Parts = frozenset[str]

PARTS_HEADER = "X-Live"
MOST_ENVIRONMENTS = 32
"""One for each language, time zone and day that readers have; the least used one is forgotten."""

MOST_PARTS = 100
"""A page has fewer regions, also with one for each tile."""


async def page(
    request: web.Request, template: str, *, status: int = 200, here: str = "", **context: Any
) -> web.Response:
    """Answer with a page for the signed-in user; ``here`` is its entry in the navigation."""
    overview = await parts_of(request).monitoring.overview() if maybe_actor(request) else None
    return bare_page(request, template, overview, status=status, here=here, **context)


def asked_parts(request: web.Request) -> Parts | None:
    """Return the regions of a page that its live view asks for, None when the whole page is wanted."""
    header = request.headers.get(PARTS_HEADER)
    return None if header is None else Parts(header.split(",", MOST_PARTS)[:MOST_PARTS])


def wants(request: web.Request, *parts: str) -> bool:
    """Tell whether any of the regions is to be rendered: only then is it worth asking the store for it."""
    asked = asked_parts(request)
    return asked is None or not asked.isdisjoint(parts)


def _trouble_of(overview: Overview | None) -> str | None:
    trouble = None if overview is None else overview.database
    return None if trouble is None else STORE_TROUBLES[trouble.trouble]


def bare_page(
    request: web.Request,
    template: str,
    overview: Overview | None = None,
    *,
    status: int = 200,
    here: str = "",
    **context: Any,
) -> web.Response:
    """Answer with a page without asking the store, for those that have asked or must work without it."""
    actor = maybe_actor(request)
    tongue = language_of(request)
    numbers = numbers_of(overview)
    parts = asked_parts(request)
    shown = flash.read(request, tongue) if parts is None or "flash" in parts else None
    text = (
        _environment(tongue)
        .get_template(template)
        .render(
            {
                "user": actor,
                "whole": parts is None,
                "part": partial(wants, request),
                "may_operate": actor is not None and actor.role.may(Role.OPERATOR),
                "may_add": actor is not None and actor.role.may(Role.ADMIN),
                "now": parts_of(request).clock.now(),
                "path": request.path_qs if request.method == "GET" else "/",
                "own_path": request.path,
                "here": here,
                "theme": theme_of(request),
                "navigation": _navigation_of(actor),
                "live": overview is not None,
                "flash": shown,
                "broker": None if overview is None else overview.broker,
                "alerts": () if overview is None else overview.alerts,
                "database_trouble": _trouble_of(overview),
                "totals": numbers.totals,
                "fleet": numbers.fleet,
                "problems": numbers.problems,
                "acknowledged": numbers.acknowledged,
                **context,
            }
        )
    )
    response = web.Response(text=text, content_type="text/html", status=status)
    if shown is not None:
        flash.forget(response)
    return response


def _navigation_of(actor: Actor | None) -> Callable[[str], list[MenuEntry]]:
    return lambda group: entries_for(None if actor is None else actor.role, MenuGroup(group))


class _Compiled(BytecodeCache):
    """Templates compiled once for all environments."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._known[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


@lru_cache(MOST_ENVIRONMENTS)
def _environment(tongue: Language) -> Environment:
    """Return the environment of one language and zone. Unknown names in a template are errors, not blanks."""
    environment = Environment(
        loader=FileSystemLoader(resource("templates")),
        autoescape=True,
        finalize=_seen,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
    )
    # Added by the extension, which mypy cannot see.
    environment.install_gettext_translations(tongue.catalog, newstyle=True)  # type: ignore[attr-defined]
    environment.globals.update(
        version=__version__,
        language=tongue,
        languages=LANGUAGES,
        themes=THEMES,
        asset=asset_path,
        look_of=look_of,
        alarming=sorted(GROUPS["problems"]),
        word=_words_in(tongue),
        rungs=recovery.RUNGS,
        outcomes=recovery.OUTCOMES,
        endings=recovery.ENDINGS,
        action_noun=_nouns_in(tongue),
    )
    environment.filters.update(
        iso=_iso,
        moment=tongue.moment,
        weekday=tongue.weekday,
        full_date=tongue.full_date,
        clock=tongue.clock,
        day=tongue.day,
        utc=tongue.utc,
        number=tongue.number,
        percent=tongue.percent,
        counted=_counted_in(tongue),
        seconds=_seconds_in(tongue),
        skew=_skew_in(tongue),
        stages=stages,
        reason=_reason_in(tongue),
        others=_others,
        oddities=lambda client: oddities(client, tongue),
        told=_bound(telling.told, tongue),
        is_echo=telling.is_echo,
        happened=_bound(telling.happened, tongue),
        by_whom=_bound(telling.by_whom, tongue),
        evidence=_bound(telling.evidence, tongue),
        application=_bound(application, tongue),
        ordered=_bound(telling.command_reason, tongue),
        decided=_bound(recovery.decided, tongue),
        held=_bound(recovery_words.held, tongue),
        alert_text=_bound(_alert_text, tongue),
        incident_title=_bound(recovery.title, tongue),
        incident_sentence=_bound(recovery.meaning, tongue),
        incident_cause=_bound(recovery.cause, tongue),
        incident_detail=_bound(incidents.detail, tongue),
        closing_word=_bound(incidents.closing_word, tongue),
        delivery_failure=_bound(notices.failure, tongue),
    )
    return environment


def _seen(value: object) -> object:
    """Escape what cannot be seen in every text that a template writes; markup is our own."""
    return visible(value) if type(value) is str else value


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _words_in(tongue: Language) -> Callable[[StrEnum], str]:
    return lambda value: word(value, tongue)


def _nouns_in(tongue: Language) -> Callable[[Action], str]:
    return lambda action: tongue.gettext(ACTION_NOUNS[action])


def _counted_in(tongue: Language) -> Callable[[int | None], str]:
    def counted(total: int | None) -> str:
        if total is not None:
            return tongue.number(total)
        return tongue.gettext("more than %(num)s") % {"num": tongue.number(MOST_COUNTED)}

    return counted


def _seconds_in(tongue: Language) -> Callable[[float | None], str | None]:
    def seconds(value: float | None) -> str | None:
        return None if value is None else tongue.duration(timedelta(seconds=value))

    return seconds


def _skew_in(tongue: Language) -> Callable[[float | None], str | None]:
    def skew(value: float | None) -> str | None:
        if value is None:
            return None
        sign = "" if abs(value) < 0.05 else "-" if value < 0 else "+"
        if abs(value) < 100:
            return f"{sign}{tongue.number(abs(value), 1)} s"
        return f"{sign}{tongue.duration(timedelta(seconds=abs(value)))}"

    return skew


def _bound(sentence: Callable[[T, Language], str | None], tongue: Language) -> Callable[[T], str | None]:
    """Return the same for one language, as templates want it."""
    return lambda value: sentence(value, tongue)


def _alert_text(alert: Alert, tongue: Language) -> str:
    return say(alert.fact, tongue)


@pass_context
def _others(context: Context, client: Client) -> tuple[Condition, ...]:
    """Return what else is wrong with a client besides its status."""
    conditions = shown_conditions(client, context["now"], context["broker"].listening_since)
    return tuple(one for one in conditions[1:] if one in PROBLEMS)


def _reason_in(tongue: Language) -> Callable[[Context, Client], str]:
    @pass_context
    def reason(context: Context, client: Client) -> str:
        return status_reason(client, context["broker"].listening_since, tongue)

    return reason
