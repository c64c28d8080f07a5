"""The unit's versions, views, documents and bounds, one behaviour each."""

import msgspec
import pytest

from tests.support.unit_world import REGION, SEED
from world.entity import COMMIT, WRITE_BEHIND, Entity
from world.ids import avatar_unit, entity_id
from world.limits import REGROW_MS, UNIT_OUTBOX_ENTRIES, UNIT_RESULTS
from world.messages import Actor, Deliver, Key
from world.results import Outcome, Refusal, call_key, command_key
from world.unit import AttachNumber, BadDocument, Head, Unit

AVATAR = entity_id(1, 7)
KEY = avatar_unit(AVATAR)


def write(unit: Unit, cas: int = 1) -> bytes:
    version = unit.begin_write()
    value = unit.document("gs1", 1, "w")
    unit.landed(version, cas)
    return value


def region() -> Unit:
    x, y = (int(v) for v in REGION.removeprefix("region:").split(","))
    unit = Unit.new_region(x, y, SEED)
    write(unit)
    return unit


def avatar() -> Unit:
    unit = Unit.new_avatar(AVATAR, "Wren", 10.0, 20.0)
    write(unit)
    return unit


def tree_of(unit: Unit) -> Entity:
    return next(e for e in unit.entities.values() if e.TABLE.name == "tree")


def near(node: Entity, distance: float = 1.0) -> Actor:
    return Actor(AVATAR, 1, "Wren", node.x + distance, node.y, 4.0)


def key(number: int, *, session: int = 1, floor: int = 0, digest: str = "") -> Key:
    return call_key(command_key(KEY, session, number, floor, digest), REGION, "chop", 0)


def chop(unit: Unit, number: int = 1, *, session: int = 1, floor: int = 0, distance: float = 1.0) -> int:
    tree = tree_of(unit)
    return unit.invoke(tree.id, "chop", {}, key(number, session=session, floor=floor), near(tree, distance)).version


def code_of(refused: "pytest.ExceptionInfo[Refusal]") -> str:
    return refused.value.code


def test_everyone_else_sees_only_what_is_committed() -> None:
    unit = region()
    tree = tree_of(unit)
    chop(unit)
    assert unit.view(tree.id).values["wood"] == 5
    version = unit.begin_write()
    assert unit.view(tree.id).values["wood"] == 5
    changed = unit.landed(version, 2)
    assert unit.view(tree.id).values["wood"] == 4
    assert [(p.entity, p.version, p.body) for p in changed] == [(tree.id, version, b"[4]")]


def test_operations_during_a_write_join_the_next() -> None:
    unit = region()
    tree = tree_of(unit)
    first = chop(unit, 1)
    assert unit.begin_write() == first
    assert chop(unit, 2) == first + 1
    frozen = unit.document("gs1", 1, "a")
    assert unit.document("gs1", 1, "a") == frozen
    assert [p.body for p in unit.landed(first, 2)] == [b"[4]"]
    assert len(unit.outbox_entries()) == 1
    version = unit.begin_write()
    assert [p.body for p in unit.landed(version, 3)] == [b"[3]"]
    assert unit.view(tree.id).values["wood"] == 3


def test_a_write_that_failed_joins_the_next() -> None:
    unit = region()
    version = chop(unit)
    unit.begin_write()
    assert unit.writing == version
    unit.write_failed()
    assert unit.dirty is COMMIT
    assert unit.begin_write() == version
    assert [p.body for p in unit.landed(version, 2)] == [b"[4]"]


def test_the_same_key_answers_the_saved_result() -> None:
    unit = region()
    tree = tree_of(unit)
    chop(unit)
    assert chop(unit) == unit.awaited
    assert tree.values["wood"] == 4
    write(unit)
    assert chop(unit) == unit.committed


def test_the_same_key_with_other_arguments_is_refused() -> None:
    unit = region()
    tree = tree_of(unit)
    chop(unit)
    with pytest.raises(Refusal) as refused:
        unit.invoke(tree.id, "chop", {"twice": True}, key(1), near(tree))
    assert code_of(refused) == "key_reused"


@pytest.mark.parametrize(("session", "number"), [(2, 3), (2, 2), (1, 9)])
def test_what_is_settled_is_refused(session: int, number: int) -> None:
    unit = region()
    chop(unit, 5, session=2, floor=3)
    with pytest.raises(Refusal) as refused:
        chop(unit, number, session=session)
    assert code_of(refused) == "settled"


def test_a_refusal_changes_nothing_and_is_remembered() -> None:
    unit = region()
    tree = tree_of(unit)
    with pytest.raises(Refusal) as refused:
        chop(unit, 1, distance=5.0)
    assert code_of(refused) == "too_far"
    assert unit.dirty is None
    assert tree.values["wood"] == 5
    with pytest.raises(Refusal) as again:  # the same operation, though the actor has come closer
        chop(unit, 1, distance=1.0)
    assert code_of(again) == "too_far"


def test_a_refusal_waits_for_the_version_it_has_seen() -> None:
    unit = region()
    for n in range(1, 6):
        chop(unit, n)
    with pytest.raises(Refusal) as refused:
        chop(unit, 6)
    assert code_of(refused) == "depleted"
    assert refused.value.version == unit.committed + 1


def test_a_mutator_that_breaks_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = region()
    tree = tree_of(unit)

    def give(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("world.entity.Act.give", give)
    with pytest.raises(ZeroDivisionError):
        chop(unit)
    assert tree.values["wood"] == 5
    assert unit.dirty is None
    assert not unit.outbox.entries


def test_a_full_outbox_refuses_before_anything_changes() -> None:
    unit = region()
    tree = tree_of(unit)
    for _ in range(UNIT_OUTBOX_ENTRIES):
        unit.outbox.add(KEY, {"wood": 1}, None, {})
    with pytest.raises(Refusal) as refused:
        chop(unit)
    assert code_of(refused) == "busy"
    assert tree.values["wood"] == 5
    unit.outbox.delivered(1)
    chop(unit)  # busy is not remembered: the same key may come again
    assert tree.values["wood"] == 4


def test_results_of_one_origin_are_bounded_until_its_floor_rises() -> None:
    unit = avatar()
    for n in range(1, UNIT_RESULTS + 1):
        unit.record_result(command_key(KEY, 1, n), Outcome(True))
    with pytest.raises(Refusal) as refused:
        unit.record_result(command_key(KEY, 1, UNIT_RESULTS + 1), Outcome(True))
    assert code_of(refused) == "busy"
    unit.record_result(command_key(KEY, 1, UNIT_RESULTS + 1, floor=2), Outcome(True))


def delivery(n: int = 1, floor: int = 0, cause: Key | None = None) -> Deliver:
    return Deliver(REGION, 1, n, floor, KEY, 1, {"wood": 2}, cause, {"items": {"wood": 2}})


def test_a_delivery_is_applied_once_and_saves_the_commands_result() -> None:
    unit = avatar()
    cause = command_key(KEY, 1, 4, digest="abc")
    version = unit.deliver(delivery(cause=cause))
    assert unit.deliver(delivery(cause=cause)) == version
    assert unit.result(cause) == (Outcome(True, {"items": {"wood": 2}}), version)
    with pytest.raises(Refusal) as refused:
        unit.result(command_key(KEY, 1, 4, digest="other"))
    assert code_of(refused) == "key_reused"
    write(unit)
    assert unit.view(AVATAR).values["items"] == {"wood": 2}
    assert unit.deliver(delivery()) == unit.committed


def test_a_delivery_of_a_settled_command_still_arrives() -> None:
    unit = avatar()
    unit.attach_number = AttachNumber(3, 1, "gw1")
    unit.record_result(command_key(KEY, 3, 1), Outcome(True))
    unit.deliver(delivery(cause=command_key(KEY, 2, 4)))
    write(unit)
    assert unit.view(AVATAR).values["items"] == {"wood": 2}


def test_an_id_at_or_below_the_floor_counts_as_applied() -> None:
    unit = avatar()
    unit.deliver(delivery(9, floor=8))
    unit.deliver(delivery(8, floor=5))
    write(unit)
    assert unit.view(AVATAR).values["items"] == {"wood": 2}
    assert unit.received.rows() == {REGION: (8, [9])}


def test_a_delivery_is_taken_with_every_bound_reached() -> None:
    unit = avatar()
    for n in range(1, UNIT_RESULTS + 1):
        unit.record_result(command_key(KEY, 1, n), Outcome(True))
    cause = command_key(KEY, 1, UNIT_RESULTS + 1)
    unit.deliver(delivery(cause=cause))
    assert unit.result(cause) is not None


def test_a_unit_comes_back_from_its_document() -> None:
    unit = region()
    chop(unit, 1)
    loaded = Unit.load(REGION, write(unit, 5), 5, SEED)
    assert (loaded.cas, loaded.epoch, loaded.committed) == (5, 1, unit.committed)
    assert loaded.outbox_entries() == unit.outbox_entries()
    assert loaded.view(tree_of(loaded).id).values["wood"] == 4
    assert loaded.take() == 2
    tree = tree_of(loaded)
    again = loaded.invoke(tree.id, "chop", {}, key(1), near(tree))
    assert again.value == {"items": {"wood": 1}}
    assert tree.values["wood"] == 4


def test_a_document_holds_only_what_differs_from_the_seed() -> None:
    unit = region()
    chop(unit)
    data = msgspec.json.decode(write(unit))["data"]
    assert data["entities"] == {str(tree_of(unit).id): {"wood": 4}}


def test_unknown_fields_and_entities_of_a_newer_version_survive() -> None:
    unit = avatar()
    document = msgspec.json.decode(write(unit))
    document["data"]["entities"][str(AVATAR)]["mood"] = "merry"
    document["data"]["entities"]["12345"] = {"odd": 1}
    document["later"] = True
    loaded = Unit.load(KEY, msgspec.json.encode(document), 1, SEED)
    again = msgspec.json.decode(write(loaded))["data"]["entities"]
    assert again[str(AVATAR)]["mood"] == "merry"
    assert again["12345"] == {"odd": 1}


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{", b'{"epoch":-1}', b'{"data":{"entities":{"x":{}}}}', b'{"data":' + b"[" * 5000]
)
def test_damaged_documents_are_named(value: bytes) -> None:
    with pytest.raises(BadDocument):
        Unit.load(KEY, value, 1, SEED)


@pytest.mark.parametrize("name", ["region:1", "region:a,b", "region:99,0", "avatar:x", f"avatar:{31 << 48}"])
def test_keys_that_name_no_unit_are_bad_documents(name: str) -> None:
    with pytest.raises(BadDocument):
        Unit.load(name, b"{}", 1, SEED)


def test_a_release_keeps_the_epoch_and_names_nobody() -> None:
    unit = avatar()
    unit.begin_write()
    head = Head.parse(unit.document("", 0, "w9"))
    assert (head.owner, head.epoch, head.version, head.write_id) == ("", 1, 2, "w9")


def test_places_are_volatile_and_travel_with_the_next_write() -> None:
    unit = avatar()
    unit.place(AVATAR, 5.5, 6.5)
    assert unit.dirty is None
    unit.save()
    loaded = Unit.load(KEY, write(unit), 2, SEED)
    assert loaded.view(AVATAR)[2:4] == (5.5, 6.5)


def test_the_attach_number_is_kept_and_a_new_session_settles_the_old() -> None:
    unit = avatar()
    unit.record_result(command_key(KEY, 1, 1), Outcome(True, {"x": 1}))
    unit.attach_number = AttachNumber(2, 1, "gw2")
    loaded = Unit.load(KEY, write(unit), 2, SEED)
    assert loaded.attach_number == (2, 1, "gw2")
    with pytest.raises(Refusal) as refused:
        loaded.result(command_key(KEY, 1, 1))
    assert code_of(refused) == "settled"


def test_a_receipt_is_written_behind_and_then_the_unit_may_sleep() -> None:
    unit = region()
    chop(unit)
    write(unit)
    assert not unit.may_sleep
    unit.delivered(1)
    assert unit.dirty is WRITE_BEHIND
    assert unit.awaited == unit.committed
    assert not unit.may_sleep
    write(unit)
    assert unit.may_sleep


def test_nodes_grow_back_by_world_time_up_to_what_they_hold() -> None:
    unit = region()
    tree = tree_of(unit)
    unit.elapse(10 * REGROW_MS)
    for n in range(1, 4):
        chop(unit, n)
    unit.elapse(11 * REGROW_MS)
    assert tree.values["wood"] == 3
    loaded = Unit.load(REGION, write(unit), 2, SEED)
    loaded.elapse(11 * REGROW_MS + REGROW_MS // 2)
    assert tree_of(loaded).values["wood"] == 3
    loaded.elapse(90 * REGROW_MS)
    assert tree_of(loaded).values["wood"] == 5
    assert loaded.dirty is WRITE_BEHIND


def test_world_time_going_back_grows_nothing() -> None:
    unit = region()
    unit.elapse(90 * REGROW_MS)
    chop(unit)
    unit.elapse(10 * REGROW_MS)
    assert tree_of(unit).values["wood"] == 4


def test_properties_name_every_public_group_with_its_version() -> None:
    unit = region()
    chop(unit)
    write(unit)
    rows = list(unit.properties())
    assert len(rows) == len(unit.entities)
    assert {p.version for p in rows if p.entity == tree_of(unit).id} == {2}
    assert {p.version for p in rows if p.entity != tree_of(unit).id} == {0}
    assert [p.body for p in avatar().properties()] == [b'["Wren"]']
