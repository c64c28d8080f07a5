"""The pure halves of calling."""

from runtime.mesh.calls import NEW, RUNNING, SETTLED, CallTable, ReplyMemory
from world.limits import REPLY_MEMORY_CALLS, RPC_RETRY_MS


def test_retries_until_the_deadline() -> None:
    table = CallTable()
    call = table.begin("gs1", 1, b"x", 0, 1_000)
    assert table.due(RPC_RETRY_MS - 1) == ([], [])
    assert table.due(RPC_RETRY_MS) == ([call], [])
    assert table.due(2 * RPC_RETRY_MS) == ([call], [])
    assert table.due(1_000) == ([], [call])
    table.settle(call.number)
    assert table.next_due_ms() is None
    assert len(table) == 0


def test_the_floor_is_below_the_oldest_call_to_that_peer() -> None:
    table = CallTable()
    a = table.begin("gs1", 1, b"", 0, 1_000)
    b = table.begin("gs2", 1, b"", 0, 1_000)
    c = table.begin("gs1", 1, b"", 0, 1_000)
    assert (table.floor("gs1"), table.floor("gs2"), table.floor("gs3")) == (a.number - 1, b.number - 1, c.number)
    table.settle(a.number)
    assert table.floor("gs1") == c.number - 1
    assert table.settle(a.number) is None
    assert [k.number for k in table.waiting_for("gs1")] == [c.number]


def test_a_repetition_is_joined_then_answered_then_refused() -> None:
    memory = ReplyMemory()
    assert memory.arrived("gw1", 1, 5, 3_000) == NEW
    assert memory.arrived("gw1", 1, 5, 3_000) == RUNNING
    memory.answered("gw1", 1, 5, b"reply")
    assert memory.arrived("gw1", 1, 5, 3_000) == b"reply"
    memory.heard_floor("gw1", 1, 5, 10)
    assert len(memory) == 0
    assert memory.arrived("gw1", 1, 5, 3_000) == SETTLED, "a late copy is never run again"


def test_an_earlier_call_that_comes_later_still_runs() -> None:
    memory = ReplyMemory()
    assert memory.arrived("gw1", 1, 9, 3_000) == NEW
    memory.answered("gw1", 1, 9, b"")
    memory.heard_floor("gw1", 1, 7, 10)
    assert memory.arrived("gw1", 1, 8, 3_000) == NEW


def test_a_new_generation_starts_afresh() -> None:
    memory = ReplyMemory()
    memory.arrived("gw1", 1, 5, 3_000)
    memory.heard_floor("gw1", 1, 5, 0)
    assert memory.arrived("gw1", 2, 1, 3_000) == NEW
    memory.answered("gw1", 1, 1, b"of the old one")
    assert memory.arrived("gw1", 2, 1, 3_000) == RUNNING


def test_what_nobody_can_ask_for_again_is_forgotten() -> None:
    memory = ReplyMemory()
    memory.arrived("gw1", 1, 5, 3_000)
    memory.answered("gw1", 1, 5, b"reply")
    memory.heard_floor("gw1", 1, 0, 2_999)
    assert len(memory) == 1
    memory.heard_floor("gw1", 1, 0, 3_000)
    assert len(memory) == 0


def test_a_dead_origin_leaves_nothing_behind_and_a_newer_one_is_kept() -> None:
    memory = ReplyMemory()
    for node in range(1_000):
        memory.arrived(f"gw{node}", 1, 1, 3_000)
        memory.forget(f"gw{node}", 1)
    assert memory.origins == 0
    memory.arrived("gw1", 2, 1, 3_000)
    memory.forget("gw1", 1)
    assert memory.arrived("gw1", 2, 1, 3_000) == RUNNING


def test_a_full_memory_refuses_what_it_forgot() -> None:
    memory = ReplyMemory()
    for number in range(1, REPLY_MEMORY_CALLS + 2):
        assert memory.arrived("gw1", 1, number, 3_000) == NEW
    assert memory.overflows == 1
    assert len(memory) == REPLY_MEMORY_CALLS
    assert memory.arrived("gw1", 1, 1, 3_000) == SETTLED
