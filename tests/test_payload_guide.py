"""The guide for client teams tells the truth: tables, examples, mistakes, and what it says to type."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infoscreen.domain.error_codes import MessageDefect, reason_of
from infoscreen.storage import rejected
from infoscreen.wire import examples, topics
from infoscreen.wire.asyncapi import document
from infoscreen.wire.base import Message, State, described
from infoscreen.wire.messages import (
    Command,
    CommandAck,
    Discovery,
    Health,
    Heartbeat,
    LogLine,
    ServiceFailed,
    decode,
    decode_command,
)
from tests.broker import Broker
from tests.daemon import installed
from tests.pages import blocks, demo_env, page, require_infoscreen, shell, steps
from tests.programs import require
from tests.spine import Spine, open_spine, sqlite_url, uuid_of

GUIDE = "docs/MQTT_EVENT_PAYLOAD_GUIDE.md"
UUID = str(examples.DEVICE)
KINDS = (Heartbeat, Health, ServiceFailed, Discovery, LogLine, Command, CommandAck)


@dataclass(frozen=True)
class Mistake:
    """A row of the table of rejected messages."""

    reason: str
    topic: str
    payload: bytes


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose heading begins like this."""
    lines = text[text.index(f"\n{heading}") + 1 :].splitlines()[2:]
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def mistakes() -> list[Mistake]:
    return [
        Mistake(reason.strip("`"), topic.strip("`").replace("{uuid}", UUID), _payload(payload))
        for reason, topic, payload, _ in rows(page(GUIDE), "| reason |")
    ]


def _payload(cell: str) -> bytes:
    repeated = re.fullmatch(r"([\d,]+) times `(.)`", cell)
    if repeated:
        return repeated[2].encode() * int(repeated[1].replace(",", ""))
    return cell.removeprefix("`").removesuffix("`").encode()


def told_examples() -> Iterator[tuple[str, bytes]]:
    """Yield the topic and payload of each JSON example."""
    for block in blocks(page(GUIDE)):
        if block.language == "json":
            topic = re.findall(r"[Oo]n `(infoscreen/\S+)`", block.before)[-1]
            yield topic.replace("{uuid}", UUID), block.text.encode()


def fields(model: type[Message | State], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield each field's name and whether it must be there, those of blocks with the block's name before."""
    for name, field in described(model).model_fields.items():
        yield prefix + name, field.is_required()
        inner = [one for one in getattr(field.annotation, "__args__", ()) if isinstance(one, type)]
        for block in inner:
            if issubclass(block, Message | State):
                yield from fields(block, f"{prefix}{name}.")


@pytest.mark.parametrize("model", KINDS)
def test_the_table_of_a_message_has_its_fields_and_says_which_are_required(
    model: type[Message | State],
) -> None:
    chapter = page(GUIDE).split(f"\n### {model.__name__}\n")[1]
    words = {cells[0].strip("`"): cells[2] for cells in rows(chapter, "| field |")}
    if model is Command:
        assert words == dict.fromkeys(Command.model_fields, "always")
    else:
        assert words == {name: "required" if must else "optional" for name, must in fields(model)}


def test_the_table_of_topics_agrees_with_the_asyncapi_document() -> None:
    described = document()
    wanted = set()
    for operation in described["operations"].values():
        address = described["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["address"]
        if operation["action"] == "receive" or address in (
            topics.commands("{uuid}"),
            topics.command_alias("{uuid}"),
        ):
            binding = operation["bindings"]["mqtt"]
            wanted.add((address, operation["action"], binding["qos"], binding["retain"]))
    told = {
        (
            topic.strip("`"),
            {"device to daemon": "receive", "daemon to device": "send"}[direction],
            int(qos.removeprefix("0 or ")),
            {"yes": True, "no": False, "never": False}[retained],
        )
        for topic, direction, qos, retained, _ in rows(page(GUIDE), "| topic |")
    }
    assert told == wanted


def test_the_examples_decode_to_the_full_messages() -> None:
    decoded = [
        decode_command(payload) if topic == topics.commands(UUID) else decode(topics.parse(topic), payload)
        for topic, payload in told_examples()
    ]
    assert decoded == [
        Heartbeat(timestamp=examples.NOW),
        examples.HEARTBEAT,
        examples.HEALTH,
        examples.SERVICE_FAILED,
        examples.DISCOVERY,
        examples.LOG_LINE,
        examples.REBOOT,
        examples.ACCEPTED,
        examples.EXPIRED,
    ]


@pytest.mark.parametrize("mistake", mistakes(), ids=lambda mistake: f"{mistake.reason}-{mistake.topic[-12:]}")
async def test_a_mistake_is_rejected_for_the_reason_the_guide_says(tmp_path: Path, mistake: Mistake) -> None:
    async with open_spine(sqlite_url(tmp_path), auto_register=mistake.reason != "unknown_client") as spine:
        payload = mistake.payload
        if mistake.reason == "foreign_command":
            payload = payload.replace(b"{other}", await _command_of_another(spine))
        topic = mistake.topic.removeprefix("infoscreen/")
        await spine.hear((topic, payload))
        async with spine.store.read() as connection:
            kept = (await rejected.page(connection, 10)).items
        assert [message.reason for message in kept] == [mistake.reason]


async def _command_of_another(spine: Spine) -> bytes:
    await spine.beat(uuid_of(2))
    return (await spine.request(uuid_of(2))).command_id.encode()


def test_every_reason_that_the_code_knows_is_in_the_guide() -> None:
    known = {reason_of(defect) for defect in MessageDefect if defect is not MessageDefect.TEXT}
    assert len(known) == 9
    assert {mistake.reason for mistake in mistakes()} == known


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_the_guide_says_to_type_prints_what_it_says(tmp_path: Path, broker: Broker) -> None:
    for program in ("curl", "jq", "mosquitto_pub", "mosquitto_sub"):
        require(program)
    require_infoscreen()
    desk, hand = tmp_path / "desk", "7d0c1f5a-54d0-4b6a-9aaa-6f1c5c0a7d0c"
    desk.mkdir()
    await broker.add_device(hand)
    async with installed(tmp_path / "daemon", broker, CRASH_RECOVERY_POLL_SECONDS=0.2) as daemon:
        await daemon.start()
        (desk / "demo.env").write_text(demo_env(daemon, broker, hand), encoding="utf-8")
        async with shell(desk) as typing:
            await typing.follow(steps(page(GUIDE)))
    assert [path.name for path in desk.iterdir() if path.name != ".block.sh"] == []
