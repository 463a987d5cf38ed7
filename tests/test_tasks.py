"""Work beside other work: errors of both sides come out, and nothing is left running."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.tasks import beside


class Ours(Exception):
    """An error of either side."""


EXPECTED = BrokerUnavailable("the connection was lost")


async def fails() -> None:
    raise Ours("beside")


async def fails_beside(work: Coroutine[Any, Any, None], error: Exception) -> None:
    async with beside(work):
        await asyncio.sleep(0)
        raise error


async def lasts(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def test_an_error_beside_ends_the_block_and_comes_out_as_it_is() -> None:
    with pytest.raises(Ours, match="beside"):
        async with beside(fails()):
            await asyncio.Event().wait()


async def test_an_error_of_the_block_comes_out_as_it_is_and_ends_the_work_beside() -> None:
    ended: list[str] = []
    with pytest.raises(Ours, match="block"):
        await fails_beside(lasts(ended), Ours("block"))
    assert ended == ["ended"]


@pytest.mark.parametrize(("block", "work"), [(Ours("mistake"), EXPECTED), (EXPECTED, Ours("mistake"))])
async def test_of_two_errors_at_once_the_unexpected_one_counts_and_the_other_is_noted(
    block: Exception, work: Exception
) -> None:
    async def falls_over() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise work

    with pytest.raises(Ours, match="mistake") as caught:
        await fails_beside(falls_over(), block)
    assert "lost" in caught.value.__notes__[0]


async def test_work_that_ends_early_ends_nothing_else() -> None:
    async with beside(asyncio.sleep(0)):
        await asyncio.sleep(0)
        done = True
    assert done


async def test_a_cancellation_passes_through() -> None:
    ended: list[str] = []

    async def holds() -> None:
        async with beside(lasts(ended)):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(holds())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"]
