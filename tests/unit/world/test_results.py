"""Operation keys: what is kept, what is settled, what is forgotten."""

import pytest

from world.limits import KEY_RETENTION_S, UNIT_ORIGINS
from world.results import Outcome, Refusal, Results, call_key, cause_of, command_key, fingerprint

DONE = Outcome(True, {"ok": 1})


def test_fingerprints_do_not_depend_on_the_order_of_fields() -> None:
    assert fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    assert fingerprint("a", {"x": 1}) != fingerprint("a", {"x": 2})


def test_a_call_belongs_to_its_command() -> None:
    command = command_key("avatar:1", 2, 3, floor=1, digest="d")
    assert cause_of(call_key(command, "region:1,1", "chop", 4)) == command


def test_calls_of_one_command_are_kept_apart() -> None:
    results = Results()
    command = command_key("avatar:1", 1, 1)
    results.save(call_key(command, "u", "chop", 0), "", DONE)
    assert results.find(call_key(command, "u", "chop", 1)) is None
    assert results.find(command) is None
    assert results.find(call_key(command, "u", "chop", 0)) == DONE


def test_the_first_outcome_stays() -> None:
    results = Results()
    key = command_key("avatar:1", 1, 1)
    results.save(key, "", DONE)
    results.save(key, "", Outcome(False, code="late"))
    assert results.find(key) == DONE


def test_the_floor_prunes() -> None:
    results = Results()
    for n in range(1, 6):
        results.save(command_key("avatar:1", 1, n), "", DONE)
    results.settle("avatar:1", 1, 3)
    assert list(results.rows["avatar:1"].saved) == ["4", "5"]
    results.settle("avatar:1", 1, 2)  # of a late message
    assert results.rows["avatar:1"].floor == 3


def test_silent_origins_are_forgotten_but_never_the_units_own() -> None:
    results = Results()
    for origin in ("avatar:1", "avatar:2", "avatar:3"):
        results.save(command_key(origin, 1, 1), "", DONE)
    results.expire(1_000, keep="avatar:3")
    results.save(command_key("avatar:2", 1, 2), "", DONE)
    assert results.expire(1_001 + KEY_RETENTION_S * 1000, keep="avatar:3")
    assert sorted(results.rows) == ["avatar:2", "avatar:3"]


def test_world_time_going_back_forgets_nothing() -> None:
    results = Results()
    results.save(command_key("avatar:1", 1, 1), "", DONE)
    results.expire(10_000_000, keep="")
    assert not results.expire(5, keep="")
    assert not results.expire(6, keep="")


def test_origins_are_bounded_and_idle_ones_make_room() -> None:
    results = Results()
    for n in range(UNIT_ORIGINS):
        results.save(command_key(f"avatar:{n}", 1, 1), "", DONE)
    newcomer = command_key("avatar:x", 1, 1)
    with pytest.raises(Refusal) as refused:
        results.reserve(newcomer)
    assert refused.value.code == "busy"
    results.settle("avatar:5", 1, 1)
    results.expire(77, keep="")
    results.reserve(newcomer)
    assert "avatar:5" not in results.rows
