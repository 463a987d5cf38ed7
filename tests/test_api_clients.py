"""Clients over HTTP: how they look, how they are found, and what people may do to them."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action
from infoscreen.storage import clients
from tests.api import ask
from tests.spine import ADMIN, uuid_of, zulu
from tests.web import Site

U, V, W = uuid_of(1), uuid_of(2), uuid_of(3)
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 20 + b"IEND\xaeB`\x82"

CONTRACT = """
    uuid, name, hostname, ip, site, tags, description, software_version, status, status_since, status_reason,
    is_alive, last_alive, heartbeat_interval_seconds, process_status, current_process, process_pid,
    app_started_at, boot_id, booted_at, presence, clock_skew_seconds, health, health_at, service_failed_at,
    service_failed_unit, mqtt_reconnect_count, mqtt_last_disconnect_at, maintenance_until, auto_recovery,
    capabilities, created_at, conditions, keepalive_seconds, unread_fields, refused,
    failed_services, duplicate, last_duplicate, not_showing, hours, hours_source, time_zone, within_hours,
    next_change_at, hours_warning
"""
CLIENT_KEYS = {key.strip() for key in CONTRACT.split(",")}


def names(answer: dict[str, Any]) -> list[str | None]:
    return [client["hostname"] for client in answer["items"]]


async def fail_service(site: Site, uuid: str) -> None:
    failed = {"event": "service_failed", "unit": "app.service", "failed_at": zulu(site.spine.clock.now())}
    await site.spine.hear((f"{uuid}/service_failed", failed))


async def test_a_client_has_exactly_the_keys_of_the_contract(site: Site) -> None:
    await site.spine.beat(U)
    viewer = await site.program(Role.VIEWER)
    listed = await ask(viewer, "GET", "/api/clients")
    assert (listed.keys(), listed["total"], listed["next_cursor"]) == (
        {"items", "next_cursor", "total"},
        1,
        None,
    )
    assert listed["items"][0].keys() == CLIENT_KEYS
    shown = await ask(viewer, "GET", f"/api/clients/{U}")
    assert shown.keys() == CLIENT_KEYS | {"in_flight_command", "waiting_commands", "lockout"}


async def test_what_a_device_said_is_shown_with_times_in_utc(site: Site) -> None:
    at = zulu(site.spine.clock.now())
    await site.spine.beat(U, hostname="lobby", process_status="running", process_pid=7, booted_at=at)
    broker = {"broker_reachable": True, "reconnect_count": 4, "last_disconnect_at": at}
    health = {"timestamp": at, "health_metrics": {"cpu_percent": 12.5}, "broker_connection": broker}
    await site.spine.hear((f"{U}/health", health), (f"{U}/presence", "online"))
    client = await ask(await site.program(Role.VIEWER), "GET", f"/api/clients/{U}")
    shown = {
        name: client[name] for name in ("hostname", "process_status", "process_pid", "booted_at", "name")
    }
    assert shown == {
        "hostname": "lobby",
        "process_status": "running",
        "process_pid": 7,
        "booted_at": at,
        "name": None,
    }
    assert (client["mqtt_reconnect_count"], client["mqtt_last_disconnect_at"]) == (4, at)
    assert (client["presence"], client["health"]["health_metrics"]["cpu_percent"]) == ("online", 12.5)
    assert (client["status"], client["is_alive"], client["last_alive"]) == ("online", True, at)
    assert client["status_reason"] == "Heartbeats arrive as expected."


async def test_a_client_that_never_sent_a_heartbeat_is_not_alive(site: Site) -> None:
    await site.spine.hear((f"{U}/discovery", {"uuid": U, "hostname": "lobby"}))
    client = await ask(await site.program(Role.VIEWER), "GET", f"/api/clients/{U}")
    assert (client["status"], client["is_alive"]) == ("never_seen", False)


async def test_a_client_is_alive_until_its_heartbeats_have_stopped_for_its_threshold(site: Site) -> None:
    await site.spine.beat(U)
    viewer = await site.program(Role.VIEWER)
    site.spine.clock.advance(179)
    assert (await ask(viewer, "GET", f"/api/clients/{U}"))["is_alive"] is True
    site.spine.clock.advance(1)
    assert (await ask(viewer, "GET", f"/api/clients/{U}"))["is_alive"] is False


async def test_silence_does_not_count_while_the_daemon_does_not_listen(site: Site) -> None:
    await site.spine.beat(U)
    site.spine.link.listening_since = None
    site.spine.clock.advance(3_600)
    client = await ask(await site.program(Role.VIEWER), "GET", f"/api/clients/{U}")
    assert (client["status"], client["is_alive"]) == ("online", True)
    assert "Not confirmed yet" in client["status_reason"]


async def test_a_client_that_was_silent_is_not_alive_while_nobody_listens(site: Site) -> None:
    await site.spine.beat(U)
    site.spine.clock.advance(200)
    await site.spine.watch.look()
    site.spine.link.listening_since = None
    client = await ask(await site.program(Role.VIEWER), "GET", f"/api/clients/{U}")
    assert (client["status"], client["is_alive"]) == ("unreachable", False)


async def test_clients_are_filtered_by_site_tag_and_words(site: Site) -> None:
    await site.spine.beat(U, hostname="lobby", ip="10.1.2.3")
    await site.spine.beat(V, hostname="canteen")
    await site.parts.fleet.edit(U, {"site": "Berlin", "tags": ["glass", "tall"]}, ADMIN)
    viewer = await site.program(Role.VIEWER)
    for query, found in (
        ("site=Berlin", ["lobby"]),
        ("site=Bonn", []),
        ("tag=tall", ["lobby"]),
        ("tag=tal", []),
        ("q=ANTE", ["canteen"]),
        ("q=10.1.2", ["lobby"]),
        (f"q={V[-6:]}", ["canteen"]),
        ("site=&tag=&q=", ["canteen", "lobby"]),
    ):
        assert names(await ask(viewer, "GET", f"/api/clients?{query}")) == found, query


async def test_clients_are_filtered_by_one_or_several_statuses(site: Site) -> None:
    await site.spine.beat(U, hostname="crashing", process_status="crashed")
    await site.spine.beat(V, hostname="silent")
    site.spine.clock.advance(170)
    await site.spine.beat(U, process_status="crashed")
    await site.spine.beat(W, hostname="well")
    site.spine.clock.advance(20)
    await site.spine.watch.look()
    viewer = await site.program(Role.VIEWER)
    for query, found in (
        ("status=crashed", ["crashing"]),
        ("status=crashed,online", ["crashing", "well"]),
        ("status=crashed&status=online", ["crashing", "well"]),
        ("status=stale", ["silent"]),
        ("status=unreachable", ["silent"]),
        ("status=hung", []),
        ("status=", ["crashing", "silent", "well"]),
    ):
        assert names(await ask(viewer, "GET", f"/api/clients?{query}")) == found, query


async def test_clients_are_sorted_and_paged_without_a_gap(site: Site) -> None:
    for number in range(1, 8):
        await site.spine.beat(uuid_of(number), hostname=f"screen{number}")
        site.spine.clock.advance(1)
    viewer = await site.program(Role.VIEWER)
    for sort, wanted in (("name", range(1, 8)), ("-last_alive", range(7, 0, -1))):
        seen: list[str | None] = []
        cursor = ""
        while True:
            page = await ask(viewer, "GET", f"/api/clients?sort={sort}&limit=3{cursor}")
            assert page["total"] == 7
            seen += names(page)
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == [f"screen{number}" for number in wanted]


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ("status=asleep", "status", "must be one of: never_seen, online"),
        ("limit=0", "limit", "at least 1"),
        ("limit=501", "limit", "at most 500"),
        ("limit=many", "limit", "a whole number"),
        ("sort=colour", "sort", "name, -name"),
        ("cursor=x", "cursor", "next_cursor"),
        ("colour=red", "colour", "allowed: "),
        ("site=a&site=b", "site", "allowed once"),
        (f"q={'x' * 201}", "q", "at most 200"),
        ("q=%00", "q", "NUL"),
    ],
)
async def test_a_wrong_filter_is_refused_and_says_what_is_allowed(
    site: Site, query: str, field: str, told: str
) -> None:
    problem = await ask(await site.program(Role.VIEWER), "GET", f"/api/clients?{query}", status=422)
    assert (problem["type"], problem["errors"][0]["field"]) == ("invalid-input", field)
    assert told in problem["errors"][0]["message"]


async def test_an_identifier_is_understood_in_every_spelling_and_answered_in_one(site: Site) -> None:
    lobby = "abcdef01-2345-4678-9abc-def012345678"
    await site.spine.beat(lobby)
    viewer = await site.program(Role.VIEWER)
    for spelling in (lobby, lobby.upper(), lobby.replace("-", ""), f"urn:uuid:{lobby}"):
        assert (await ask(viewer, "GET", f"/api/clients/{spelling}"))["uuid"] == lobby


@pytest.mark.parametrize("given", ["lobby", "1", U[:-1], f"{U}0", U.replace("-", "_"), "x" * 300, "٣" * 32])
async def test_what_is_no_identifier_is_named_in_the_refusal(site: Site, given: str) -> None:
    problem = await ask(await site.program(Role.VIEWER), "GET", f"/api/clients/{given}", status=422)
    assert (problem["type"], problem["errors"][0]["field"]) == ("invalid-input", "uuid")
    assert json.dumps(given)[1:50] in problem["errors"][0]["message"]
    assert "32 hexadecimal digits" in problem["errors"][0]["message"]
    assert len(problem["detail"]) < 100


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/clear_service_failed", None),
        ("POST", "/commands", {"action": "reboot_host"}),
        ("POST", "/restart", None),
        ("POST", "/shutdown", None),
        ("GET", "/commands", None),
        ("GET", "/timeline", None),
        ("GET", "/screenshot", None),
    ],
)
async def test_an_unknown_client_is_not_found(
    site: Site, method: str, path: str, body: dict[str, str] | None
) -> None:
    admin = await site.program(Role.ADMIN)
    problem = await ask(admin, method, f"/api/clients/{U}{path}", status=404, json=body)
    assert problem["type"] == "not-found"
    assert U in problem["detail"]


async def test_a_client_shows_what_stands_in_the_way_of_the_next_command(site: Site) -> None:
    await site.spine.beat(U)
    viewer = await site.program(Role.VIEWER)
    free = await ask(viewer, "GET", f"/api/clients/{U}")
    assert free["in_flight_command"] is None
    assert free["lockout"] == {"locked": False, "locked_until": None}
    for _ in range(3):
        command = await site.spine.request(U, Action.RESTART_APP)
        await site.spine.outbox.step()
        await site.spine.ack(command, "failed")
    locked = await ask(viewer, "GET", f"/api/clients/{U}")
    until = zulu(site.spine.clock.now() + timedelta(seconds=900))
    assert locked["lockout"] == {"locked": True, "locked_until": until}
    site.spine.clock.advance(900)
    command = await site.spine.request(U)
    shown = await ask(viewer, "GET", f"/api/clients/{U}")
    assert shown["lockout"]["locked"] is False
    assert shown["in_flight_command"]["command_id"] == command.command_id


async def test_crashed_and_silent_clients_are_listed_each_with_its_reason(site: Site) -> None:
    await site.spine.beat(U, hostname="a-crashed")
    await site.spine.beat(V, hostname="b-silent")
    await site.spine.beat(W, hostname="c-hung")
    await site.spine.hear((f"{W}/presence", "online"))
    site.spine.clock.advance(175)
    await site.spine.beat(U, process_status="crashed")
    await site.spine.beat(uuid_of(4), hostname="d-well")
    site.spine.clock.advance(10)
    await site.spine.watch.look()
    viewer = await site.program(Role.VIEWER)
    listed = await ask(viewer, "GET", "/api/clients/crashed")
    assert listed["total"] == 3
    assert [
        (c["hostname"], c["status"], c["crash_reason"], c["seconds_since_heartbeat"]) for c in listed["items"]
    ] == [
        ("a-crashed", "crashed", "process_crashed", 10.0),
        ("b-silent", "unreachable", "heartbeat_stale", 185.0),
        ("c-hung", "hung", "heartbeat_stale", 185.0),
    ]
    assert listed["items"][0].keys() == CLIENT_KEYS | {"crash_reason", "seconds_since_heartbeat"}
    assert names(await ask(viewer, "GET", "/api/clients/crashed?q=hung")) == ["c-hung"]
    first = await ask(viewer, "GET", "/api/clients/crashed?limit=2")
    assert names(await ask(viewer, "GET", f"/api/clients/crashed?cursor={first['next_cursor']}")) == [
        "c-hung"
    ]


async def test_a_failed_service_is_listed_until_an_operator_clears_it_and_twice_is_fine(site: Site) -> None:
    await site.spine.beat(U)
    await site.spine.beat(V)
    await fail_service(site, U)
    operator = await site.program(Role.OPERATOR)
    listed = await ask(operator, "GET", "/api/clients/service_failed")
    (failed,) = listed["items"]
    assert (failed["uuid"], failed["service_failed_unit"]) == (U, "app.service")
    assert failed["service_failed_at"] == zulu(site.spine.clock.now())
    cleared = await ask(
        operator, "POST", f"/api/clients/{U}/clear_service_failed", json={"comment": "cable was loose"}
    )
    assert cleared.keys() == CLIENT_KEYS
    assert (cleared["service_failed_at"], cleared["service_failed_unit"]) == (None, None)
    assert (await ask(operator, "GET", "/api/clients/service_failed"))["items"] == []
    again = await ask(operator, "POST", f"/api/clients/{U}/clear_service_failed")
    assert (again["uuid"], again["service_failed_at"]) == (U, None)


@pytest.mark.parametrize(
    "request_of",
    [
        {},
        {"data": b"", "headers": {"Content-Type": "application/json"}},
        {"json": {}},
        {"json": {"comment": None}},
        {"json": {"comment": ""}},
    ],
)
async def test_a_failed_service_is_cleared_without_a_word(site: Site, request_of: dict[str, Any]) -> None:
    await site.spine.beat(U)
    await fail_service(site, U)
    operator = await site.program(Role.OPERATOR)
    await ask(operator, "POST", f"/api/clients/{U}/clear_service_failed", **request_of)
    assert (await site.spine.client(U)).service_failed_at is None


async def test_an_empty_body_of_unknown_length_is_no_body(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)

    async def nothing() -> AsyncIterator[bytes]:
        for part in ():
            yield part

    headers = {"Content-Type": "application/json"}
    await ask(operator, "POST", f"/api/clients/{U}/clear_service_failed", data=nothing(), headers=headers)


async def test_an_operator_describes_a_client(site: Site) -> None:
    await site.spine.beat(U, hostname="lobby")
    operator = await site.program(Role.OPERATOR)
    until = site.spine.clock.now() + timedelta(hours=2)
    local = until.astimezone().isoformat()
    changes = {
        "name": " Lobby left ",
        "site": "Berlin",
        "tags": ["glass"],
        "description": "behind the plant",
        "maintenance_until": local,
        "auto_recovery": False,
    }
    client = await ask(operator, "PATCH", f"/api/clients/{U}", json=changes)
    assert {name: client[name] for name in changes} == changes | {
        "name": "Lobby left",
        "maintenance_until": zulu(until),
    }
    assert client["status"] == "maintenance"
    emptied = {"name": None, "site": "", "tags": [], "maintenance_until": None}
    client = await ask(operator, "PATCH", f"/api/clients/{U}", json=emptied)
    assert (client["name"], client["site"], client["tags"], client["status"]) == (None, None, [], "online")
    assert (client["description"], client["auto_recovery"]) == ("behind the plant", False)
    assert (await ask(operator, "PATCH", f"/api/clients/{U}", json={}))["description"] == "behind the plant"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"status": "online"}, "status"),
        ({"name": "x" * 201}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"tags": None}, "tags"),
        ({"tags": "glass"}, "tags"),
        ({"tags": ["x"] * 51}, "tags"),
        ({"tags": [""]}, "tags.0"),
        ({"auto_recovery": None}, "auto_recovery"),
        ({"auto_recovery": "yes"}, "auto_recovery"),
        ({"maintenance_until": "tomorrow"}, "maintenance_until"),
        ({"maintenance_until": "2030-01-01T00:00:00"}, "maintenance_until"),
        ({"maintenance_until": "9999-12-31T23:59:59-10:00"}, "maintenance_until"),
        ({"maintenance_until": "2001-01-01T00:00:00Z"}, "maintenance_until"),
        ([], ""),
    ],
)
async def test_a_wrong_description_is_refused_by_its_field(site: Site, changes: Any, field: str) -> None:
    await site.spine.beat(U, hostname="lobby")
    before = await site.spine.client(U)
    operator = await site.program(Role.OPERATOR)
    problem = await ask(operator, "PATCH", f"/api/clients/{U}", status=422, json=changes)
    assert problem["errors"][0]["field"] == field
    assert await site.spine.client(U) == before


async def test_an_admin_removes_a_client_with_its_history(site: Site) -> None:
    await site.spine.beat(U)
    await site.spine.request(U)
    admin = await site.program(Role.ADMIN)
    assert await ask(admin, "DELETE", f"/api/clients/{U}", status=204) is None
    async with site.spine.store.read() as connection:
        assert await clients.get(connection, U) is None
    assert (await ask(admin, "GET", "/api/commands"))["items"] == []
    await ask(admin, "DELETE", f"/api/clients/{U}", status=404)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("PATCH", f"/api/clients/{U}", Role.VIEWER),
        ("DELETE", f"/api/clients/{U}", Role.OPERATOR),
        ("POST", f"/api/clients/{U}/clear_service_failed", Role.VIEWER),
    ],
)
async def test_a_lower_role_may_not_change_a_client(site: Site, method: str, path: str, role: Role) -> None:
    await site.spine.beat(U)
    assert (await ask(await site.program(role), method, path, status=403))["type"] == "forbidden"


async def test_the_newest_screenshot_is_shown_as_it_came(site: Site) -> None:
    await site.spine.beat(U)
    viewer = await site.program(Role.VIEWER)
    problem = await ask(viewer, "GET", f"/api/clients/{U}/screenshot", status=404)
    assert "not sent a screenshot" in problem["detail"]
    await site.spine.hear((f"{U}/screenshot", PNG))
    async with viewer.get(f"/api/clients/{U}/screenshot") as response:
        assert (response.status, await response.read()) == (200, PNG)
        assert response.content_type == "image/png"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Last-Modified" in response.headers


async def test_a_timeline_merges_what_happened_newest_first(site: Site) -> None:
    await site.spine.beat(U)
    site.spine.clock.advance(1)
    await fail_service(site, U)
    site.spine.clock.advance(1)
    line = {"timestamp": zulu(site.spine.clock.now()), "message": "disk is slow"}
    await site.spine.hear((f"{U}/logs/warn", line))
    site.spine.clock.advance(1)
    await site.spine.request(U, Action.RESTART_APP)
    viewer = await site.program(Role.VIEWER)
    path = f"/api/clients/{U}/timeline"
    whole = await ask(viewer, "GET", path)
    kinds = [entry["kind"] for entry in whole["items"]]
    assert kinds[:2] == ["command", "log"]
    assert {"service_failed", "status"} <= set(kinds)
    assert whole["items"][0].keys() == {"at", "kind", "text", "code", "arguments", "level", "data"}
    assert whole["total"] is None
    assert whole["items"][1]["level"] == "warn"
    logs_and_commands = await ask(viewer, "GET", f"{path}?kind=log,command")
    assert [entry["kind"] for entry in logs_and_commands["items"]] == ["command", "log"]
    first = await ask(viewer, "GET", f"{path}?limit=1")
    rest = await ask(viewer, "GET", f"{path}?cursor={first['next_cursor']}")
    assert first["items"] + rest["items"] == whole["items"]
    problem = await ask(viewer, "GET", f"{path}?kind=rumour", status=422)
    assert problem["errors"][0]["field"].startswith("kind")


async def test_a_failed_service_is_listed_also_while_its_device_is_in_maintenance(site: Site) -> None:
    await site.spine.beat(U)
    await fail_service(site, U)
    operator = await site.program(Role.OPERATOR)
    until = zulu(site.spine.clock.now() + timedelta(hours=1))
    kept = await ask(operator, "PATCH", f"/api/clients/{U}", json={"maintenance_until": until})
    assert kept["status"] == "maintenance"
    listed = await ask(operator, "GET", "/api/clients/service_failed")
    assert [client["uuid"] for client in listed["items"]] == [U]
