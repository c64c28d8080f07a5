"""World time estimates."""

from runtime.mesh.worldtime import WorldTimeEstimate
from world.limits import CLOCK_SAMPLES


def test_of_each_peer_the_shortest_round_trip_counts() -> None:
    estimate = WorldTimeEstimate()
    estimate.measured("a", 0, 100, 1_090)  # the answer took 90 of the 100 ms: off by 40
    estimate.measured("a", 200, 202, 1_201)
    assert estimate.joining() == 1_000
    assert WorldTimeEstimate().joining() is None


def test_samples_grow_old() -> None:
    estimate = WorldTimeEstimate()
    estimate.measured("a", 0, 2, 1_001)
    for n in range(CLOCK_SAMPLES):
        estimate.measured("a", 100 * n, 100 * n + 10, 100 * n + 2_005)
    assert estimate.joining() == 2_000


def test_one_wrong_clock_moves_nobody_far() -> None:
    estimate = WorldTimeEstimate()
    for node, offset in (("a", 1_000), ("b", 1_002), ("c", 900_000)):
        estimate.measured(node, 0, 2, 1 + offset)
    assert estimate.agreed(1_001) == 1_001.5
    estimate.forget("c")
    assert estimate.agreed(1_001) == 1_001
