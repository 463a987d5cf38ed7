"""Which incidents are told where, and when: adding, changing and removing rules. For administrators."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, StringConstraints

from infoscreen.domain.accounts import Role
from infoscreen.domain.errors import InvalidInput, Refused
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.recovery import IncidentKind
from infoscreen.storage.notify.rules import StoredRule
from infoscreen.web.keys import parts_of
from infoscreen.web.panel import flash
from infoscreen.web.panel.channels import HOME
from infoscreen.web.panel.faults import ShownFault, faults_of
from infoscreen.web.panel.forms import Form, Line, Number, Optional, see_other
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.questions import removal
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import Route, actor_of, path_number, read_form
from infoscreen.words.language import N_
from infoscreen.words.notices import KIND_NAMES
from infoscreen.words.speaking import say

MINUTE, HOUR = 60.0, 3_600.0
MOST = 500
DAYS = 30

Names = Annotated[str, Field(max_length=20_000)]
Minutes = Annotated[Annotated[float, Field(ge=0, le=DAYS * 1_440, allow_inf_nan=False)] | None, Optional]
LongMinutes = Annotated[Annotated[float, Field(ge=1, le=DAYS * 1_440, allow_inf_nan=False)] | None, Optional]
Hours = Annotated[Annotated[float, Field(ge=0.1, le=DAYS * 24, allow_inf_nan=False)] | None, Optional]
Yes = Literal["", "yes"]


class RuleForm(Form):
    """A rule as the form sends it; ``sites`` and ``tags`` have a name on each line."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
    enabled: Yes = ""
    kinds: list[IncidentKind] = Field(default_factory=list, max_length=50)
    critical_only: Yes = ""
    sites: Names = ""
    tags: Names = ""
    channels: list[Number] = Field(default_factory=list, max_length=50)
    delay: Minutes = None
    hours: Annotated[Line | None, Optional] = None
    time_zone: Annotated[Annotated[Line, Field(max_length=60)] | None, Optional] = None
    reminder: Hours = None
    resolved: Yes = ""
    escalate_to: list[Number] = Field(default_factory=list, max_length=50)
    escalate_after: LongMinutes = None

    def settings(self) -> dict[str, Any]:
        """Return the settings as they are stored; raise ``InvalidInput`` for lists that are too long."""
        return {
            "kinds": [kind.value for kind in self.kinds],
            "critical_only": self.critical_only == "yes",
            "sites": lines_of("sites", self.sites, 200),
            "tags": lines_of("tags", self.tags, 100),
            "channels": self.channels,
            "delay_seconds": None if self.delay is None else self.delay * MINUTE,
            "hours": self.hours,
            "time_zone": self.time_zone,
            "reminder_seconds": None if self.reminder is None else self.reminder * HOUR,
            "resolved": self.resolved == "yes",
            "escalate_to": self.escalate_to,
            "escalate_after_seconds": None if self.escalate_after is None else self.escalate_after * MINUTE,
        }


def lines_of(field: str, text: str, longest: int) -> list[str]:
    """Return the lines that are not empty, each once."""
    found = list(dict.fromkeys(filter(None, (line.strip() for line in text.splitlines()))))
    if len(found) > MOST or any(len(line) > longest for line in found):
        raise InvalidInput.of(field, FieldFault.TOO_LONG, most=longest)
    return found


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a rule with its defaults."""
    return {**EMPTY, **{name: value for name, value in settings.items() if value is not None}}


async def get_new_rule(request: web.Request) -> web.StreamResponse:
    """Show the empty form."""
    return await _form(request, None, {})


async def post_new_rule(request: web.Request) -> web.StreamResponse:
    """Add a rule."""
    return await _save(request, None)


async def get_rule(request: web.Request) -> web.StreamResponse:
    """Show the form of a rule."""
    known = await parts_of(request).notifying.rule(path_number(request, "id"))
    return await _form(request, known, dict(known.settings))


async def post_rule(request: web.Request) -> web.StreamResponse:
    """Change a rule."""
    return await _save(request, await parts_of(request).notifying.rule(path_number(request, "id")))


async def get_removal(request: web.Request) -> web.StreamResponse:
    """Ask whether to remove a rule."""
    known = await parts_of(request).notifying.rule(path_number(request, "id"))
    language = language_of(request)
    question = removal(
        title=language.gettext(REMOVE) % {"rule": known.name},
        effect=language.gettext(REMOVED),
        path=f"{HOME}/rules/{known.id}",
        language=language,
    )
    return await page(request, "confirm.html", here="notifications", question=question)


async def post_removal(request: web.Request) -> web.StreamResponse:
    """Remove a rule."""
    notifying, number = parts_of(request).notifying, path_number(request, "id")
    known = await notifying.rule(number)
    await notifying.remove_rule(number, actor_of(request))
    return flash.put(request, see_other(HOME), "rule_removed", rule=known.name)


async def _save(request: web.Request, known: StoredRule | None) -> web.StreamResponse:
    notifying, actor, language = parts_of(request).notifying, actor_of(request), language_of(request)
    shown: dict[str, Any] = {} if known is None else dict(known.settings)
    name, enabled = ("", True) if known is None else (known.name, known.enabled)
    try:
        form = await read_form(request, RuleForm)
        name, enabled = form.name, form.enabled == "yes"
        shown = form.settings()
        if known is None:
            await notifying.add_rule(name, shown, actor, enabled=enabled)
        else:
            await notifying.change_rule(known.id, actor, {"name": name, "enabled": enabled, **shown})
    except InvalidInput as refusal:
        faults = faults_of(refusal.errors, language)
        return await _form(request, known, shown, name, enabled=enabled, faults=faults, status=422)
    except Refused as refusal:
        fault = say(refusal.fact, language)
        return await _form(request, known, shown, name, enabled=enabled, fault=fault, status=refusal.status)
    return flash.put(request, see_other(HOME), "rule_saved", rule=name)


async def _form(
    request: web.Request,
    known: StoredRule | None,
    shown: dict[str, Any],
    name: str | None = None,
    *,
    enabled: bool | None = None,
    faults: list[ShownFault] | None = None,
    fault: str = "",
    status: int = 200,
) -> web.StreamResponse:
    listed = await parts_of(request).notifying.channels(MOST)
    if name is None:
        name, enabled = ("", True) if known is None else (known.name, known.enabled)
    return await page(
        request,
        "rule.html",
        status=status,
        here="notifications",
        known=known,
        name=name,
        enabled=enabled,
        form=filled(shown),
        kind_names=KIND_NAMES,
        channels=listed.items,
        faults=faults or [],
        fault=fault,
    )


EMPTY: dict[str, Any] = {
    "kinds": [],
    "critical_only": False,
    "sites": [],
    "tags": [],
    "channels": [],
    "delay_seconds": None,
    "hours": None,
    "time_zone": None,
    "reminder_seconds": None,
    "resolved": True,
    "escalate_to": [],
    "escalate_after_seconds": None,
}

REMOVE = N_("Remove the rule %(rule)s?")
REMOVED = N_("Incidents that only this rule reports are no longer reported. Waiting messages are still sent.")

ROUTES = (
    Route("GET", f"{HOME}/rules/new", get_new_rule, Role.ADMIN, "Form to add a rule", html=True),
    Route("POST", f"{HOME}/rules/new", post_new_rule, Role.ADMIN, "Add a rule", request=RuleForm, html=True),
    Route("GET", f"{HOME}/rules/{{id}}", get_rule, Role.ADMIN, "A rule", html=True),
    Route(
        "POST", f"{HOME}/rules/{{id}}", post_rule, Role.ADMIN, "Change a rule", request=RuleForm, html=True
    ),
    Route("GET", f"{HOME}/rules/{{id}}/remove", get_removal, Role.ADMIN, "Ask to remove a rule", html=True),
    Route("POST", f"{HOME}/rules/{{id}}/remove", post_removal, Role.ADMIN, "Remove a rule", html=True),
)
