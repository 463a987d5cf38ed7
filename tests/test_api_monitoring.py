"""The overview, and what devices sent that could not be stored."""

from asyncio import gather

from infoscreen.domain.accounts import Role
from infoscreen.domain.clients import Condition
from tests.api import ask
from tests.spine import uuid_of, zulu
from tests.web import Site

U, V = uuid_of(1), uuid_of(2)


async def test_the_overview_counts_every_status_also_those_of_nobody(site: Site) -> None:
    await site.spine.beat(U, hostname="lobby")
    await site.spine.beat(V, hostname="canteen", process_status="crashed")
    broker = {"broker_reachable": True, "reconnect_count": 3}
    await site.spine.hear(
        (f"{U}/health", {"timestamp": zulu(site.spine.clock.now()), "broker_connection": broker})
    )
    overview = await ask(await site.program(Role.VIEWER), "GET", "/api/monitoring/overview")
    assert (overview["problems"], overview["acknowledged"]) == (1, 0)
    assert overview.keys() == {
        "generated_at",
        "totals",
        "problems",
        "acknowledged",
        "broker",
        "database",
        "recovery",
        "alerts",
        "clients",
    }
    assert overview["generated_at"] == zulu(site.spine.clock.now())
    nobody = dict.fromkeys(Condition, 0)
    assert overview["totals"] == nobody | {"online": 1, "crashed": 1}
    listening_since = site.spine.link.state.listening_since
    assert listening_since is not None
    assert overview["broker"] == {
        "connected": True,
        "listening_since": zulu(listening_since),
        "reconnects": 0,
        "last_error": None,
        "fault": None,
        "dropped": 0,
        "dropped_at": None,
        "taken_over_at": None,
        "health": {
            "acl": "unknown",
            "acl_checked_at": None,
            "acl_open_since": None,
            "failed_logins": 0,
            "failed_logins_address": None,
            "failed_logins_alarm": False,
        },
    }
    assert "mode" in overview["recovery"]
    assert [client["hostname"] for client in overview["clients"]["items"]] == ["canteen", "lobby"]
    assert overview["clients"]["items"][1]["mqtt_reconnect_count"] == 3


async def test_the_overview_pages_and_filters_its_clients_but_counts_all(site: Site) -> None:
    for number in range(1, 6):
        await site.spine.beat(uuid_of(number), hostname=f"screen{number}")
    viewer = await site.program(Role.VIEWER)
    first = await ask(viewer, "GET", "/api/monitoring/overview?limit=3&q=screen")
    assert (len(first["clients"]["items"]), first["clients"]["total"], first["totals"]["online"]) == (3, 5, 5)
    cursor = first["clients"]["next_cursor"]
    rest = await ask(viewer, "GET", f"/api/monitoring/overview?limit=3&q=screen&cursor={cursor}")
    assert [client["hostname"] for client in rest["clients"]["items"]] == ["screen4", "screen5"]
    crashed = await ask(viewer, "GET", "/api/monitoring/overview?status=crashed")
    assert (crashed["clients"]["items"], crashed["totals"]["online"]) == ([], 5)


async def test_the_overview_works_while_nobody_listens(site: Site) -> None:
    site.spine.link.listening_since = None
    overview = await ask(await site.program(Role.VIEWER), "GET", "/api/monitoring/overview")
    assert (overview["broker"]["connected"], overview["broker"]["listening_since"]) == (False, None)


async def test_rejected_messages_are_shown_newest_first_and_readable(site: Site) -> None:
    await site.spine.hear((f"{U}/heartbeat", b"\xff\xfe\x00nonsense"))
    site.spine.clock.advance(61)
    await site.spine.hear((f"{U}/heartbeat", b"{}" + b" " * 400))
    operator = await site.program(Role.OPERATOR)
    listed = await ask(operator, "GET", "/api/monitoring/rejected")
    assert (listed["total"], listed["next_cursor"]) == (None, None)
    newest, oldest = listed["items"]
    assert newest.keys() == {"at", "topic", "reason", "detail", "code", "arguments", "size", "head"}
    assert (newest["topic"], newest["size"]) == (f"infoscreen/{U}/heartbeat", 402)
    assert len(newest["head"]) == 200
    assert oldest["head"] == "\ufffd\ufffd\0nonsense"
    limited = await ask(operator, "GET", "/api/monitoring/rejected?limit=1")
    assert limited["items"] == [newest]
    path = f"/api/monitoring/rejected?limit=1&cursor={limited['next_cursor']}"
    assert await ask(operator, "GET", path) == {"items": [oldest], "next_cursor": None, "total": None}
    await ask(operator, "GET", "/api/monitoring/rejected?limit=1001", status=422)


async def test_sentences_are_in_the_language_that_a_program_asks_for(site: Site) -> None:
    """Also when several ask at the same time, and one of them gets an error."""
    await site.spine.beat(U)
    await site.spine.hear((f"{U}/heartbeat", b"nonsense"))
    admin = await site.program(Role.ADMIN)
    said = {
        "/api/monitoring/rejected": ("not a JSON object", "kein JSON-Objekt"),
        f"/api/clients/{U}/explain": ("Nothing: there", "Nichts: "),
        f"/api/clients/{uuid_of(404)}": ("Not found", "Nicht gefunden"),
    }

    async def told(path: str, accepted: str) -> str:
        async with admin.get(path, headers={"Accept-Language": accepted} if accepted else {}) as answer:
            assert (answer.headers["Content-Language"], answer.headers["Vary"]) == (
                "de" if accepted.startswith("de") else "en",
                "Accept-Language",
            )
            return await answer.text()

    asked = [(path, accepted) for path in said for accepted in ("", "de-AT,en;q=0.5", "en", "fr")] * 3
    for (path, accepted), text in zip(asked, await gather(*(told(*one) for one in asked)), strict=True):
        english, german = said[path]
        in_german = accepted.startswith("de")
        assert (english in text, german in text) == (not in_german, in_german), (path, accepted, text)


async def test_a_viewer_does_not_see_rejected_messages(site: Site) -> None:
    await ask(await site.program(Role.VIEWER), "GET", "/api/monitoring/rejected", status=403)
