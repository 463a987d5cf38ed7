"""How many at once: troubles alike are recovered in waves, the first of which is a few canaries.

A wave is judged by the effect of its attempts. Where half or more of it helped the next one is three times as
large, up to a share of the fleet, then as a sliding window; where nothing helps it stops, and one canary an
hour is tried.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from infoscreen.domain.recovery.cases import Case
from infoscreen.domain.recovery.coincidence import LEAST, RATE_UNLEARNED, clusters
from infoscreen.domain.recovery.incidents import Incident, IncidentKind
from infoscreen.domain.recovery.ladder import CHARGED, Attempt, Outcome, Phase, Trouble
from infoscreen.domain.recovery.policy import Rung

TELLING = CHARGED | {Outcome.REFUSED}
"""Outcomes that tell something of the group: a refusal is charged to no client, and yet helps nobody."""

CANARIES = 3
GROWTH = 3
TRIED_FIRST = 10
HELPED_LEAST = 2
SETTLED_AFTER = timedelta(seconds=60)
"""A success counts for the large waves once it has lasted so long: an application may crash again at once."""

SETTLED_BEATS = 1.5
"""And so many intervals of its client: one that beats rarely tells of it late."""

CANARY_EVERY = timedelta(hours=1)
FIRST_CANARY_AFTER = timedelta(minutes=15)


@dataclass(slots=True)
class Pace:
    """How a group is to go on: ``allowed`` more may begin now, on ``floor`` or above.

    ``stopped``: nothing that was tried helps. ``under_way`` are those whose effect is still to show.
    """

    allowed: int
    under_way: int = 0
    stopped: bool = False
    floor: Rung = Rung.RESTART_APP


Intervals = Mapping[str, float]
"""How often clients beat, in seconds, by UUID."""


def pace_of(tries: Sequence[Attempt], most: int, now: datetime, intervals: Intervals | None = None) -> Pace:
    """Return how a group goes on after these attempts, oldest first; ``most`` may be under way at a time."""
    lasts = intervals or {}
    counted = [one for one in tries if one.outcome is None or one.outcome in TELLING]
    if not counted:
        return Pace(CANARIES)
    judged = [one for one in counted if one.outcome is not None]
    under_way = len(counted) - len(judged)
    settled = [one for one in judged if _is_settled(one, now, lasts)]
    helped = sum(one.outcome is Outcome.HELPED for one in settled)
    waves: defaultdict[datetime, list[Attempt]] = defaultdict(list)
    for one in counted:
        waves[one.decided_at].append(one)
    last = waves[max(waves)]
    floor = _floor(settled)
    recent = sum(one.outcome is Outcome.HELPED for one in settled[-TRIED_FIRST:])
    # Clients, not tries: a few that have nothing in common climb to their last rung beside each other.
    tried = len({one.client_uuid for one in counted})
    if len({one.client_uuid for one in settled}) >= TRIED_FIRST and recent < HELPED_LEAST:
        if _has_helped(last) and all(_is_settled(one, now, lasts) for one in last):
            return Pace(max(0, GROWTH * len(last) - under_way), under_way, False, floor)
        wait = FIRST_CANARY_AFTER if len(counted) <= TRIED_FIRST else CANARY_EVERY
        due = under_way == 0 and now >= max(waves) + wait
        return Pace(int(due), under_way, True, floor)
    if helped < HELPED_LEAST:
        # Until it is known that something helps, no more than the first few.
        size = CANARIES - under_way
        if _is_judged(last):
            size = GROWTH * len(last) if _has_helped(last) else CANARIES
        return Pace(max(0, min(size, TRIED_FIRST - tried)), under_way, False, floor)
    largest = max((len(wave) for wave in waves.values() if _has_helped(wave)), default=0)
    if largest * GROWTH >= most:
        return Pace(max(0, most - under_way), under_way, False, floor)
    # Those that come one by one do not wait for each other.
    size = CANARIES
    if _is_judged(last) and _has_helped(last):
        size = min(GROWTH * largest, most)
    return Pace(max(0, size - under_way), under_way, False, floor)


def _is_settled(attempt: Attempt, now: datetime, intervals: Intervals) -> bool:
    """Tell whether what came of an attempt has lasted."""
    if attempt.outcome is not Outcome.HELPED:
        return True
    told = timedelta(seconds=SETTLED_BEATS * intervals.get(attempt.client_uuid, 0.0))
    return now >= (attempt.ended_at or attempt.decided_at) + max(SETTLED_AFTER, told)


def _has_helped(wave: Sequence[Attempt]) -> bool:
    return 2 * sum(one.outcome is Outcome.HELPED for one in wave) >= len(wave)


def _is_judged(wave: Sequence[Attempt]) -> bool:
    """Tell whether the rest of the wave can change nothing any more."""
    in_vain = sum(one.outcome in {Outcome.NO_EFFECT, Outcome.REFUSED} for one in wave)
    return _has_helped(wave) or 2 * in_vain > len(wave)


def _floor(judged: Sequence[Attempt]) -> Rung:
    """Return the mildest rung that is not known to be in vain."""
    of_rung: Counter[Rung] = Counter(one.rung for one in judged if one.outcome in CHARGED)
    helped: Counter[Rung] = Counter(one.rung for one in judged if one.outcome is Outcome.HELPED)
    floor = Rung.RESTART_APP
    while floor < Rung.POWER_CYCLE and of_rung[floor] >= TRIED_FIRST - 1 and helped[floor] < HELPED_LEAST:
        floor = Rung(floor + 1)
    return floor


def paces_of(tries: Sequence[Attempt], most: int, now: datetime, intervals: Intervals) -> Mapping[Rung, Pace]:
    """Return how a group goes on with each rung.

    As long as little has helped, all attempts count together; after that each rung has a pace of its own.
    """
    helped = sum(one.outcome is Outcome.HELPED and _is_settled(one, now, intervals) for one in tries)
    rungs = (Rung.RESTART_APP, Rung.REBOOT_HOST, Rung.POWER_CYCLE)
    if helped < HELPED_LEAST:
        pace = pace_of(tries, most, now, intervals)
        return dict.fromkeys(rungs, pace)
    return {rung: pace_of([one for one in tries if one.rung is rung], most, now, intervals) for rung in rungs}


def singly(tries: Sequence[Attempt], most: int) -> Mapping[Rung, Pace]:
    """Return how those go on that a person wants treated singly: only not too many at a time."""
    under_way = sum(one.outcome is None for one in tries)
    pace = Pace(max(0, most - under_way), under_way)
    return dict.fromkeys((Rung.RESTART_APP, Rung.REBOOT_HOST, Rung.POWER_CYCLE), pace)


def share_of(fleet: int, max_share: float) -> int:
    """Return how many of a fleet one group may have under way."""
    return max(CANARIES, int(fleet * max_share))


def alike(
    cases: Sequence[Case],
    due: Collection[str],
    groups: Mapping[str, Incident],
    fleet: int,
    now: datetime,
) -> tuple[dict[str, Incident], dict[str, str]]:
    """Find those that have the same trouble from the same cause, if that makes a difference to them.

    A few that can all be tried at once are no group, unless what was tried on one of them was in vain.

    Args:
        cases: all that speak of a trouble, and those that something helped.
        due: the clients of them that could be acted on now.
        groups: the open incidents of this kind.
        fleet: how many clients there are.
        now: the time.

    Returns:
        The groups that have begun or grown, and who has come to which: those that are due, and those on which
        something was tried already.
    """
    of_trouble: defaultdict[Trouble, list[Case]] = defaultdict(list)
    back = [case for case in cases if _is_proving(case) and (_group(case, groups) or tried_alone(case))]
    for case in cases:
        if case.trouble is not None:
            of_trouble[case.trouble].append(case)
    found: dict[str, Incident] = {}
    joined: dict[str, str] = {}
    for trouble, speaking in of_trouble.items():
        some = speaking + [case for case in back if _may_have_had(case, trouble, groups)]
        some.sort(key=first_of)
        times = [first_of(case) for case in some]
        for positions in clusters(times, fleet, RATE_UNLEARNED):
            cluster = [some[position] for position in positions]
            fresh = [
                one
                for one in cluster
                if not _group(one, groups)
                and one.patient.uuid not in joined
                and not was_dismissed(one, groups)
                and (one.patient.uuid in due or _answered(one))
            ]
            if not fresh:
                continue
            known = Counter(key for one in cluster if (key := _group(one, groups)))
            if known:
                key = known.most_common(1)[0][0]
                incident = found.get(key, groups[key])
            elif len(fresh) > CANARIES or (len(fresh) >= LEAST and any(_in_vain(one) for one in fresh)):
                incident = _begun(trouble, cluster, now)
            else:
                continue
            found[incident.key] = replace(incident, members=incident.members + len(fresh))
            joined.update((one.patient.uuid, incident.key) for one in fresh)
    return found, joined


def _group(case: Case, groups: Mapping[str, Incident]) -> str | None:
    key = None if case.ladder is None else case.ladder.incident
    return key if key is not None and key in groups else None


def was_dismissed(case: Case, groups: Mapping[str, Incident]) -> bool:
    """Tell whether a person has said that its trouble is its own: it is treated singly until it is back."""
    key = None if case.ladder is None else case.ladder.incident
    return key is not None and key.startswith(f"{IncidentKind.ALIKE}/") and key not in groups


def _may_have_had(case: Case, trouble: Trouble, groups: Mapping[str, Incident]) -> bool:
    """Tell whether a client that is back may have had a trouble; that of one in no group is not noted."""
    key = _group(case, groups)
    return key is None or groups[key].trouble == trouble


def tried_alone(case: Case) -> list[Attempt]:
    """Return what was done for it in this trouble before it was part of a group."""
    began = None if case.ladder is None else case.ladder.began_at
    return [
        one
        for one in case.patient.attempts
        if one.incident is None and (began is None or one.decided_at >= began)
    ]


def tries_of_members(cases: Iterable[Case]) -> Mapping[str, Sequence[Attempt]]:
    """Return by incident what was tried on its members before they were part of it."""
    alone: defaultdict[str, list[Attempt]] = defaultdict(list)
    for case in cases:
        if case.patient.attempts and case.ladder is not None and case.ladder.incident is not None:
            alone[case.ladder.incident] += tried_alone(case)
    return alone


def _is_proving(case: Case) -> bool:
    return case.trouble is None and case.ladder is not None and case.ladder.phase is Phase.PROVING


def _answered(case: Case) -> bool:
    """Tell whether something was tried on it that tells of the trouble: the device has answered."""
    return any(one.charged or one.outcome is Outcome.REFUSED for one in tried_alone(case))


def _in_vain(case: Case) -> bool:
    return any(one.outcome in {Outcome.NO_EFFECT, Outcome.REFUSED} for one in tried_alone(case))


def first_of(case: Case) -> float:
    """Return since when it has its trouble, in seconds."""
    return (case.ladder.unwell_since if case.ladder is not None else case.since).timestamp()


def _begun(trouble: Trouble, cluster: Sequence[Case], now: datetime) -> Incident:
    first = cluster[0].patient.uuid
    return Incident(
        key=f"{IncidentKind.ALIKE}/{trouble}/{now.timestamp():.0f}/{first}",
        kind=IncidentKind.ALIKE,
        began_at=min(case.since for case in cluster),
        trouble=trouble.value,
        facts=in_common(cluster),
    )


def refused_key(code: str) -> str:
    """Return how the keys of those begin that refuse with a code."""
    return f"{IncidentKind.ALIKE}/refused/{code}/"[:100]


def refusing(code: str, cases: Sequence[Case], now: datetime) -> Incident:
    """Return the incident of those that refuse with the same code."""
    trouble = cases[0].trouble
    return Incident(
        key=f"{refused_key(code)}{now.timestamp():.0f}",
        kind=IncidentKind.ALIKE,
        began_at=min(case.since for case in cases),
        trouble=None if trouble is None else trouble.value,
        facts=in_common(cases),
    )


def in_common(cluster: Sequence[Case]) -> dict[str, str | int]:
    """Return what nine of ten of them have in common."""
    facts: dict[str, str | int] = {}
    for name in ("software_version", "site", "network"):
        counted = Counter(getattr(case.patient, name) for case in cluster)
        value, count = counted.most_common(1)[0]
        if value is not None and 10 * count >= 9 * len(cluster):
            facts[name] = str(value)
    return facts


def first_ones(cases: Sequence[Case], count: int, *, tried_first: bool) -> list[Case]:
    """Return those that begin, of different sites as far as can be.

    ``tried_first``: those on which something was tried already tell more.
    """
    if count <= 0:
        return []
    order = sorted(
        cases,
        key=lambda case: (
            -len(case.patient.attempts) if tried_first else len(case.patient.attempts),
            case.since,
            case.patient.uuid,
        ),
    )
    if count >= len(order) or count > CANARIES:
        return order[:count]
    chosen: list[Case] = []
    sites: set[str | None] = set()
    for case in order:
        if len(chosen) < count and case.patient.site not in sites:
            chosen.append(case)
            sites.add(case.patient.site)
    for case in order:
        if len(chosen) < count and case not in chosen:
            chosen.append(case)
    return chosen
