"""One command: its life so far, and every line of its history."""

from functools import partial

from aiohttp import web

from infoscreen.domain.error_codes import ErrorCode
from infoscreen.domain.errors import NotFound
from infoscreen.storage import clients, command_history, commands
from infoscreen.web.keys import parts_of
from infoscreen.web.panel.client import found, names_of
from infoscreen.web.panel.language import language_of
from infoscreen.web.panel.rendering import page
from infoscreen.web.registry import path_uuid
from infoscreen.words.telling import asked_by


async def get_command(request: web.Request) -> web.StreamResponse:
    """Show a command."""
    command_id = path_uuid(request, "command_id")
    async with parts_of(request).store.read() as connection:
        command = await commands.get(connection, command_id)
        if command is None:
            raise NotFound(ErrorCode.NO_COMMAND, id=command_id)
        client = found(await clients.get(connection, command.client_uuid))
        events = await command_history.events(connection, command_id)
        names = await names_of(connection, [command.requested_by])
    return await page(
        request,
        "command.html",
        here="clients",
        command=command,
        client=client,
        events=events,
        asked_by=partial(asked_by, names=names, language=language_of(request)),
    )
