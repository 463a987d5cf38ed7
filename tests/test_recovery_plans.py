"""How both databases answer what is asked of the recovery: with many unwell, without walks and sorts."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from infoscreen.domain.clients import PROBLEMS, Condition
from infoscreen.domain.recovery import IncidentKind, Meanwhile, Reason, Verb
from infoscreen.services.monitoring import Monitoring
from infoscreen.storage import acknowledged, client_lists
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.recovery import decisions
from infoscreen.storage.recovery.decisions import DecisionQuery
from infoscreen.storage.recovery_tables import recovery_acknowledgements
from infoscreen.storage.tables import clients, incidents, recovery_decisions
from tests.spine import MORNING, Spine, open_spine, sqlite_url, uuid_of
from tests.statements import statements_of, steps_of

UNWELL, ENDED = 2_000, 10_000
AT_ONCE = 1_000


def page(**query: Any) -> Callable[[Spine], Awaitable[None]]:
    async def ask(spine: Spine) -> None:
        async with spine.store.read() as connection:
            await decisions.page(connection, DecisionQuery(**query), 1)

    return ask


async def overview(spine: Spine) -> None:
    seen = await Monitoring(spine.store, spine.clock, spine.link).overview()
    assert seen.folded == UNWELL // 2


QUESTIONS = {
    "the newest decisions": page(),
    "decisions of a reason": page(reason=Reason.SITE_OUTAGE),
    "decisions of an incident": page(incident_id=1),
    "decisions of a client": page(client_uuid=uuid_of(7)),
    "the history": page(past=True),
    "the overview": overview,
}


async def fill(spine: Spine) -> None:
    """Let an incident hold half of the unwell. Decisions that stand are older than those that ended."""
    known = {"created_at": MORNING, "status": Condition.UNREACHABLE, "status_since": MORNING}
    rows = [{"uuid": uuid_of(n), "sort_key": str(n), "site": f"s{n % 50}", **known} for n in range(UNWELL)]
    decided: dict[str, Any] = {"verb": Verb.HOLD, "arguments": {}, "would": False, "first_poll": 1}
    decided |= {"reason": Reason.SITE_OUTAGE, "first_at": MORNING}
    told = [
        {
            "client_uuid": uuid_of(n % UNWELL),
            "incident_id": 1 if n % 2 else None,
            "last_at": MORNING if n >= UNWELL else None,
            **decided,
        }
        for n in range(UNWELL + ENDED)
    ]
    outage = {"key": "k", "kind": IncidentKind.SITE_OUTAGE, "members": UNWELL, "began_at": MORNING}
    async with spine.store.write() as connection:
        await connection.execute(insert(incidents).values(outage))
        for table, some in ((clients, rows), (recovery_decisions, told)):
            for start in range(0, len(some), AT_ONCE):
                await connection.execute(insert(table), some[start : start + AT_ONCE])
        if connection.dialect.name == "postgresql":
            await connection.execute(text("ANALYZE"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    found: str = request.getfixturevalue("postgres")
    return found


async def test_no_question_walks_or_sorts_the_decisions(url: str) -> None:
    async with open_spine(url) as spine:
        await fill(spine)
        for name, ask in QUESTIONS.items():
            with statements_of(spine.store) as asked:
                await ask(spine)
            selects = [one for one in asked if one[0].startswith("SELECT") and "decisions" in one[0]]
            assert selects, name
            for one in selects:
                async with spine.store.read() as connection:
                    on_sqlite = connection.dialect.name == "sqlite"
                    steps = await steps_of(connection, one)
                if on_sqlite:
                    walks = {step for step in steps if step == "SCAN recovery_decisions"}
                    sorts = {step for step in steps if "TEMP B-TREE FOR ORDER BY" in step}
                else:
                    walks = {step for step in steps if "Seq Scan on recovery_decisions" in step}
                    sorts = {step for step in steps if step.startswith("Sort Key:")}
                    sorts.discard("Sort Key: clients.status")  # of the few that are acknowledged
                if name == "the history" and on_sqlite:
                    walks = set()  # in the order of the row numbers, up to the limit
                if name == "decisions of a client":
                    sorts = set()  # one row
                assert (walks, sorts) == (set(), set()), f"{name}: {one[0]}"


async def test_acknowledged_clients_are_found_from_what_was_acknowledged(url: str) -> None:
    """The start page asks for them, and must not look at every client of the fleet."""
    async with open_spine(url) as spine:
        await fill(spine)
        taken = {"client_uuid": uuid_of(7), "at": MORNING, "by": "anna", "recovery": Meanwhile.HOLD}
        async with spine.store.write() as connection:
            await connection.execute(insert(recovery_acknowledgements).values(taken))
            if connection.dialect.name == "postgresql":
                await connection.execute(text("ANALYZE"))
        with statements_of(spine.store) as asked:
            async with spine.store.read() as connection:
                assert await acknowledged.counts(connection, MORNING) == {Condition.UNREACHABLE: 1}
                for sort in ("name", "-status_since", "last_alive"):
                    for status in (frozenset[Condition](), frozenset(Condition), PROBLEMS):
                        query = ClientQuery(status=status, sort=sort, cared_for=True, cared_at=MORNING)
                        found = await client_lists.search(connection, query, 50)
                        assert [one.uuid for one in found.items] == [uuid_of(7)]
        about_care = [one for one in asked if "FROM clients" in one[0] and "_acknowledgements" in one[0]]
        assert len(about_care) == 10
        for one in about_care:
            async with spine.store.read() as connection:
                by_uuid = "(uuid=?)" if connection.dialect.name == "sqlite" else "pk_clients"
                looked = {
                    step
                    for step in await steps_of(connection, one)
                    if step.startswith(("SCAN clients", "SEARCH clients")) or " on clients" in step
                }
            walks = {step for step in looked if by_uuid not in step}
            assert looked, one[0]
            assert not walks, one[0]
