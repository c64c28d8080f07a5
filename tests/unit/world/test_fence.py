"""Epochs: old owners are not believed."""

from world.fence import EpochFence


def test_a_message_from_below_the_highest_epoch_is_dropped() -> None:
    fence = EpochFence()
    assert fence.admit("avatar:1", 3)
    assert fence.admit("avatar:1", 3)
    assert not fence.admit("avatar:1", 2)
    assert fence.admit("avatar:1", 4)
    assert fence.highest("avatar:1") == 4
    assert fence.dropped == 1


def test_units_are_bounded_and_the_longest_unheard_goes_first() -> None:
    fence = EpochFence(capacity=2)
    for unit in ("a", "b", "a", "c"):
        fence.admit(unit, 5)
    assert (fence.highest("a"), fence.highest("b"), fence.forgotten) == (5, None, 1)
