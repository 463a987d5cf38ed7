"""One device that says too much: a bounded part is stored, the rest is counted, and others lose nothing."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from infoscreen.domain.events import TimelineKind
from infoscreen.domain.history import Happening
from infoscreen.domain.timeline import TimelineEntry
from infoscreen.services.log_lines import CUT_FROM, MOST_CONTEXT_BYTES, shortened
from infoscreen.services.quota import QuotaPolicy
from infoscreen.storage import rejected, timeline
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu

U, V = uuid_of(1), uuid_of(2)
POLICY = QuotaPolicy()


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with open_spine(sqlite_url(tmp_path)) as parts:
        yield parts


async def lines(spine: Spine, uuid: str, kind: TimelineKind = TimelineKind.LOG) -> list[TimelineEntry]:
    async with spine.store.read() as connection:
        found: list[TimelineEntry] = []
        cursor = None
        while True:
            page = await timeline.page(connection, uuid, 500, cursor, {kind})
            found += page.items
            if page.next_cursor is None:
                return found
            cursor = page.next_cursor


def log_line(spine: Spine, uuid: str, text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return f"{uuid}/logs/info", {"timestamp": zulu(spine.clock.now()), "message": text, **more}


async def flood(spine: Spine, uuid: str, count: int, **more: Any) -> None:
    await spine.hear(*(log_line(spine, uuid, f"{spine.clock.now()} {n}", **more) for n in range(count)))


async def test_a_flood_of_log_lines_is_cut_off_and_its_rest_is_one_line(spine: Spine) -> None:
    most = POLICY.logs.most
    await spine.beat(U)
    await spine.hear(log_line(spine, V, "before"))
    for _ in range(5):
        await flood(spine, U, most)
    await spine.hear(log_line(spine, V, "after"))
    assert len(await lines(spine, U)) == most
    assert [line.text for line in await lines(spine, V)] == ["after", "before"]
    assert spine.measures.counts["message", "logs", "dropped"] == 4 * most
    spine.clock.advance(61)
    await spine.beat(V)  # the next message of any client ends the minute
    dropped = [line for line in await lines(spine, U) if (line.data or {}).get("dropped")]
    assert [(line.data or {})["dropped"] for line in dropped] == [4 * most]
    spine.clock.advance(61)
    await flood(spine, U, 1)
    await spine.beat(U)
    assert len(await lines(spine, U)) == most + 2


async def test_log_lines_are_bounded_in_bytes_too(spine: Spine) -> None:
    await spine.beat(U)
    context = {"dump": "x" * 60_000}
    for _ in range(3):
        await flood(spine, U, 100, context=context)
    stored = await lines(spine, U)
    size = sum(len(line.text or "") + len(json.dumps(line.data)) for line in stored)
    assert 10 < len(stored) < 100
    assert size <= POLICY.logs.most_bytes
    assert all(len(json.dumps((line.data or {})["context"])) <= MOST_CONTEXT_BYTES + 50 for line in stored)


@given(
    some.dictionaries(
        some.text(max_size=3_000),
        some.one_of(
            some.text(max_size=9_000), some.integers(), some.lists(some.text(max_size=500), max_size=20)
        ),
        max_size=30,
    )
)
def test_a_context_is_kept_whole_or_cut_to_four_kibibytes_and_marked(context: dict[str, Any]) -> None:
    def size(value: object) -> int:
        return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))

    short = shortened(context)
    assert size(short) <= MOST_CONTEXT_BYTES
    if size(context) <= MOST_CONTEXT_BYTES:
        assert short == context
    else:
        assert short[CUT_FROM] == size(context)


def test_what_fits_of_a_context_is_still_there() -> None:
    short = shortened({"first": 1, "dump": "x" * 60_000, "last": 2})
    assert short["first"] == 1
    assert short["dump"].startswith("xxx")
    assert len(short["dump"]) > 4_000
    assert "last" not in short


@pytest.mark.parametrize("kind", ["presence", "status"])
async def test_flapping_leaves_a_bounded_number_of_lines_but_the_state_is_right(
    spine: Spine, kind: str
) -> None:
    await spine.beat(U)
    for number in range(2 * POLICY.happenings.most):
        if kind == "presence":
            await spine.hear((f"{U}/presence", "offline" if number % 2 else "online"))
        else:
            await spine.beat(U, process_status="running" if number % 2 else "crashed")
    assert len(await lines(spine, U, TimelineKind(kind))) <= POLICY.happenings.most
    if kind == "presence":
        assert (await spine.client(U)).presence == "offline"
    else:
        assert (await spine.client(U)).process_status == "running"
    spine.clock.advance(61)
    await spine.beat(V)
    told = [line.fact.code for line in await lines(spine, U) if line.fact is not None]
    assert told == [Happening.HAPPENINGS_DROPPED]


async def test_a_transaction_that_failed_uses_no_quota(spine: Spine) -> None:
    quotas = spine.ingest._quotas
    await spine.beat(U)
    ledger: list[Any] = []
    for _ in range(5):
        for _ in range(POLICY.rejections.most):
            assert quotas.keeps_rejection(U, ledger)
        assert not quotas.keeps_rejection(U, ledger)
        quotas.give_back(ledger)
    spine.clock.advance(61)
    assert quotas.overruns() == []


async def test_acks_nobody_asked_for_and_nonsense_are_bounded(spine: Spine) -> None:
    await spine.beat(U)
    ack = {"command_id": uuid_of(9), "status": "completed"}
    for _ in range(3):
        await spine.hear(*[(f"{U}/commands/ack", ack)] * POLICY.acks.most)
    assert spine.measures.counts["message", "ack", "dropped"] == 2 * POLICY.acks.most
    async with spine.store.read() as connection:
        kept = (await rejected.page(connection, 500)).items
    assert len(kept) <= POLICY.rejections.most


async def test_the_quota_of_one_is_not_that_of_another(spine: Spine) -> None:
    await spine.beat(U)
    await spine.beat(V)
    await flood(spine, U, POLICY.logs.most + 1)
    await flood(spine, V, POLICY.logs.most)
    assert len(await lines(spine, V)) == POLICY.logs.most
