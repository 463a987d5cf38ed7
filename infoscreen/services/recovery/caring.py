"""What people tell the recovery about a client: that they take care of it, give it back, or want another try.

Functions within a transaction of the loop, which makes them wait for a poll under way.
"""

from datetime import datetime, timedelta

from infoscreen.domain.accounts import Actor
from infoscreen.domain.clients import Condition
from infoscreen.domain.codes import Fact
from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import Conflict, InvalidInput, NotFound
from infoscreen.domain.events import TimelineKind
from infoscreen.domain.failures import done_with
from infoscreen.domain.faults import FieldFault
from infoscreen.domain.history import Happening
from infoscreen.domain.recovery import Ladder, Meanwhile, Phase, RecoveryPolicy, acknowledged
from infoscreen.services.recovery.pauses import LONGEST_PAUSE
from infoscreen.storage import audit, clients, commands, failed_services, timeline
from infoscreen.storage.engine import Connection
from infoscreen.storage.recovery import acknowledgements, decisions, ladders
from infoscreen.storage.recovery.acknowledgements import StoredAcknowledgement
from infoscreen.storage.timeline import NewEntry

WELL = frozenset({Condition.ONLINE, Condition.NEVER_SEEN})

CONTRADICTIONS_FOR = timedelta(hours=24)
"""So long a command without its effect is a problem."""


async def acknowledge(
    connection: Connection, taken: StoredAcknowledgement, actor: Actor, *, given_up: bool
) -> None:
    """Note that somebody takes care of a client.

    Raises:
        NotFound: there is no such client.
        Conflict: nothing is wrong with it; with ``given_up`` also, that the recovery has not given up.
        InvalidInput: the end is past or too far away.
    """
    uuid, now = taken.client_uuid, taken.at
    await clients.keep(connection, [uuid])
    client = await clients.get(connection, uuid)
    if client is None:
        raise NotFound(ErrorCode.NO_CLIENT, uuid=uuid)
    if taken.until is not None and not now < taken.until <= now + LONGEST_PAUSE:
        raise InvalidInput.of("until", FieldFault.NOT_WITHIN, at=now, days=LONGEST_PAUSE.days)
    ladder = await ladders.get(connection, uuid)
    needs_human = ladder is not None and ladder.phase is Phase.NEEDS_HUMAN
    if given_up and not needs_human:
        raise Conflict(ErrorCode.NOT_GIVEN_UP)
    recovered = client.status in WELL and (ladder is None or ladder.phase is Phase.WELL)
    if recovered and not await commands.has_contradicted(connection, uuid, now - CONTRADICTIONS_FOR):
        raise Conflict(ErrorCode.NOTHING_WRONG)
    if ladder is not None and needs_human and taken.recovery is Meanwhile.GO_ON:
        await _begin_again(connection, uuid, ladder, now)
    await acknowledgements.put(connection, taken)
    detail = {
        "comment": taken.comment,
        "recovery": taken.recovery.value,
        "until": None if taken.until is None else taken.until.isoformat(),
    }
    fact = (
        Fact(Happening.TAKEN_OVER_WITH_COMMENT, {"by": actor.name, "comment": taken.comment})
        if taken.comment
        else Fact(Happening.TAKEN_OVER, {"by": actor.name})
    )
    await _note(connection, uuid, actor, now, "recovery.acknowledge", fact, detail)


async def over(connection: Connection, policy: RecoveryPolicy, now: datetime) -> list[str]:
    """Return the clients whose acknowledgement is over: its time has passed, or nothing is wrong any more."""
    return await acknowledgements.over(
        connection, now, policy.recovered_after, policy.recovered_heartbeats, CONTRADICTIONS_FOR
    )


async def try_again(connection: Connection, client_uuid: str, actor: Actor, now: datetime) -> None:
    """Begin again on the first rung with a client that the recovery has given up on.

    Raises:
        NotFound: there is no such client.
        Conflict: the recovery has not given up.
    """
    if not await clients.keep(connection, [client_uuid]):
        raise NotFound(ErrorCode.NO_CLIENT, uuid=client_uuid)
    ladder = await ladders.get(connection, client_uuid)
    if ladder is None or ladder.phase is not Phase.NEEDS_HUMAN:
        raise Conflict(ErrorCode.NOT_GIVEN_UP)
    await _begin_again(connection, client_uuid, ladder, now)
    fact = Fact(Happening.TRIED_AGAIN, {"by": actor.name})
    await _note(connection, client_uuid, actor, now, "recovery.try_again", fact)


async def give_back(connection: Connection, client_uuid: str, actor: Actor, now: datetime) -> None:
    """Note that nobody takes care of a client any more; that nobody did is fine. Raises ``NotFound``."""
    if not await clients.keep(connection, [client_uuid]):
        raise NotFound(ErrorCode.NO_CLIENT, uuid=client_uuid)
    known = (await failed_services.of_clients(connection, [client_uuid]))[client_uuid]
    await failed_services.save(connection, {client_uuid: (known, done_with(known))})
    waited = any(one.acknowledged_by for one in known.values())
    if await acknowledgements.end(connection, [client_uuid]) or waited:
        fact = Fact(Happening.GIVEN_BACK, {"by": actor.name})
        await _note(connection, client_uuid, actor, now, "recovery.give_back", fact)


async def take_back(
    connection: Connection, client_uuid: str, actor: Actor, now: datetime, since: datetime
) -> bool:
    """End the acknowledgement of a client if it is the actor's and not older; tell whether it was."""
    if not await clients.keep(connection, [client_uuid]):
        return False
    taken = await acknowledgements.of_client(connection, client_uuid, now)
    if taken is None or taken.by != actor.name or taken.at < since:
        return False
    await acknowledgements.end(connection, [client_uuid])
    fact = Fact(Happening.GIVEN_BACK, {"by": actor.name})
    await _note(connection, client_uuid, actor, now, "recovery.take_back", fact)
    return True


async def _begin_again(connection: Connection, client_uuid: str, ladder: Ladder, now: datetime) -> None:
    await ladders.save(connection, {client_uuid: acknowledged(ladder, now)})
    standing = await decisions.standing(connection, [client_uuid])
    await decisions.end(connection, list(standing.values()), await decisions.last_poll(connection))


async def _note(
    connection: Connection,
    client_uuid: str,
    actor: Actor,
    now: datetime,
    act: str,
    fact: Fact[Happening],
    detail: dict[str, str | None] | None = None,
) -> None:
    await audit.record(connection, now, actor, act, f"client/{client_uuid}", detail)
    data = {"act": act, **(detail or {})}
    entry = NewEntry(client_uuid=client_uuid, at=now, kind=TimelineKind.OPERATOR, fact=fact, data=data)
    await timeline.add(connection, [entry])
