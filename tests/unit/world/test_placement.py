"""Placement: most seers below the cap, one's own placements counted; or evenly spread."""

import pytest

from world.limits import BALANCE_MARGIN_AVATARS, PLACEMENT_MEMORY_MS, PLACEMENTS_REMEMBERED
from world.placement import Candidate, RecentPlacements, candidate_of, place

HERE = (15, 15)


def test_the_server_with_most_seers_gets_it() -> None:
    assert place([Candidate("gs1", 9, 10, 2), Candidate("gs2", 1, 10, 5)]) == "gs2"


def test_a_full_server_is_passed_over_whatever_it_sees() -> None:
    assert place([Candidate("gs1", 1, 10, 2), Candidate("gs2", 10, 10, 9)]) == "gs1"


def test_ties_go_to_the_least_loaded_then_to_the_lower_number() -> None:
    assert place([Candidate("gs1", 5, 10, 0), Candidate("gs2", 4, 10, 0)]) == "gs2"
    assert place([Candidate("gs10", 4, 10, 0), Candidate("gs9", 4, 10, 0)]) == "gs9"


def test_nobody_has_room() -> None:
    full = [Candidate("gs1", 12, 10, 0), Candidate("gs2", 11, 10, 0)]
    assert place(full) is None
    assert place(full, adopt=True) == "gs2"
    assert place([], adopt=True) is None


def test_a_burst_between_two_heartbeats_keeps_together_and_below_the_cap() -> None:
    recent = RecentPlacements()
    book = [Candidate("gs1", 0, 4, 0), Candidate("gs2", 0, 4, 0)]
    went = []
    for _ in range(8):
        chosen = place(recent.counted(book, HERE, 0.0))
        assert chosen is not None
        recent.add(chosen, HERE, 0.0)
        went.append(chosen)
    assert went == ["gs1"] * 4 + ["gs2"] * 4
    assert place(recent.counted(book, HERE, 0.0)) is None
    assert place(recent.counted(book, HERE, PLACEMENT_MEMORY_MS + 1.0)) == "gs1"


def test_spreading_alternates() -> None:
    recent = RecentPlacements()
    book = [Candidate("gs1", 0, 9, 5), Candidate("gs2", 0, 9, 0), Candidate("gs3", 0, 9, 0)]
    went = []
    for _ in range(6):
        chosen = place(recent.counted(book, HERE, 0.0), "spread")
        assert chosen is not None
        recent.add(chosen, HERE, 0.0)
        went.append(chosen)
    assert sorted(went) == ["gs1", "gs1", "gs2", "gs2", "gs3", "gs3"]


def test_seers_of_other_regions_do_not_count() -> None:
    recent = RecentPlacements()
    recent.add("gs1", (1, 1), 0.0)
    assert recent.counted([Candidate("gs1", 0, 9, 0)], HERE, 0.0) == [Candidate("gs1", 1, 9, 0)]


def test_what_is_remembered_is_bounded() -> None:
    recent = RecentPlacements()
    for _ in range(PLACEMENTS_REMEMBERED + 5):
        recent.add("gs1", HERE, 0.0)
    assert recent.counted([Candidate("gs1", 0, 9, 0)], HERE, 0.0)[0].avatars == PLACEMENTS_REMEMBERED


@pytest.mark.parametrize("load", [{}, {"seers": 3, "avatars": "x", "cap": -1}, {"seers": {"15,15": None}}])
def test_a_malformed_load_counts_as_none(load: dict[str, object]) -> None:
    assert candidate_of("gs1", load, HERE, 50) == Candidate("gs1", 0, 50, 0)


def test_a_load_is_read() -> None:
    load = {"avatars": 3, "cap": 7, "seers": {"15,15": 2, "1,1": 9}}
    assert candidate_of("gs1", load, HERE, 50) == Candidate("gs1", 3, 7, 2)


def test_gathering_stops_where_balance_would_send_the_newcomer_away_again() -> None:
    alone = [Candidate("gs1", BALANCE_MARGIN_AVATARS - 1, 99, 50), Candidate("gs2", 0, 99, 0)]
    assert place(alone, even=True) == "gs1"
    fuller = [alone[0]._replace(avatars=BALANCE_MARGIN_AVATARS), alone[1]]
    assert (place(fuller), place(fuller, even=True)) == ("gs1", "gs2")
    large = [Candidate("gs1", 1_100, 2_000, 50), Candidate("gs2", 900, 2_000, 0)]
    assert place(large, even=True) == "gs1", "with many, a part of the mean"
