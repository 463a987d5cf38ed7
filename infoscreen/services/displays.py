"""Screens that we switched off ourselves: what is seen of them is no sign of trouble."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from infoscreen.domain.commands import ClientCommand
from infoscreen.domain.showing import BRIGHTENING, DARKENING, after_command, not_showing_until
from infoscreen.services.reports import Folding, settle
from infoscreen.storage import clients
from infoscreen.storage.engine import Connection


async def note_switched(
    connection: Connection, moved: Iterable[ClientCommand], now: datetime, listening_since: datetime | None
) -> list[Folding]:
    """Note at the clients which of their screens were switched off or on by commands; return what changed."""
    told: defaultdict[str, list[ClientCommand]] = defaultdict(list)
    for command in moved:
        if command.action in DARKENING or command.action in BRIGHTENING:
            told[command.client_uuid].append(command)
    if not told:
        return []
    changed = []
    for uuid, client in (await clients.for_change(connection, told)).items():
        signs = client.signs
        for command in told[uuid]:
            signs = after_command(signs, command, client.boot_heard_at)
        if signs != client.signs:
            after = replace(client, signs=signs, not_showing_until=not_showing_until(signs))
            changed.append(Folding(before=client, client=after))
    for folding in changed:
        settle(folding, now, listening_since)
    await clients.save_all_changes(connection, [(one.before, one.client, None) for one in changed])
    return changed
