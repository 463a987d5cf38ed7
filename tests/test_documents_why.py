"""The worked examples of docs/operating-recovery.md are what the judge answers."""

import re

import pytest

from benchmarks.why import DOCUMENT, EXAMPLES, answers, blocks


def essence(block: str) -> list[list[str]]:
    """Leave out until when a decision holds: a second more or less says nothing."""
    return [re.sub(r"until \d+", "until", line).split() for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_worked_examples_are_what_the_judge_answers() -> None:
    shown = [essence(block) for block in blocks(DOCUMENT.read_text(encoding="utf-8"))]
    played = {name: essence(text) for name, text in (await answers()).items()}
    assert dict(zip(EXAMPLES, shown, strict=True)) == played
