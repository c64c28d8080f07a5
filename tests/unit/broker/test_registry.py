"""What is worth a push."""

import msgspec

from broker.registry import Registry
from world.messages import BookPage, Member

GS1 = Member("gameserver", "gs1", 1, "tcp://a", status="ready")
GW1 = Member("gateway", "gw1", 1, "tcp://b")


def test_each_change_is_pushed_once() -> None:
    registry = Registry()
    assert registry.due(BookPage([GS1]))
    assert not registry.due(BookPage([GS1]))
    assert registry.due(BookPage([GW1, GS1]))
    assert not registry.due(BookPage([GS1, GW1])), "the order says nothing"
    assert registry.due(BookPage([GS1, GW1], [("gs2", 4)]))
    assert registry.due(BookPage([GS1], [("gs2", 4)])), "somebody fell silent"
    assert registry.pushes == 4


def test_a_load_is_no_change_and_an_address_is() -> None:
    registry = Registry()
    registry.due(BookPage([GS1]))
    assert not registry.due(BookPage([msgspec.structs.replace(GS1, load={"avatars": 3})]))
    for change in ({"command": "tcp://c"}, {"generation": 2}, {"status": "draining"}, {"state": "tcp://d"}):
        assert registry.due(BookPage([msgspec.structs.replace(GS1, **change)]))


def test_members_are_counted_by_role() -> None:
    assert Registry.by_role([GS1, GW1]) == {"gameserver": 1, "gateway": 1}
