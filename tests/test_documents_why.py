"""The worked examples of docs/operating-recovery.md are what the judge answers."""

import pytest

from benchmarks.why import DOCUMENT, EXAMPLES, answers, blocks


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_worked_examples_are_what_the_judge_answers() -> None:
    shown = blocks(DOCUMENT.read_text(encoding="utf-8"))
    assert dict(zip(EXAMPLES, shown, strict=True)) == await answers()
