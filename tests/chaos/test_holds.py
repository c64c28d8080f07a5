"""How long anything was on its way, from pictures: too short a time would hide what the bound is there to find."""

from typing import Any

import msgspec

from tests.chaos.holds import Holds, Lasted, held
from world.limits import FORMAT
from world.message_values import Hold
from world.transaction_document import ABORTED, COMMITTED, PENDING, Intent
from world.transfer import Entry
from world.unit_document import Data, OutboxData, UnitDocument

LOCKED = ("locked", "avatar:1", "1.1.1.0")


def unit(**fields: Any) -> bytes:
    return msgspec.json.encode(UnitDocument(Data(), format=FORMAT, **fields))


def picture(locked: bool) -> dict[str, bytes]:
    return {"avatar:1": unit(pending={"1.1.1.0": Hold([])} if locked else {})}


def test_a_picture_shows_locks_open_intents_and_transfers() -> None:
    documents = {
        "avatar:1": unit(pending={"1.1.1.0": Hold([])}, done={"1.1.0.0": 1}),
        "region:0,0": unit(outbox=OutboxData(9, [Entry(8, "avatar:1", {"wood": 1}), Entry(9, "avatar:2", {})])),
        "tx:1.1.1.0": Intent(PENDING).encode("w"),
        "tx:1.1.2.0": Intent(COMMITTED).encode("w"),
        "tx:1.1.3.0": Intent(ABORTED).encode("w"),
    }
    assert set(held(documents)) == {
        LOCKED,
        ("transfer", "region:0,0", "8"),
        ("transfer", "region:0,0", "9"),
        ("intent", "1.1.1.0", PENDING),
        ("intent", "1.1.2.0", COMMITTED),
    }


def test_what_lasted_is_between_its_pictures_and_those_around_them() -> None:
    holds = Holds()
    assert holds.look(picture(False), 9.0, 9.5) == []
    assert holds.look(picture(True), 10.0, 10.5) == []
    assert holds.look(picture(True), 30.0, 30.5) == []
    assert holds.look(picture(False), 31.0, 31.5) == [Lasted(LOCKED, 19.5, 22.5)]
    assert holds.look(picture(False), 32.0, 32.5) == holds.left(33.0) == []


def test_what_is_there_to_the_end_is_told_at_the_end() -> None:
    holds = Holds()
    holds.look(picture(False), 1.0, 1.0)
    holds.look(picture(True), 2.0, 2.0)
    holds.look(picture(True), 42.0, 42.0)
    assert holds.left(43.0) == [Lasted(LOCKED, 40.0, 42.0)]


def test_who_is_locked_anew_by_another_was_not_locked_all_the_time() -> None:
    holds = Holds()
    holds.look(picture(True), 1.0, 1.0)
    other = {"avatar:1": unit(pending={"1.1.2.0": Hold([])})}
    assert holds.look(other, 2.0, 2.0) == [Lasted(LOCKED, 0.0, 1.0)]
    assert [lasted.hold[2] for lasted in holds.left(3.0)] == ["1.1.2.0"]
