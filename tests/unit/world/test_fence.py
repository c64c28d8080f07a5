"""Epochs and generations: old owners and old processes are not believed."""

from world.fence import EpochFence, Generations, Hint, Standing, heed


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


def test_a_hint_is_only_a_hint() -> None:
    assert heed(None, 4) is Hint.MOVED
    assert heed(4, 3) is Hint.SERVE
    assert heed(4, 4) is Hint.SERVE
    assert heed(4, 5) is Hint.REREAD


def test_generations_rise_and_the_dead_stay_dead() -> None:
    known = Generations()
    assert known.saw("gs1", 1) is Standing.LIVE
    assert known.verdict("gs1", 1)
    assert not known.verdict("gs1", 1)
    assert known.saw("gs1", 1) is Standing.DEAD
    assert known.saw("gs1", 2) is Standing.LIVE
    assert known.saw("gs1", 3) is Standing.LIVE
    assert known.saw("gs1", 2) is Standing.OLD
    assert known.highest("gs1") == 3
    assert known.highest("gs9") == 0


def test_nodes_are_bounded() -> None:
    known = Generations(capacity=1)
    known.saw("gs1", 4)
    known.saw("gs2", 1)
    assert known.highest("gs1") == 0
