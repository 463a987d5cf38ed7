"""Reads scenario files. Whatever is wrong with one is said at once, with the place and what is allowed."""

import tomllib
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from infoscreen.domain.errors import InvalidInput
from infoscreen.domain.recovery import Rung
from infoscreen.simulator.scenarios.scenario import (
    FOR_EVERYBODY,
    PASSES,
    Event,
    Fleet,
    Kind,
    Rhythm,
    Scenario,
)

UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
RUNGS = {rung.action: rung for rung in Rung if rung is not Rung.HUMAN} | {"nothing": Rung.HUMAN}
MOST_BYTES = 1_000_000


def names() -> list[str]:
    """Return the names of the shipped scenarios."""
    here = files("infoscreen.simulator.scenarios")
    return sorted(
        entry.name.removesuffix(".toml") for entry in here.iterdir() if entry.name.endswith(".toml")
    )


def load(name_or_path: str) -> Scenario:
    """Return a shipped scenario by its name, or one of the user's own by its path (with a slash or .toml).

    Raises:
        InvalidInput: there is none, or it is wrong; one line for each fault.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"cannot read {path}: {error}") from None
        return parse(text, path.stem, str(path))
    if name_or_path not in names():
        raise InvalidInput(
            f"there is no scenario {name_or_path!r}; there are {', '.join(names())}, "
            "and your own: give a path that ends in .toml"
        )
    file = files("infoscreen.simulator.scenarios") / f"{name_or_path}.toml"
    return parse(file.read_text(encoding="utf-8"), name_or_path, f"{name_or_path}.toml")


def parse(text: str, name: str, where: str) -> Scenario:
    """Return the scenario that the TOML text describes; ``where`` names it in errors.

    Raises:
        InvalidInput: one line for each fault.
    """
    if len(text) > MOST_BYTES:
        raise InvalidInput(f"{where}: larger than {MOST_BYTES} characters")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{where}: not TOML: {error}") from None
    faults: list[str] = []
    top = _Table(document, "", faults)
    fleet = _fleet(top.table("fleet"))
    events = tuple(_event(table, fleet) for table in top.tables("event"))
    scenario = Scenario(
        name=name,
        description=top.take("description", _text, ""),
        lasts=top.take("lasts", _duration, 3600.0),
        clients=top.take("clients", _count, 1_000),
        outage=top.take("outage", _flag, False),
        fleet=fleet,
        events=events,
    )
    top.close()
    if faults:
        raise InvalidInput("\n".join(f"{where}: {fault}" for fault in faults))
    return scenario


def _fleet(table: "_Table") -> Fleet:
    usual = Fleet()
    fleet = Fleet(
        rhythms=table.take("heartbeat", _rhythms, usual.rhythms),
        jitter=table.take("jitter", _share, usual.jitter),
        lost=table.take("lost", _share, usual.lost),
        skew=table.take("skew", _duration, usual.skew),
        sites=table.take("sites", _count, usual.sites),
        persistent_sessions=table.take("persistent_sessions", _share, usual.persistent_sessions),
        keepalive=table.take("keepalive", _duration, usual.keepalive),
        reconnects_within=table.take("reconnects_within", _duration, usual.reconnects_within),
        app_start=table.take("app_start", _range, usual.app_start),
        boot=table.take("boot", _range, usual.boot),
    )
    table.close()
    return fleet


def _event(table: "_Table", fleet: Fleet) -> Event:
    named = "what" in table
    what = table.take("what", _kind, None)
    event = Event(
        what=what or Kind.CRASH,
        at=table.take("at", _duration, 0.0),
        clients=table.take("clients", _count, None),
        share=table.take("share", _share, None),
        sites=table.take("sites", _count, None),
        per_year=table.take("per_year", _positive, None),
        within=table.take("within", _duration, 0.0),
        times=table.take("times", _count, 1),
        every=table.take("every", _duration, 0.0),
        same=table.take("same", _flag, True),
        lasts=table.take("lasts", _range, None),
        cured_by=table.take("cured_by", _rung, None),
        again_after=table.take("again_after", _duration, 0.0),
        seconds=table.take("seconds", _number, 0.0),
    )
    table.close()
    if not named:
        table.fault("what", f"is missing; allowed is {', '.join(Kind)}")
    if what is None:
        return event
    for fault in _contradictions(event, fleet):
        table.fault("", fault)
    return event


def _contradictions(event: Event, fleet: Fleet) -> list[str]:
    """Return what cannot be meant, though each value for itself is fine."""
    found = []
    whom = [name for name in ("clients", "share", "sites", "per_year") if getattr(event, name) is not None]
    if event.what in FOR_EVERYBODY:
        if whom:
            found.append(f"{event.what} befalls everybody; {', '.join(whom)} makes no sense")
    elif event.what is Kind.SITE_OUTAGE:
        if whom != ["sites"] or not fleet.sites:
            found.append("site_outage needs `sites` in the event, and `sites` in [fleet]")
        elif (event.sites or 0) > fleet.sites:
            found.append(f"there are only {fleet.sites} sites in [fleet]")
    elif len(whom) != 1 or whom == ["sites"]:
        found.append("needs exactly one of clients, share and per_year")
    if event.what in PASSES and event.lasts is None:
        found.append(f"{event.what} passes by itself: say how long it `lasts`")
    if event.times > 1 and event.every <= 0:
        found.append("`times` needs `every`")
    return found


class _Table:
    """A TOML table from which known keys are taken; what is left over is a fault."""

    def __init__(self, content: Mapping[str, Any], place: str, faults: list[str]) -> None:
        self._content = dict(content)
        self._place = place
        self._faults = faults
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def take(self, key: str, read: Callable[[Any], Any], default: Any) -> Any:
        """Return the value of ``key`` as ``read`` reads it, or the default."""
        self._known.append(key)
        if key not in self._content:
            return default
        value = self._content.pop(key)
        try:
            return read(value)
        except (ValueError, TypeError, KeyError) as error:
            self.fault(key, f"is {value!r}; allowed is {error}")
            return default

    def table(self, key: str) -> "_Table":
        """Return the table below ``key``, an empty one if there is none."""
        self._known.append(key)
        value = self._content.pop(key, {})
        if not isinstance(value, dict):
            self.fault(key, f"is {value!r}; allowed is a table [{key}]")
            value = {}
        return _Table(value, f"[{key}] ", self._faults)

    def tables(self, key: str) -> list["_Table"]:
        """Return the tables of the array ``key``."""
        self._known.append(key)
        value = self._content.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.fault(key, f"is {value!r}; allowed are tables [[{key}]]")
            value = []
        return [_Table(one, f"[[{key}]] {number}: ", self._faults) for number, one in enumerate(value, 1)]

    def fault(self, key: str, text: str) -> None:
        """Note what is wrong."""
        self._faults.append(f"{self._place}{key} {text}".replace("  ", " "))

    def close(self) -> None:
        """Note every key that nobody knows."""
        for key in self._content:
            self.fault(key, f"is not known; there are {', '.join(self._known)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:
        raise TypeError("a number")
    return float(value)


def _positive(value: Any) -> float:
    if _number(value) <= 0:
        raise ValueError("a number greater than 0")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1_000_000:
        raise TypeError("a whole number, 1 or more")
    return value


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise TypeError("a share, 0 to 1")
    return float(value)


def _duration(value: Any) -> float:
    words = "a duration such as 45, '45 s', '10 min', '2 h' or '1 d'"
    if isinstance(value, str):
        number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyz").strip()
        unit = value.strip()[len(number) :].strip()
        try:
            seconds = float(number) * UNITS[unit or "s"]
        except (ValueError, KeyError):
            raise ValueError(words) from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise TypeError(words)
    if not 0 <= seconds <= 366 * 86400:
        raise ValueError(words + ", at most a year")
    return seconds


def _range(value: Any) -> tuple[float, float]:
    words = "a duration, or a range of two such as ['2 min', '5 min']"
    try:
        if isinstance(value, list):
            low, high = (_duration(one) for one in value)
        else:
            low = high = _duration(value)
    except (ValueError, TypeError):
        raise ValueError(words) from None
    if low > high:
        raise ValueError(words + ", the shorter first")
    return low, high


def _rhythms(value: Any) -> tuple[Rhythm, ...]:
    words = "a duration of a second or more, or a list of {every = DURATION, share = SHARE}; shares make 1"
    parts = value if isinstance(value, list) else [{"every": value, "share": 1}]
    try:
        found = [(_duration(one["every"]), _share(one["share"]), len(one)) for one in parts]
    except (ValueError, TypeError, KeyError):
        raise ValueError(words) from None
    whole = abs(sum(share for _, share, _ in found) - 1) < 1e-6
    if not whole or any(seconds < 1 or keys != 2 for seconds, _, keys in found):
        raise ValueError(words)
    return tuple(Rhythm(seconds=seconds, share=share) for seconds, share, _ in found)


def _kind(value: Any) -> Kind:
    try:
        return Kind(value)
    except ValueError:
        raise ValueError(", ".join(Kind)) from None


def _rung(value: Any) -> Rung:
    if value not in RUNGS:
        raise ValueError(", ".join(RUNGS))
    return RUNGS[value]
