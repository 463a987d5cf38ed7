"""Work beside other work. Every task is awaited, so that an error in it is never lost.

``tests/test_architecture.py`` checks that no task is started whose outcome nobody looks at.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from infoscreen.domain.errors import InfoscreenError


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Do ``work`` while the block lasts, then cancel it.

    An error in ``work`` cancels the block and leaves from it as it is, and so does an error in the block.
    ``work`` may end early.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            task.cancel()
    except BaseExceptionGroup as errors:
        raise _only(errors) from None


def _only(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one error as it came, an unexpected one if there is one; further ones are noted in it."""
    first, *others = sorted(errors.exceptions, key=lambda error: isinstance(error, InfoscreenError))
    for other in others:
        first.add_note(f"At the same time: {other!r}")
    return first
