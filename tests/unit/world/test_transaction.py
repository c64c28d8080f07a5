"""What a rule writes, and what a unit does: locks, room, late locks, and mutators that leave locked items alone."""

import asyncio
import dataclasses

import msgspec
import pytest

from tests.support.memory_cluster import MemoryCluster
from world.bargain import Bargain, Phase, Side
from world.entity import Act, Container, mutator
from world.handle import Handle, Scope
from world.ids import avatar_unit, entity_id
from world.limits import AVATAR_HOLDS_ITEMS, TRADE_IDLE_S, TRADE_INVITE_S, TRADE_SILENT_MS, UNIT_HOLDS
from world.message_values import Change, Hold
from world.messages import Json
from world.results import Refusal, command_key
from world.transaction import Transaction, transaction
from world.transaction_document import holds_of, is_of, origin_of, transaction_id
from world.unit import Unit

AVATAR, OTHER = entity_id(1, 1), entity_id(1, 2)


def unit_with(items: dict[str, int]) -> Unit:
    unit = Unit.new_avatar(AVATAR, "Wren", 1.0, 1.0)
    unit._change(AVATAR, lambda real: real.receive(items))
    write(unit)
    return unit


def write(unit: Unit) -> None:
    version = unit.begin_write()
    unit.landed(version, version)


def items_of(unit: Unit) -> Json:
    return dict(unit.view(AVATAR).values["items"])


def hold(out: dict[str, int], into: dict[str, int] | None = None) -> Hold:
    return Hold([Change(AVATAR, out, into or {})])


def code_of(unit: Unit, tx: str, wanted: Hold) -> str:
    with pytest.raises(Refusal) as refused:
        unit.lock(tx, wanted)
    return refused.value.code


def test_locked_items_stay_in_sight_and_are_nobody_elses() -> None:
    unit = unit_with({"wood": 5})
    unit.lock("1.1.1.0", hold({"wood": 3}, {"stone": 2}))
    write(unit)
    assert items_of(unit) == {"wood": 5}
    assert code_of(unit, "1.1.2.0", hold({"wood": 3})) == "not_enough"
    unit.lock("1.1.3.0", hold({"wood": 2}))
    assert not unit.may_sleep
    unit.apply("1.1.1.0")
    unit.unlock("1.1.3.0")
    write(unit)
    assert items_of(unit) == {"wood": 2, "stone": 2}
    assert (unit.given, unit.gained) == ({"wood": 3}, {"stone": 2})
    assert unit.may_sleep


def test_each_step_happens_once_and_a_late_lock_is_refused() -> None:
    unit = unit_with({"wood": 5})
    for _ in range(2):
        unit.lock("1.1.1.0", hold({"wood": 3}))
    for _ in range(2):
        unit.apply("1.1.1.0")
    unit.unlock("1.1.1.0")
    write(unit)
    assert items_of(unit) == {"wood": 2}
    assert code_of(unit, "1.1.1.0", hold({"wood": 1})) == "settled"


def test_room_is_reserved() -> None:
    unit = unit_with({"wood": AVATAR_HOLDS_ITEMS - 2})
    unit.lock("1.1.1.0", hold({}, {"stone": 2}))
    assert code_of(unit, "1.1.2.0", hold({}, {"stone": 1})) == "no_room"
    unit.lock("1.1.3.0", hold({"wood": 9}, {"stone": 9}))  # no more than before
    unit.unlock("1.1.1.0")
    unit.lock("1.1.4.0", hold({}, {"stone": 2}))


def test_holds_are_bounded_and_travel_in_the_document() -> None:
    unit = unit_with({"wood": 50})
    for n in range(UNIT_HOLDS):
        unit.lock(f"1.1.{n}.0", hold({"wood": 1}))
    assert code_of(unit, "1.1.99.0", hold({"wood": 1})) == "busy"
    unit.begin_write()
    document = unit.document("gs1", 1, "w")
    again = Unit.load(unit.key, document, 7, 0)
    assert again.locks.pending == unit.locks.pending
    assert code_of(again, "1.1.99.0", hold({"wood": 50 - UNIT_HOLDS + 1})) == "busy"
    for n in range(UNIT_HOLDS):
        again.apply(f"1.1.{n}.0")
    again.begin_write()
    assert set(msgspec.json.decode(again.document("gs1", 1, "w"))["done"]) == set(unit.locks.pending)


def test_what_is_done_is_forgotten_only_when_its_intent_is_gone() -> None:
    unit = unit_with({"wood": 5})
    unit.lock("1.1.1.0", hold({"wood": 1}))
    unit.apply("1.1.1.0")
    assert unit.locks.old() == []
    assert unit.locks.old() == ["1.1.1.0"]
    unit.locks.forget(["1.1.1.0"])
    unit.lock("1.1.1.0", hold({"wood": 1}))  # whoever looks for its intent finds none, and aborts it


def test_a_mutator_that_takes_locked_items_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    @mutator
    def burn(self: Container, act: Act) -> Json:
        self.stock = dict.fromkeys(self.stock, 0)
        return {}

    unit = unit_with({"wood": 5})
    table = unit.entities[AVATAR].TABLE
    monkeypatch.setattr(type(unit.entities[AVATAR]), "TABLE", dataclasses.replace(table, mutators={"burn": burn}))
    unit.lock("1.1.1.0", hold({"wood": 1}))
    with pytest.raises(Refusal, match="busy"):
        unit.invoke(AVATAR, "burn", {}, command_key(unit.key, 1, 1))
    write(unit)
    assert items_of(unit) == {"wood": 5}


def test_ids_name_the_command_and_every_repeat_has_the_same() -> None:
    key = command_key(avatar_unit(AVATAR), 3, 17)
    tx = transaction_id(key)
    assert tx == f"{AVATAR}.3.17.0"
    assert is_of(tx, key)
    assert not is_of(tx, command_key(avatar_unit(AVATAR), 3, 1))
    assert origin_of(tx) == avatar_unit(AVATAR)
    holds = holds_of([Change(OTHER, {"wood": 1})], key, {"done": True})
    assert list(holds) == sorted(holds) == [avatar_unit(AVATAR), avatar_unit(OTHER)], "the actor takes part"
    assert [len(h.saves) for h in holds.values()] == [2, 0]


# -- what a rule writes ----------------------------------------------------------------------------------------------
def two() -> tuple[MemoryCluster, Handle, Handle]:
    cluster = MemoryCluster(2, (0, 0, 1), ("Ann", "Bob"))
    ann, bob = cluster.avatars["Ann"], cluster.avatars["Bob"]
    unit = cluster.unit(avatar_unit(ann))
    unit._change(ann, lambda real: real.receive({"wood": 5}))
    unit.save()
    cluster.commit(unit)
    scope = Scope(cluster.owner(avatar_unit(ann)), command_key(avatar_unit(ann), 1, 1))
    return cluster, Handle(ann, scope, own=True), Handle(bob, scope)


async def gift(ann: Handle, bob: Handle, count: int) -> None:
    async with transaction(ann, bob) as tx:
        tx.move(ann, bob, {"wood": count})


def test_a_rule_moves_items_once() -> None:
    cluster, ann, bob = two()
    asyncio.run(gift(ann, bob, 3))
    again = Scope(ann.scope.runtime, ann.scope.key)
    asyncio.run(gift(Handle(ann.id, again, own=True), Handle(bob.id, again), 3))
    assert dict(ann.items) == {"wood": 2}
    assert cluster.unit(avatar_unit(bob.id)).view(bob.id).values["items"] == {"wood": 3}


def test_a_refusal_leaves_all_as_it_was() -> None:
    cluster, ann, bob = two()
    with pytest.raises(Refusal, match="not_enough"):
        asyncio.run(gift(ann, bob, 6))
    with pytest.raises(Refusal, match="bad_arguments"):
        asyncio.run(gift(ann, bob, 0))
    with pytest.raises(ValueError, match="between"):
        transaction(ann)

    async def changes_its_mind() -> None:
        async with transaction(ann, bob) as tx:
            tx.move(ann, bob, {"wood": 1})
            raise Refusal("too_far")

    with pytest.raises(Refusal, match="too_far"):
        asyncio.run(changes_its_mind())
    assert dict(ann.items) == {"wood": 5}
    assert all(not unit.locks.pending for server in cluster.servers for unit in server.units.values())
    assert isinstance(transaction(ann, bob), Transaction)


# -- the negotiation ---------------------------------------------------------------------------------------------------
def bargain() -> Bargain:
    return Bargain("t", Side(AVATAR, "Ann", 0.0, 0.0), Side(OTHER, "Bob", 1.0, 0.0))


def test_a_confirmation_is_of_one_version_and_ends_in_a_commit() -> None:
    trade = bargain()
    assert trade.view(AVATAR)["state"] == "inviting"
    assert trade.view(OTHER)["state"] == "invited"
    trade.act(OTHER, "accept", {}, "b1", 1.0)
    assert trade.act(AVATAR, "offer", {"items": {"wood": 1}}, "a1", 1.0) == {"version": 2}
    assert trade.act(AVATAR, "confirm", {"version": 2, "commit": "x"}, "a2", 1.0) == {}
    assert trade.act(OTHER, "offer", {"items": {"stone": 1}}, "b2", 1.0) == {"version": 3}
    assert not trade.view(AVATAR)["i_confirmed"]
    assert trade.act(OTHER, "offer", {"items": {"stone": 1}}, "b2", 1.0) == {"version": 3}, "a repeat"
    with pytest.raises(Refusal, match="trade_changed"):
        trade.act(AVATAR, "confirm", {"version": 2, "commit": "x"}, "a3", 1.0)
    trade.act(AVATAR, "confirm", {"version": 3, "commit": "x"}, "a4", 1.0)
    agreed = trade.act(OTHER, "confirm", {"version": 3, "commit": "y"}, "b3", 1.0)
    assert agreed == {"partner": AVATAR, "mine": {"stone": 1}, "theirs": {"wood": 1}}
    with pytest.raises(Refusal, match="trade_closed"):
        trade.act(AVATAR, "cancel", {}, "a5", 1.0)
    trade.act(OTHER, "end", {"code": "busy", "commit": "x"}, "", 1.0)
    assert trade.phase is Phase.COMMITTING, "news of another commit"
    trade.act(OTHER, "end", {"code": "busy", "commit": "y"}, "", 1.0)
    assert (trade.phase, trade.version) == (Phase.OPEN, 4), "nothing happened: confirm anew"


@pytest.mark.parametrize(("code", "state", "reason"), [("", "committed", ""), ("no_room", "closed", "no_room")])
def test_a_commit_ends_it(code: str, state: str, reason: str) -> None:
    trade = bargain()
    trade.phase, trade.commit = Phase.COMMITTING, "y"
    trade.act(OTHER, "end", {"code": code, "commit": "y"}, "", 1.0)
    assert (trade.view(AVATAR)["state"], trade.view(AVATAR)["reason"]) == (state, reason)
    assert not trade.look(1e9), "over is over"


@pytest.mark.parametrize(
    ("phase", "now_ms", "reason"),
    [
        (Phase.INVITED, TRADE_INVITE_S * 1_000 + 1, "timeout"),
        (Phase.OPEN, TRADE_IDLE_S * 1_000 + 1, "timeout"),
        (Phase.OPEN, TRADE_SILENT_MS + 1, "lost"),
        (Phase.OPEN, 1, "too_far"),
    ],
)
def test_time_silence_and_distance_end_it(phase: Phase, now_ms: float, reason: str) -> None:
    trade = bargain()
    trade.phase = phase
    if reason != "lost":
        trade.partner.heard_ms = now_ms
    if reason == "too_far":
        trade.hear(OTHER, 1_000.0, 0.0, now_ms)
    assert trade.look(now_ms)
    assert (trade.phase, trade.reason) == (Phase.CLOSED, reason)
