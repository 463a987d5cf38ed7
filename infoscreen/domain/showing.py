"""Does the screen show what it should? Signs that it is dark or stuck, from health messages.

Times of a message are compared with its own timestamp only, so a wrong clock does no harm. What is missing
says nothing, neither good nor bad. What we switched off ourselves is meant to be dark: signs of it are
replaced by one that was seen zero times, which lasts until somebody wants it otherwise.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from infoscreen.domain.clients import ProcessStatus, Sign, SignKind
from infoscreen.domain.commands import Action, ClientCommand, CommandStatus

LONGEST_CREDIBLE = timedelta(days=365)
"""A frame older than this is no time but a default, as the first second of 1970 is."""

DARKEST = 0.02
"""A picture with less mean luminance is black."""

CLOCKS_AGREE = timedelta(seconds=60)
"""A capture may be so much newer than the message that tells of it."""

OLDEST_CAPTURE = timedelta(minutes=15)
LASTS = timedelta(minutes=30)
"""So long a sign counts after the last message that confirmed it."""

CONFIRMED_AGAIN = timedelta(minutes=10)
"""A sign that goes on is written again after this."""

OUT_OF_ORDER = timedelta(hours=1)
"""A message that is so much older than the last one is no late one: the device's clock was set back."""

NEEDED: Mapping[SignKind, int] = MappingProxyType(
    {
        SignKind.SCREEN_OFF: 2,
        SignKind.NOT_RUNNING: 2,
        SignKind.BLACK: 3,
        SignKind.STUCK: 1,
        SignKind.UNCHANGED: 1,
    }
)
"""How many messages, or captures, in a row make a sign count."""

_PICTURE = frozenset(SignKind) - {SignKind.NOT_RUNNING}
DARKENING: Mapping[Action, frozenset[SignKind]] = MappingProxyType(
    {Action.DISPLAY_OFF: _PICTURE, Action.SHUTDOWN_HOST: frozenset(SignKind)}
)
"""Signs that are meant to be there after a command."""

BRIGHTENING: Mapping[Action, frozenset[SignKind]] = MappingProxyType(
    {
        Action.DISPLAY_ON: _PICTURE,
        Action.REBOOT_HOST: frozenset(SignKind),
        Action.RESTART_APP: frozenset({SignKind.NOT_RUNNING}),
    }
)
"""Signs that are not meant to be there any more after a command."""

MOVING = frozenset(
    {"video", "movie", "film", "clip", "animation", "stream", "livestream", "live", "tv", "camera"}
)
"""Types of events whose picture changes all the time."""


class Picture(NamedTuple):
    """What an agent says about its newest capture, by the device's clock."""

    captured_at: datetime
    luminance: float | None
    changed_at: datetime | None


class Sight(NamedTuple):
    """As much of a health message as tells of the screen; None is not known. Times are of the device's clock.

    ``expects`` tells whether there is something to be played, ``moves`` whether its picture should change.
    """

    at: datetime
    screen_on: bool | None = None
    last_frame: datetime | None = None
    expects: bool | None = None
    moves: bool | None = None
    status: ProcessStatus | None = None
    picture: Picture | None = None


class Hint(StrEnum):
    """What a message says about one sign."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


def is_moving(event_type: str | None) -> bool | None:
    """Tell whether the picture of such an event changes all the time."""
    return None if event_type is None else event_type.strip().casefold() in MOVING


def looks_well(sight: Sight, frozen_after: timedelta) -> bool:
    """Tell whether nothing in the message is a sign of a dark or stuck screen."""
    return all(reading is not Hint.BAD for reading, _ in _readings(sight, frozen_after).values())


def is_prompt(
    sight: Sight, now: datetime, clock_skew_seconds: float | None, last_at: datetime | None
) -> bool:
    """Tell whether a message is news: neither repeated, nor late, nor from before the clock was set.

    A message that has waited shows a skew that differs from that of the heartbeats, ``clock_skew_seconds``;
    ``last_at`` is the timestamp of the health message before it.
    """
    if clock_skew_seconds is None:
        return False
    skew = (sight.at - now).total_seconds()
    if abs(skew - clock_skew_seconds) > CLOCKS_AGREE.total_seconds():
        return False
    return last_at is None or not last_at - OUT_OF_ORDER < sight.at <= last_at


def seen(signs: Sequence[Sign], sight: Sight, now: datetime, frozen_after: timedelta) -> list[Sign]:
    """Return the signs after one more message, equal to those before if it told nothing new."""
    known = {one.kind: one for one in signs}
    after = []
    for kind, (reading, told_at) in _readings(sight, frozen_after).items():
        before = known.get(kind)
        if before is not None and _is_meant(before):
            after.append(before)
        elif reading is Hint.BAD:
            after.append(_confirmed(before, kind, told_at, now))
        elif reading is Hint.UNKNOWN and before is not None and _lasts(before, now):
            after.append(before)
    return after


def counting(signs: Sequence[Sign]) -> list[Sign]:
    """Return the signs that were seen often enough."""
    return [one for one in signs if one.times >= NEEDED[one.kind]]


def not_showing_until(signs: Sequence[Sign]) -> datetime | None:
    """Return until when the signs count without another message; None if there are not enough."""
    return max((one.seen_at + LASTS for one in counting(signs)), default=None)


def meant(signs: Sequence[Sign]) -> list[Sign]:
    """Return what we switched off ourselves; only a restart of the host ends it, none of the application."""
    return [one for one in signs if _is_meant(one)]


def after_command(
    signs: Sequence[Sign], command: ClientCommand, boot_heard_at: datetime | None
) -> list[Sign]:
    """Return the signs after a device has told how far it is with a command.

    Args:
        signs: those before.
        command: with what the device has told.
        boot_heard_at: when the device told of its present boot first. One after the command was sent makes
            void what the command switched off.
    """
    known = {one.kind: one for one in signs}
    action, status, since = command.action, command.status, command.created_at
    if action in DARKENING and status in _DARK_BY[action]:
        sent_at = command.last_publish_at
        if boot_heard_at is not None and sent_at is not None and boot_heard_at > sent_at:
            return list(signs)
        for kind in DARKENING[action]:
            # A shutdown that fails later leaves what was switched off before.
            if action is Action.DISPLAY_OFF or kind not in known or not _is_meant(known[kind]):
                known[kind] = Sign(kind, 0, since, since)
    elif action is Action.SHUTDOWN_HOST and status is CommandStatus.FAILED:
        known = {kind: one for kind, one in known.items() if not (_is_meant(one) and one.since == since)}
    elif action in BRIGHTENING and status is CommandStatus.COMPLETED:
        ended = BRIGHTENING[action]
        known = {
            kind: one
            for kind, one in known.items()
            if not (_is_meant(one) and kind in ended and one.since <= since)
        }
    return [known[kind] for kind in SignKind if kind in known]


_DARK_BY: Mapping[Action, frozenset[CommandStatus]] = MappingProxyType(
    {
        Action.DISPLAY_OFF: frozenset({CommandStatus.COMPLETED}),
        # A host that goes down may not have the time to say more.
        Action.SHUTDOWN_HOST: frozenset({CommandStatus.EXECUTION_STARTED, CommandStatus.COMPLETED}),
    }
)


def _is_meant(sign: Sign) -> bool:
    return sign.times == 0


def _confirmed(before: Sign | None, kind: SignKind, told_at: datetime | None, now: datetime) -> Sign:
    if before is None or not _lasts(before, now):
        return Sign(kind, 1, now, now, told_at)
    if before.times >= NEEDED[kind]:
        return before if now - before.seen_at < CONFIRMED_AGAIN else before._replace(seen_at=now)
    if kind is SignKind.BLACK and told_at == before.told_at:
        return before  # the same capture again
    return Sign(kind, before.times + 1, before.since, now, told_at)


def _lasts(sign: Sign, now: datetime) -> bool:
    """Tell whether a sign still counts; one from the future is of a clock that was set back."""
    return now - LASTS < sign.seen_at <= now + CLOCKS_AGREE


_Readings = dict[SignKind, tuple[Hint, datetime | None]]


def _readings(sight: Sight, frozen_after: timedelta) -> _Readings:
    """Return what the message says about each sign, and the time of the device that goes with it."""
    at, picture = sight.at, sight.picture
    found: _Readings = dict.fromkeys(SignKind, (Hint.UNKNOWN, None))
    if sight.screen_on is not None:
        found[SignKind.SCREEN_OFF] = _reading(bad=not sight.screen_on), None
    if sight.expects is not None and sight.status not in {None, ProcessStatus.OTHER}:
        # A crash is a condition of its own, and an application that is starting has a deadline of its own.
        stopped = sight.status is ProcessStatus.STOPPED
        found[SignKind.NOT_RUNNING] = _reading(bad=sight.expects and stopped), None
    if sight.last_frame is not None and at - sight.last_frame < LONGEST_CREDIBLE:
        found[SignKind.STUCK] = _reading(bad=at - sight.last_frame > frozen_after), sight.last_frame
    if picture is not None and -CLOCKS_AGREE <= at - picture.captured_at <= OLDEST_CAPTURE:
        captured = picture.captured_at
        if picture.luminance is not None:
            found[SignKind.BLACK] = _reading(bad=picture.luminance < DARKEST), captured
        changed = picture.changed_at
        if changed is not None and sight.moves is not None and captured - changed < LONGEST_CREDIBLE:
            found[SignKind.UNCHANGED] = (
                _reading(bad=sight.moves and captured - changed > frozen_after),
                changed,
            )
    return found


def _reading(*, bad: bool) -> Hint:
    return Hint.BAD if bad else Hint.GOOD
