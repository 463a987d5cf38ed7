"""A new key: every stored secret is encrypted with it, and the older key can be taken away."""

from pathlib import Path

import pytest
from sqlalchemy import Text

from infoscreen.domain.notifying import ChannelKind
from infoscreen.power.registry import open_outlet
from infoscreen.services.power.outlets import Outlets, WantedPower
from infoscreen.services.resealing import AT_ONCE, PURPOSES, Resealing
from infoscreen.services.secrets import Secrets
from infoscreen.storage import sealed
from infoscreen.storage.tables import metadata
from tests.receivers import FakeSender
from tests.spine import ADMIN, open_spine, sqlite_url, uuid_of
from tests.web import notifying_of

OLD, NEW, LOST = bytes(range(40)), bytes(range(50, 90)), bytes(range(100, 140))
TOO_MANY = AT_ONCE + 5


def test_every_column_with_sealed_texts_is_known() -> None:
    assert set(PURPOSES) == set(sealed.COLUMNS)
    found = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, Text) and ("sealed" in column.name or column.name == "offered")
    }
    assert {(one.table.name, one.column.name) for one in sealed.COLUMNS} == found


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def test_secrets_are_sealed_again_and_the_older_key_can_go(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    url = sqlite_url(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as spine:
        lost = notifying_of(spine, FakeSender(), Secrets([LOST]))
        await lost.add_channel("lost", ChannelKind.WEBHOOK, "https://lost.example/", "en", ADMIN)
        before = notifying_of(spine, FakeSender(), Secrets([OLD]))
        await before.add_channel("hook", ChannelKind.WEBHOOK, "https://one.example/", "en", ADMIN, "secret")
        await before.add_channel("mail", ChannelKind.APPRISE, "json://two", "en", ADMIN)
        outlets = Outlets(spine.store, spine.clock, spine.bus, Secrets([OLD]), open_outlet)
        uuids = [uuid_of(number) for number in range(TOO_MANY)]
        await spine.hear(*((f"{uuid}/presence", "online") for uuid in uuids))
        for number, uuid in enumerate(uuids):
            wanted = WantedPower(
                driver="shelly", address=f"http://192.0.2.{number}", outlet="0", secrets={"password": "pw"}
            )
            await outlets.configure(uuid, wanted, ADMIN)
        assert await Resealing(spine.store, spine.clock, Secrets()).step() == 0
        assert await Resealing(spine.store, spine.clock, Secrets([OLD])).step() == 0
        both = Resealing(spine.store, spine.clock, Secrets([NEW, OLD]))
        assert await both.step() == 3 + TOO_MANY
        assert await both.step() == 0
        now = notifying_of(spine, FakeSender(), Secrets([NEW]))
        for number, url in ((2, "https://one.example/"), (3, "json://two")):
            assert now._delivery.receiver(await now.channel(number)).url == url
        assert now.trouble_of(await now.channel(1)) is not None
        async with spine.store.read() as connection:
            for where in sealed.COLUMNS:
                rows = await sealed.not_under(connection, where, Secrets([NEW]).prefix or "", None, 10)
                expected = where in (sealed.CHANNEL_URL, sealed.CHANNEL_SECRET)  # of the lost key
                assert len(rows) == expected
