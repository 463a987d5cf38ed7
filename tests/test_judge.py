"""The judge: lines in, answers out; liberal in what it takes, and clear about what it cannot take."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infoscreen.cli import cli
from infoscreen.judge import BadLine, Judge

ONE = "00000000-0000-4000-8000-000000000001"


def beat(uuid: str = ONE, **told: Any) -> dict[str, Any]:
    body = {"timestamp": "2026-01-01T00:00:00Z", "process_status": "running", "boot_id": "b", **told}
    return {"kind": "message", "topic": f"infoscreen/{uuid}/heartbeat", "payload": body}


def world(seconds: int, crashes_at: int = 700, polls_every: int = 15) -> list[dict[str, Any]]:
    """One client that beats every 20 s and crashes."""
    lines: list[dict[str, Any]] = []
    for at in range(0, seconds, 5):
        if at % 20 == 0:
            lines.append({"at": at, **beat(process_status="crashed" if at >= crashes_at else "running")})
        if at % polls_every == 0:
            lines.append({"at": at, "kind": "poll"})
    return lines


async def answers(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    judge, found = Judge(), []
    try:
        for line in lines:
            answer = await judge.take(line)
            if answer is not None:
                found.append(answer)
    finally:
        await judge.close()
    return found


def run(text: str | bytes) -> tuple[int, list[dict[str, Any]], str]:
    result = CliRunner().invoke(cli, ["recovery", "judge"], input=text)
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


async def test_a_crash_is_noticed_decided_and_answered_with_a_command() -> None:
    found = await answers(world(900))
    statuses = [one["statuses"][ONE] for one in found if one["statuses"]]
    assert statuses == ["online", "crashed"]
    acts = [(one["at"], sent) for one in found for sent in one["published"]]
    at, sent = acts[0]
    assert 760 <= at <= 805
    assert sent["topic"] == f"infoscreen/{ONE}/commands"
    assert (sent["payload"]["action"], sent["payload"]["client_uuid"]) == ("restart_app", ONE)
    decision = next(two for one in found for two in one["decisions"] if two["verb"] == "act")
    assert (decision["client_uuid"], decision["action"]) == (ONE, "restart_app")
    assert all(two["reason"] for one in found for two in one["decisions"])


async def test_only_what_changed_is_said() -> None:
    found = await answers(world(760))
    said = [(two["verb"], two["reason"], two["until"]) for one in found for two in one["decisions"]]
    assert len(said) == len(set(said))


async def test_times_may_be_iso_and_are_answered_as_they_came() -> None:
    lines = [
        {**line, "at": f"2026-05-01T10:{line['at'] // 60:02}:{line['at'] % 60:02}Z"} for line in world(800)
    ]
    found = await answers(lines)
    assert found[-1]["at"] == lines[-1]["at"] or found[-1]["at"].startswith("2026-05-01T10:1")
    untils = [two["until"] for one in found for two in one["decisions"] if two["until"] is not None]
    assert untils
    assert all(until.startswith("2026-05-01T10:") and until.endswith("Z") for until in untils)


async def test_numbers_as_large_as_unix_time_are_unix_time() -> None:
    zero = 1_800_000_000
    found = await answers([{**line, "at": zero + line["at"]} for line in world(800)])
    sent = next(one for one in found if one["published"])
    assert sent["published"][0]["payload"]["issued_at"].startswith("2027-01-15")
    assert sent["at"] > zero


async def test_a_step_of_the_hosts_clock_moves_the_daemons_time_and_not_the_lines() -> None:
    step = {"at": 300, "kind": "clock", "step_seconds": 86_400}
    lines = world(1_500, crashes_at=1_200)
    lines.insert(next(number for number, line in enumerate(lines) if line["at"] > 300), step)
    found = await answers(lines)
    sent = [one for one in found if one["published"]]
    assert sent
    assert 1_200 < sent[0]["at"] <= 1_320
    assert sent[0]["published"][0]["payload"]["issued_at"].startswith("2026-01-02")
    assert all(two["until"] is None or 0 < two["until"] < 4_000 for one in found for two in one["decisions"])


async def test_nothing_is_published_while_the_publisher_is_away() -> None:
    lines = world(1_200)
    lines.insert(1, {"at": 0, "kind": "publisher", "connected": False})
    assert not [one for one in await answers(lines) if one["published"]]


async def test_what_comes_while_the_broker_is_away_waits_there() -> None:
    lines = [
        {"at": 0, **beat()},
        {"at": 1, "kind": "broker", "connected": False},
        {"at": 2, **beat(process_status="crashed")},
        {"at": 3, "kind": "poll"},
        {"at": 4, "kind": "broker", "connected": True},
        {"at": 5, "kind": "poll"},
    ]
    assert [one["statuses"] for one in await answers(lines)] == [{ONE: "online"}, {ONE: "crashed"}]


async def test_a_restart_of_the_daemon_keeps_what_it_knew() -> None:
    lines = [
        {"at": 0, **beat(process_status="crashed")},
        {"at": 1, "kind": "daemon", "running": False},
        {"at": 2, "kind": "poll"},
        {"at": 3, "kind": "daemon", "running": True},
        {"at": 4, "kind": "poll"},
    ]
    found = await answers(lines)
    assert found[0]["decisions"] == []
    assert [one["reason"] for one in found[1]["decisions"]] == ["observer_grace"]


async def test_an_operators_request_is_published_and_marked_as_a_persons() -> None:
    lines = [
        {"at": 0, **beat()},
        {"at": 1, "kind": "request", "uuid": ONE, "action": "reboot_host"},
        {"at": 2, "kind": "poll"},
    ]
    (answer,) = await answers(lines)
    (sent,) = answer["published"]
    assert (sent["payload"]["action"], sent["payload"]["requested_by"]) == ("reboot_host", 1)


async def test_a_pause_holds_and_maintenance_shows() -> None:
    lines = world(900)
    lines.insert(1, {"at": 0, "kind": "pause", "uuid": ONE, "reason": "we look at it", "seconds": 7_200})
    found = await answers(lines)
    assert not [one for one in found if one["published"]]
    assert "paused" in {two["reason"] for one in found for two in one["decisions"]}
    found = await answers([{"at": 0, **beat()}, {"kind": "maintenance", "uuid": ONE}, {"kind": "poll"}])
    assert found[0]["statuses"] == {ONE: "maintenance"}


async def test_clients_can_be_entered_changed_and_removed() -> None:
    lines = [
        {"at": 0, "kind": "client", "uuid": ONE.upper(), "site": "Messe", "ip": "10.0.0.7", "power": True},
        {"at": 1, "kind": "poll"},
        {"at": 2, **beat()},
        {"at": 3, "kind": "poll"},
        {"at": 4, "kind": "remove", "uuid": ONE},
        {"at": 5, "kind": "poll"},
    ]
    assert [one["statuses"] for one in await answers(lines)] == [{ONE: "never_seen"}, {ONE: "online"}, {}]


async def test_a_message_that_nobody_can_read_does_no_harm() -> None:
    lines = [
        {"at": 0, "kind": "message", "topic": "infoscreen/nobody/heartbeat", "payload": "{"},
        {
            "at": 0,
            "kind": "message",
            "topic": f"infoscreen/{ONE}/presence",
            "payload": "online",
            "retain": True,
        },
        {"at": 0, "kind": "message", "topic": f"infoscreen/{ONE}/heartbeat", "payload": "\ud800"},
        {"at": 1, "kind": "poll"},
    ]
    assert len(await answers(lines)) == 1


def test_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRASH_RECOVERY_GRACE_SECONDS", "100000")
    (tmp_path / ".env").write_text("CRASH_RECOVERY_ENABLED=false\nnot a line\n", encoding="utf-8")
    code, found, _ = run("".join(json.dumps(line) + "\n" for line in world(900)))
    assert code == 0
    assert [one for one in found if one["published"]]
    assert os.listdir(tmp_path) == [".env"]  # noqa: PTH208


def test_settings_are_the_first_line_and_unknown_ones_are_named() -> None:
    lines: list[dict[str, Any]] = [
        {"at": 0, "kind": "settings", "values": {"CRASH_RECOVERY_GRACE_SECONDS": "5", "NO_SUCH": 1}},
        *world(760),
    ]
    code, found, said = run("".join(json.dumps(line) + "\n" for line in lines))
    assert code == 0
    assert "NO_SUCH" in said
    assert next(one["at"] for one in found if one["published"]) <= 745


@pytest.mark.parametrize(
    ("lines", "number", "words"),
    [
        (["{"], 1, "not JSON"),
        (["[]"], 1, "not an object"),
        (['{"at":0,"kind":"poll"}', "", '{"at":1,"kind":"nope"}'], 3, "kind is 'nope'"),
        (['{"at":5,"kind":"poll"}', '{"at":4,"kind":"poll"}'], 2, "order of time"),
        (['{"at":"soon","kind":"poll"}'], 1, "at is 'soon'"),
        (['{"at":1e300,"kind":"poll"}'], 1, "too far away"),
        (['{"at":NaN,"kind":"poll"}'], 1, "finite"),
        (['{"at":0,"kind":"poll"}', '{"at":0,"kind":"settings","values":{}}'], 2, "only the first line"),
        (['{"at":0,"kind":"settings","values":{"RECOVERED_SECONDS":"x"}}'], 1, "RECOVERED_SECONDS"),
        (['{"at":0,"kind":"settings","values":3}'], 1, "no object"),
        (['{"at":0,"kind":"message","payload":{}}'], 1, "topic is missing"),
        (['{"at":0,"kind":"clock"}'], 1, "step_seconds is missing"),
        (['{"at":0,"kind":"client","uuid":"x"}'], 1, "wanted is a UUID"),
        ([f'{{"at":0,"kind":"client","uuid":"{ONE}","time_zone":"Mars"}}'], 1, "time_zone is 'Mars'"),
        ([f'{{"at":0,"kind":"client","uuid":"{ONE}","time_zone":"../etc"}}'], 1, "time_zone is '../etc'"),
        ([f'{{"at":0,"kind":"client","uuid":"{ONE}","hours":7}}'], 1, "hours is 7"),
        ([f'{{"at":0,"kind":"client","uuid":"{ONE}","power":"shelly"}}'], 1, "power is 'shelly'"),
        ([f'{{"at":0,"kind":"request","uuid":"{ONE}","action":"dance"}}'], 1, "action is 'dance'"),
        (['{"at":0,"kind":"broker","connected":"maybe"}'], 1, "true or false"),
    ],
)
def test_a_line_that_cannot_be_meant_ends_it_with_its_number(
    lines: list[str], number: int, words: str
) -> None:
    code, _, said = run("\n".join(lines) + "\n")
    assert code == 2
    assert said.startswith(f"line {number}: ")
    assert words in said
    assert said.count("\n") == 1


def test_text_that_is_not_utf8_is_said() -> None:
    code, _, said = run(b'{"at":0,"kind":"poll"}\n\xff\xfe\n')
    assert code == 2
    assert said == "line 2: not UTF-8: invalid start byte\n"


def test_what_an_operator_is_refused_is_a_warning() -> None:
    code, found, said = run(
        f'{{"at":0,"kind":"request","uuid":"{ONE}","action":"reboot_host"}}\n{{"kind":"poll"}}'
    )
    assert (code, len(found)) == (0, 1)
    assert "request: refused" in said


async def test_lines_out_of_order_are_refused_and_lines_without_a_time_are_now() -> None:
    judge = Judge()
    assert await judge.take({"at": 10, "kind": "poll"}) is not None
    assert await judge.take({"kind": "poll"}) is not None
    with pytest.raises(BadLine):
        await judge.take({"at": 9, **beat()})
    await judge.close()


async def test_the_same_lines_make_the_same_answers() -> None:
    assert await answers(world(900)) == await answers(world(900))


@pytest.mark.parametrize("step", [-86_400, -21_600])
async def test_a_host_clock_that_was_set_back_holds_nothing_up_for_good(step: int) -> None:
    lines = world(1_500, crashes_at=1_200)
    place = next(number for number, line in enumerate(lines) if line["at"] > 300)
    lines.insert(place, {"at": 300, "kind": "clock", "step_seconds": step})
    sent = [one["at"] for one in await answers(lines) if one["published"]]
    assert sent
    assert 1_200 < sent[0] <= 1_320


async def test_a_client_that_is_dark_outside_its_hours_is_off_hours_and_nothing_is_decided() -> None:
    hours = {"hours": "Mo-Su 08:00-10:00", "time_zone": "Europe/Berlin"}
    # 1970 began on a Thursday, at 1:00 in Berlin; at 7:00 there the hours are changed to begin now.
    lines: list[dict[str, Any]] = [{"at": 0, "kind": "client", "uuid": ONE, **hours}]
    lines += [{"at": at, **beat()} for at in range(0, 300, 20)]
    lines += [{"at": at, "kind": "poll"} for at in range(300, 5_000, 100)]
    lines.append({"at": 5_000, "kind": "client", "uuid": ONE, "hours": None})
    lines += [{"at": at, "kind": "poll"} for at in range(5_100, 6_000, 100)]
    found = await answers(lines)
    statuses = [one["statuses"][ONE] for one in found if one["statuses"]]
    assert statuses == ["online", "off_hours", "unreachable"]
    early = [two for one in found if one["at"] < 5_000 for two in one["decisions"]]
    assert early == []
    assert [two["reason"] for one in found for two in one["decisions"]][-1] == "no_outlet"
    assert all(one["published"] == [] for one in found)
