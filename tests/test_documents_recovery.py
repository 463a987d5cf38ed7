"""docs/recovery.md says what the code says: every reason, and the ladder's diagram."""

from pathlib import Path

from infoscreen.domain.recovery import Reason
from infoscreen.domain.recovery.ladder import TRANSITIONS
from infoscreen.domain.recovery.reasons import ENDINGS
from infoscreen.words.language import Plural
from infoscreen.words.recovery import REASONS

DOCUMENT = (Path(__file__).parents[1] / "docs" / "recovery.md").read_text(encoding="utf-8")


def test_every_reason_is_documented_with_its_sentence() -> None:
    for reason in Reason:
        text = REASONS[reason]
        said = text.many if isinstance(text, Plural) else text
        assert f"| `{reason}` | {ENDINGS[reason]} | {said} |" in DOCUMENT


def test_the_diagram_of_the_ladder_is_the_table() -> None:
    steps = [
        f"    {before} --> {after}: {step}"
        for before, row in TRANSITIONS.items()
        for step, after in row.items()
    ]
    assert "\n".join(["stateDiagram-v2", "    [*] --> rest", *steps]) in DOCUMENT
