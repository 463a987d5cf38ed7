"""Waiting for something to become true, without a guess at how long that takes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

DEADLINE_SECONDS = 40.0
"""How long anything may take before the test fails; generous, because machines are shared."""

Value = TypeVar("Value")


async def until(
    condition: Callable[[], Value], *, every: float = 0.005, within: float = DEADLINE_SECONDS
) -> Value:
    """Ask ``condition`` again and again, and return its first true answer."""
    async with asyncio.timeout(within):
        while True:
            if answer := condition():
                return answer
            await asyncio.sleep(every)


async def until_told(question: Callable[[], Awaitable[Value]], *, every: float = 0.02) -> Value:
    """Do the same where the answer has to be awaited."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if answer := await question():
                return answer
            await asyncio.sleep(every)
