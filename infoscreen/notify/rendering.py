"""What a message says: a title and a few lines in the channel's language, and the JSON of the webhook."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from infoscreen.domain.codes import Value
from infoscreen.domain.notifying import NoticeStep
from infoscreen.domain.recovery import Closing
from infoscreen.services.ports import Notice
from infoscreen.words import notices, recovery
from infoscreen.words.language import ENGLISH, Language, language
from infoscreen.words.speaking import filled, say

MOST_NAMED = 20


def rendered(notice: Notice, code: str, origin: str | None) -> tuple[str, str]:
    """Return title and text in the language of that code; ``origin`` is where links lead to."""
    spoken = language(code)
    return title_of(notice, spoken), "\n".join(_lines(notice, spoken, origin))


def title_of(notice: Notice, spoken: Language) -> str:
    """Return the title."""
    what = spoken.gettext(notices.TITLES.get(notice.step, notices.OTHER_TITLE))
    if notice.incident is not None:
        closing = notice.incident.closing
        if notice.step is NoticeStep.RESOLVED and closing is Closing.GONE:
            what = spoken.gettext(notices.GONE)
        return what % {"what": recovery.title(notice.incident, spoken)}
    return what


def _lines(notice: Notice, spoken: Language, origin: str | None) -> Iterator[str]:
    _ = spoken.gettext
    if notice.text is not None:
        yield notice.text
    if notice.step is NoticeStep.TEST:
        yield _(notices.TEST)
    if notice.counts:
        yield _(notices.SUMMARY)
        yield from (f"- {one}" for one in notices.counted(notice.counts, spoken))
    incident = notice.incident
    if incident is not None:
        if incident.ended_at is not None:
            length = spoken.duration(incident.ended_at - incident.began_at)
            yield _(notices.LASTED) % {"at": spoken.moment(incident.began_at), "length": length}
        else:
            yield _(notices.SINCE) % {"at": spoken.moment(incident.began_at)}
        if notice.alert is not None:
            yield say(notice.alert, spoken)
        if notice.reason is not None:
            yield recovery.why(*notice.reason, spoken)
        if notice.clients:
            yield _named(notice, spoken)
        if incident.ended_at is None:
            if cause := recovery.cause(incident, spoken):
                yield cause
            yield recovery.meaning(incident, spoken)
        if notice.acknowledged_by is not None:
            yield _(notices.TAKEN_OVER) % {"by": notice.acknowledged_by}
    if (link := link_of(notice, origin)) is not None:
        yield f"{_(notices.ACKNOWLEDGE)} {link}"
    if (page := page_of(notice, origin)) is not None:
        yield f"{_(notices.MORE)} {page}"


def page_of(notice: Notice, origin: str | None) -> str | None:
    """Return the address of the page about it; None if nobody knows where the panel is."""
    if origin is None:
        return None
    return origin if notice.incident_id is None else f"{origin}/incidents/{notice.incident_id}"


def link_of(notice: Notice, origin: str | None) -> str | None:
    """Return the address that asks whether to acknowledge the incident."""
    return None if origin is None or notice.link is None else f"{origin}/link?{urlencode({'t': notice.link})}"


def _named(notice: Notice, spoken: Language) -> str:
    incident = notice.incident
    total = len(notice.clients) if incident is None else max(incident.members, len(notice.clients))
    shown = list(notice.clients)[:MOST_NAMED]
    words: dict[str, Value] = {"count": total, "names": ", ".join(shown), "more": total - len(shown)}
    if total > len(shown):
        return filled(notices.CLIENTS_AND_MORE, words, spoken)
    return filled(notices.CLIENTS, words, spoken)


def webhook_payload(notice: Notice, code: str, origin: str | None, now: datetime) -> dict[str, Any]:
    """Return the body of the webhook. Documented in docs/notifications.md: add to it, never change it."""
    title, text = rendered(notice, code, origin)
    incident = notice.incident
    return {
        "message_id": notice.message_id,
        "sent_at": _zulu(now),
        "created_at": _zulu(notice.created_at),
        "step": notice.step.value,
        "severity": notice.severity.value,
        "title": title,
        "text": text,
        "incident": None
        if incident is None
        else {
            "id": notice.incident_id,
            "kind": incident.kind.value,
            "site": incident.site,
            "network": incident.network,
            "members": incident.members,
            "clients": list(notice.clients)[:MOST_NAMED],
            "began_at": _zulu(incident.began_at),
            "ended_at": None if incident.ended_at is None else _zulu(incident.ended_at),
            "closing": None if incident.closing is None else incident.closing.value,
            "acknowledged_by": notice.acknowledged_by,
            "title": recovery.title(incident, ENGLISH),
        },
        "counts": dict(notice.counts) or None,
        "url": page_of(notice, origin),
        "acknowledge_url": link_of(notice, origin),
    }


def _zulu(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
