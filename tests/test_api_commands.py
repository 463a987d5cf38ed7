"""Commands over HTTP: asking for one or many, following them, withdrawing them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from infoscreen.domain.accounts import Role
from infoscreen.domain.commands import Action, Source
from tests.api import ask
from tests.spine import ADMIN, uuid_of, zulu
from tests.web import Site

U, V, W, NOBODY = uuid_of(1), uuid_of(2), uuid_of(3), uuid_of(99)
COMMANDS = f"/api/clients/{U}/commands"
CONTRACT = """
    command_id, client_uuid, action, status, source, requested_by, reason, created_at, expires_at,
    published_at, accepted_at, started_at, finished_at, late, error_code, error_message, verification,
    verified_at, verification_detail, verification_code, verification_arguments,
    refused, device_clock_off_seconds, waits_for, wait_until
"""
COMMAND_KEYS = {key.strip() for key in CONTRACT.split(",")}


async def lock(site: Site, uuid: str) -> None:
    """Publish as many disruptive commands as lock the client; all have failed at once."""
    for _ in range(3):
        command = await site.spine.request(uuid, Action.RESTART_APP)
        await site.spine.outbox.step()
        await site.spine.ack(command, "failed")


async def test_a_command_is_queued_with_exactly_the_keys_of_the_contract(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    answer = await ask(
        operator, "POST", COMMANDS, status=202, json={"action": "reboot_host", "reason": "frozen picture"}
    )
    assert answer.keys() == {"command"}
    command = answer["command"]
    assert command.keys() == COMMAND_KEYS
    now = site.spine.clock.now()
    assert (command["client_uuid"], command["action"], command["status"]) == (U, "reboot_host", "queued")
    assert (command["reason"], command["late"], command["published_at"]) == ("frozen picture", False, None)
    assert (command["created_at"], command["expires_at"]) == (zulu(now), zulu(now + timedelta(seconds=240)))
    assert command["requested_by"] == (await site.user(Role.OPERATOR)).id


async def test_a_program_is_told_from_a_person_at_the_panel(site: Site) -> None:
    await site.spine.beat(U)
    await site.spine.beat(V)
    body = {"action": "restart_app"}
    program, browser = await site.program(Role.OPERATOR), await site.browser(Role.OPERATOR)
    by_program = await ask(program, "POST", COMMANDS, status=202, json=body)
    by_person = await ask(browser, "POST", f"/api/clients/{V}/commands", status=202, json=body)
    assert (by_program["command"]["source"], by_person["command"]["source"]) == ("api", "operator")


async def test_the_lifetime_of_a_command_is_chosen_to_the_fraction_of_a_second(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    body = {"action": "reboot_host", "expires_in": 1.5}
    command = (await ask(operator, "POST", COMMANDS, status=202, json=body))["command"]
    assert command["expires_at"] == "2026-03-02T07:00:01.500000Z"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "explode"}, "action"),
        ({"action": None}, "action"),
        ({"action": "reboot_host", "colour": "red"}, "colour"),
        ({"action": "reboot_host", "expires_in": 0}, "expires_in"),
        ({"action": "reboot_host", "expires_in": -1}, "expires_in"),
        ({"action": "reboot_host", "expires_in": 86_401}, "expires_in"),
        ({"action": "reboot_host", "expires_in": "10"}, "expires_in"),
        ({"action": "reboot_host", "expires_in": True}, "expires_in"),
        ({"action": "reboot_host", "reason": "x" * 2_001}, "reason"),
        ({"action": "reboot_host", "reason": 7}, "reason"),
        ({"action": "reboot_host", "force": "yes"}, "force"),
        ({"action": "screenshot"}, "action"),
    ],
)
async def test_a_wrong_command_is_refused_by_its_field_and_nothing_is_stored(
    site: Site, body: dict[str, Any], field: str
) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    problem = await ask(operator, "POST", COMMANDS, status=422, json=body)
    assert (problem["type"], problem["errors"][0]["field"]) == ("invalid-input", field)
    assert (await ask(operator, "GET", "/api/commands"))["items"] == []


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"expires_in": NaN}', b"[" * 9_999]
)
async def test_a_body_that_is_no_request_is_refused(site: Site, raw: bytes) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    headers = {"Content-Type": "application/json"}
    problem = await ask(operator, "POST", COMMANDS, status=422, data=raw, headers=headers)
    assert problem["type"] == "invalid-input"


async def test_a_second_command_is_refused_and_told_which_one_is_in_flight(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    first = await ask(operator, "POST", COMMANDS, status=202, json={"action": "reboot_host"})
    problem = await ask(operator, "POST", COMMANDS, status=409, json={"action": "restart_app"})
    assert problem["type"] == "command-in-flight"
    assert problem["command_id"] == first["command"]["command_id"]


async def test_of_many_requests_at_once_one_wins_and_the_others_are_told_its_id(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)

    async def attempt() -> tuple[int, str]:
        async with operator.post(COMMANDS, json={"action": "reboot_host"}) as response:
            answer = await response.json(content_type=None)
            return response.status, answer.get("command_id") or answer["command"]["command_id"]

    answers = await asyncio.gather(*(attempt() for _ in range(200)))
    statuses = sorted(status for status, _ in answers)
    assert statuses == [202] + [409] * 199
    assert len({command_id for _, command_id in answers}) == 1


async def test_a_locked_client_is_refused_with_the_end_of_the_lockout_and_the_blocked_command(
    site: Site,
) -> None:
    await site.spine.beat(U)
    await lock(site, U)
    operator = await site.program(Role.OPERATOR)
    problem = await ask(
        operator, "POST", COMMANDS, status=423, json={"action": "reboot_host", "reason": "please"}
    )
    assert problem["type"] == "locked-out"
    assert problem["locked_until"] == zulu(site.spine.clock.now() + timedelta(seconds=900))
    blocked = problem["command"]
    assert blocked.keys() == COMMAND_KEYS
    assert (blocked["status"], blocked["reason"], blocked["action"]) == (
        "blocked_safety",
        "please",
        "reboot_host",
    )
    shown = await ask(operator, "GET", f"/api/commands/{blocked['command_id']}")
    assert [event["to"] for event in shown["events"]] == ["blocked_safety"]


async def test_only_an_admin_with_a_reason_overrides_the_lockout(site: Site) -> None:
    await site.spine.beat(U)
    await lock(site, U)
    body = {"action": "reboot_host", "force": True}
    operator, admin = await site.program(Role.OPERATOR), await site.program(Role.ADMIN)
    problem = await ask(operator, "POST", COMMANDS, status=403, json=body | {"reason": "urgent"})
    assert problem["type"] == "forbidden"
    for reason in (None, "", "  "):
        problem = await ask(admin, "POST", COMMANDS, status=422, json=body | {"reason": reason})
        assert problem["errors"][0]["field"] == "reason"
    forced = await ask(admin, "POST", COMMANDS, status=202, json=body | {"reason": "urgent"})
    assert forced["command"]["status"] == "queued"


@pytest.mark.parametrize(("path", "action"), [("restart", "reboot_host"), ("shutdown", "shutdown_host")])
async def test_the_older_names_give_the_same_answers_with_and_without_a_body(
    site: Site, path: str, action: str
) -> None:
    await site.spine.beat(U)
    await site.spine.beat(V)
    operator = await site.program(Role.OPERATOR)
    bare = await ask(operator, "POST", f"/api/clients/{U}/{path}", status=202)
    assert (bare["command"].keys(), bare["command"]["action"]) == (COMMAND_KEYS, action)
    again = await ask(operator, "POST", f"/api/clients/{U}/{path}", status=409)
    assert again["command_id"] == bare["command"]["command_id"]
    told = await ask(operator, "POST", f"/api/clients/{V}/{path}", status=202, json={"reason": "paint"})
    assert told["command"]["reason"] == "paint"
    await site.spine.beat(W)
    await lock(site, W)
    locked = await ask(operator, "POST", f"/api/clients/{W}/{path}", status=423)
    assert locked["command"]["action"] == action


async def test_a_viewer_may_look_but_not_command(site: Site) -> None:
    await site.spine.beat(U)
    command = await site.spine.request(U)
    viewer = await site.program(Role.VIEWER)
    for path in (COMMANDS, "/api/commands", f"/api/clients/{U}/restart", f"/api/clients/{U}/shutdown"):
        assert (await ask(viewer, "POST", path, status=403))["type"] == "forbidden"
    await ask(viewer, "POST", f"/api/commands/{command.command_id}/cancel", status=403)
    for path in (COMMANDS, "/api/commands", f"/api/commands/{command.command_id}"):
        await ask(viewer, "GET", path)


async def test_a_command_is_followed_through_its_life(site: Site) -> None:
    await site.spine.beat(U)
    command = await site.spine.request(U, reason="frozen")
    await site.spine.outbox.step()
    for status in ("accepted", "execution_started", "completed"):
        site.spine.clock.advance(1)
        await site.spine.ack(command, status)
    viewer = await site.program(Role.VIEWER)
    shown = await ask(viewer, "GET", f"/api/commands/{command.command_id}")
    assert shown.keys() == COMMAND_KEYS | {"events"}
    keys = {"at", "from", "to", "by", "detail", "code", "arguments", "times"}
    assert all(event.keys() == keys for event in shown["events"])
    steps = [(event["from"], event["to"]) for event in shown["events"] if event["from"] != event["to"]]
    assert steps == [
        (None, "queued"),
        ("queued", "publish_in_progress"),
        ("publish_in_progress", "published"),
        ("published", "accepted"),
        ("accepted", "execution_started"),
        ("execution_started", "completed"),
    ]
    assert (shown["status"], shown["verification"], shown["late"]) == ("completed", "pending", False)
    assert shown["finished_at"] == zulu(site.spine.clock.now())
    older = await ask(viewer, "GET", f"/api/clients/commands/{command.command_id}")
    assert older == shown
    assert (await ask(viewer, "GET", f"/api/commands/{command.command_id.upper()}")) == shown


async def test_an_unknown_or_impossible_command_is_told_apart(site: Site) -> None:
    operator = await site.program(Role.OPERATOR)
    for method, path in (("GET", ""), ("POST", "/cancel")):
        assert (await ask(operator, method, f"/api/commands/{NOBODY}{path}", status=404))[
            "type"
        ] == "not-found"
        problem = await ask(operator, method, f"/api/commands/first{path}", status=422)
        assert problem["errors"][0]["field"] == "command_id"


async def test_a_queued_command_is_withdrawn_and_a_published_one_is_not(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    queued = await site.spine.request(U)
    cancelled = await ask(operator, "POST", f"/api/commands/{queued.command_id}/cancel")
    assert (cancelled.keys(), cancelled["status"]) == (COMMAND_KEYS, "cancelled")
    problem = await ask(operator, "POST", f"/api/commands/{queued.command_id}/cancel", status=409)
    assert problem["command_status"] == "cancelled"
    sent = await site.spine.request(U)
    await site.spine.outbox.step()
    problem = await ask(operator, "POST", f"/api/commands/{sent.command_id}/cancel", status=409)
    assert (problem["type"], problem["command_status"]) == ("conflict", "published")


async def test_commands_are_listed_newest_first_filtered_and_paged(site: Site) -> None:
    for uuid in (U, V):
        await site.spine.beat(uuid)
    first = await site.spine.request(U, Action.RESTART_APP)
    site.spine.clock.advance(1)
    second = await site.spine.request(V, Action.REBOOT_HOST)
    await site.spine.outbox.step()
    await site.spine.ack(first, "failed")
    site.spine.clock.advance(1)
    third = await site.parts.commanding.request(U, Action.SHUTDOWN_HOST, source=Source.API, actor=ADMIN)
    viewer = await site.program(Role.VIEWER)

    async def listed(query: str) -> list[str]:
        answer = await ask(viewer, "GET", f"/api/commands?{query}")
        return [command["command_id"] for command in answer["items"]]

    one, two, three = first.command_id, second.command_id, third.command_id
    for query, found in (
        ("", [three, two, one]),
        (f"client_uuid={U}", [three, one]),
        (f"client_uuid={U.replace('-', '')}", [three, one]),
        ("status=failed", [one]),
        ("action=reboot_host", [two]),
        ("source=api", [three]),
        (f"client_uuid={U}&source=operator", [one]),
        (f"batch_id={NOBODY}", []),
    ):
        assert await listed(query) == found, query
    page = await ask(viewer, "GET", "/api/commands?limit=2")
    assert page["total"] is None
    assert await listed(f"cursor={page['next_cursor']}") == [one]
    own = await ask(viewer, "GET", COMMANDS)
    assert [command["command_id"] for command in own["items"]] == [three, one]


@pytest.mark.parametrize(
    "query",
    ["status=lost", "action=explode", "source=rumour", "client_uuid=x", "batch_id=x", "x=1", "cursor=e30"],
)
async def test_a_wrong_filter_of_commands_is_refused_by_its_name(site: Site, query: str) -> None:
    problem = await ask(await site.program(Role.VIEWER), "GET", f"/api/commands?{query}", status=422)
    assert problem["errors"][0]["field"] == query.partition("=")[0]


async def test_a_bulk_request_answers_for_each_client_on_its_own_merits(site: Site) -> None:
    free, busy, locked, tended = (uuid_of(number) for number in (11, 12, 13, 14))
    for uuid in (free, busy, locked, tended):
        await site.spine.beat(uuid)
    in_flight = await site.spine.request(busy)
    await lock(site, locked)
    until = site.spine.clock.now() + timedelta(hours=1)
    await site.parts.fleet.edit(tended, {"maintenance_until": until}, ADMIN)
    operator = await site.program(Role.OPERATOR)
    uuids = [free, busy, locked, tended, NOBODY, free.upper()]
    body = {"action": "reboot_host", "reason": "update", "client_uuids": uuids}
    batch = await ask(operator, "POST", "/api/commands", status=202, json=body)
    assert batch.keys() == {"batch_id", "results", "counts"}
    outcomes = {result["client_uuid"]: result["outcome"] for result in batch["results"]}
    assert outcomes == {
        free: "queued",
        busy: "command_in_flight",
        locked: "locked_out",
        tended: "maintenance",
        NOBODY: "unknown_client",
    }
    assert len(batch["results"]) == 5
    assert batch["counts"] == dict.fromkeys(outcomes.values(), 1)
    by_client = {result["client_uuid"]: result for result in batch["results"]}
    assert by_client[busy]["command_id"] == in_flight.command_id
    assert by_client[NOBODY]["command_id"] is None
    stored = await ask(operator, "GET", f"/api/commands?batch_id={batch['batch_id']}")
    assert {command["client_uuid"] for command in stored["items"]} == {free, locked}
    assert {command["source"] for command in stored["items"]} == {"api"}


async def test_a_bulk_request_goes_to_all_that_the_filter_matches(site: Site) -> None:
    for number, where in ((1, "Berlin"), (2, "Berlin"), (3, "Bonn")):
        await site.spine.beat(uuid_of(number))
        await site.parts.fleet.edit(uuid_of(number), {"site": where}, ADMIN)
    operator = await site.program(Role.OPERATOR)
    for filter_, found in (
        ({"site": "Bonn"}, {uuid_of(3)}),
        ({"site": "Berlin", "status": ["online", "stale"]}, {uuid_of(1), uuid_of(2)}),
        ({"status": "crashed"}, set()),
        ({}, {uuid_of(1), uuid_of(2), uuid_of(3)}),
    ):
        body = {"action": "restart_app", "filter": filter_}
        batch = await ask(operator, "POST", "/api/commands", status=202, json=body)
        assert {result["client_uuid"] for result in batch["results"]} == found, filter_


async def test_five_thousand_clients_fit_into_one_request_and_one_more_does_not(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    uuids = [uuid_of(number) for number in range(1, 5_002)]
    body = {"action": "restart_app", "client_uuids": uuids[:5_000]}
    batch = await ask(operator, "POST", "/api/commands", status=202, json=body)
    assert batch["counts"] == {"queued": 1, "unknown_client": 4_999}
    problem = await ask(operator, "POST", "/api/commands", status=422, json=body | {"client_uuids": uuids})
    assert problem["errors"][0]["field"] == "client_uuids"
    assert "5,000" in problem["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"client_uuids": [U], "filter": {}}, ""),
        ({"client_uuids": []}, "client_uuids"),
        ({"client_uuids": U}, "client_uuids"),
        ({"client_uuids": [U, "lobby"]}, "client_uuids.1"),
        ({"client_uuids": [None]}, "client_uuids.0"),
        ({"filter": {"statuss": "online"}}, "filter.statuss"),
        ({"filter": {"status": "asleep"}}, "filter.status"),
        ({"filter": {"status": 7}}, "filter.status"),
        ({"filter": {"sort": "name"}}, "filter.sort"),
        ({"filter": []}, "filter"),
        ({"client_uuids": [U], "force": True}, "force"),
    ],
)
async def test_a_wrong_bulk_request_is_refused_and_nothing_is_stored(
    site: Site, body: dict[str, Any], field: str
) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    problem = await ask(operator, "POST", "/api/commands", status=422, json={"action": "reboot_host"} | body)
    assert problem["errors"][0]["field"] == field
    assert (await ask(operator, "GET", "/api/commands"))["items"] == []


async def test_a_bulk_request_is_told_before_followed_and_stopped(site: Site) -> None:
    await site.spine.beat(U)
    operator = await site.program(Role.OPERATOR)
    body = {"action": "reboot_host", "filter": {}}
    told = await ask(operator, "POST", "/api/commands/preview", json=body)
    assert told == {"results": [{"client_uuid": U, "outcome": "queued"}], "counts": {"queued": 1}}
    batch = await ask(operator, "POST", "/api/commands", status=202, json=body)
    path = f"/api/bulk/{batch['batch_id']}"
    shown = await ask(operator, "GET", path)
    assert (shown["counts"], shown["waiting"], shown["unfinished"]) == ({"queued": 1}, 1, 1)
    assert (await ask(operator, "GET", "/api/bulk"))["items"] == [shown]
    stopped = await ask(operator, "POST", f"{path}/stop")
    assert (stopped["statuses"], stopped["unfinished"]) == ({"cancelled": 1}, 0)
    (line,) = (await ask(operator, "GET", f"{path}/results"))["items"]
    assert (line["outcome"], line["status"]) == ("queued", "cancelled")


async def test_a_command_waits_for_a_silent_client(site: Site) -> None:
    await site.spine.beat(U)
    await site.spine.hear((f"{U}/presence", "offline"))
    operator = await site.program(Role.OPERATOR)
    wanted = {"action": "reboot_host", "when_back": True, "expires_in": 604_800}
    answer = await ask(operator, "POST", f"/api/clients/{U}/commands", status=202, json=wanted)
    command = answer["command"]
    assert (command["status"], command["waits_for"]) == ("queued", "client")
    shown = await ask(operator, "GET", f"/api/clients/{U}")
    assert (shown["in_flight_command"], shown["waiting_commands"]) == (None, [command])
    await ask(operator, "POST", f"/api/commands/{command['command_id']}/cancel")
    too_long = wanted | {"expires_in": 604_801}
    await ask(operator, "POST", f"/api/clients/{U}/commands", status=422, json=too_long)
