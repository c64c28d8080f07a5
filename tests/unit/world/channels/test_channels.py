"""CellPublisher and CellReceiver against each other and a network that loses, doubles and reorders."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.world.channels.model import CELLS, Faults, Net, slice_of
from world import frames
from world.channels import receiver as rx
from world.channels.publisher import CellPublisher
from world.limits import (
    CELL_LEAVE_MS,
    JOIN_BUFFER_FRAMES,
    JOIN_RETRY_MS,
    PUBLISHER_HIDE_MS,
    PUBLISHER_RECONNECT_MS,
    REPAIR_AFTER_MS,
    REPAIR_RING_MS,
)

HEAL_MS = 6_000
BAD = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    duplicate=st.sampled_from([0.0, 0.3]),
    delay_ms=st.sampled_from([0, 40, 400]),
    call_loss=st.sampled_from([0.0, 0.3]),
    lost_subscription=st.sampled_from([0.0, 0.5]),
)


def stressed(seed: int, faults: Faults, *, hashes: bool) -> Net:
    """Five seconds of changes under faults, wants that come and go, then a quiet time without faults."""
    net = Net(seed, faults, hashes=hashes)
    for _ in range(5):
        net.perform(net.receiver.want([c for c in CELLS if net.random.random() < 0.7], net.now))
        net.run(1_000, changes_per_step=0.5)
        if net.subscribed and net.random.random() < faults.lost_subscription:
            net.unsubscribe(net.random.choice(sorted(net.subscribed)))  # lost without a word
    net.perform(net.receiver.want(CELLS, net.now))
    net.faults = Faults(digests=faults.digests)
    net.run(HEAL_MS)
    return net


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), faults=BAD, hashes=st.booleans())
def test_a_receiver_converges_once_faults_stop(seed: int, faults: Faults, hashes: bool) -> None:
    assert stressed(seed, faults, hashes=hashes).converged()


def test_without_the_digest_it_does_not_converge() -> None:
    lossy = Faults(loss=0.5, lost_subscription=0.5, digests=False)
    assert not all(stressed(seed, lossy, hashes=True).converged() for seed in range(10))
    lossy.digests = True
    assert all(stressed(seed, lossy, hashes=True).converged() for seed in range(10))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), faults=BAD)
def test_nothing_is_delivered_before_the_snapshot_and_then_all_of_it_in_order(seed: int, faults: Faults) -> None:
    net = Net(seed, faults)
    net.perform(net.receiver.want(CELLS, 0.0))
    net.run(3_000, changes_per_step=0.7)
    last: dict[int, int] = {}
    for effect in net.effects:
        if isinstance(effect, rx.Apply):
            sequence = frames.read_head(effect.body).sequence
            assert effect.snapshot or sequence == last.get(effect.cell, sequence) + (effect.cell in last)
            last[effect.cell] = sequence
        elif isinstance(effect, rx.Forget):
            last.pop(effect.cell, None)  # joined anew as empty: goes on from the row's sequence


# -- single steps ------------------------------------------------------------------------------------------------------
def frame(sequence: int, *, cell: int = 5, generation: int = 1, now: int = 0) -> bytes:
    return slice_of(frames.SLICE, cell, generation, sequence, now, {1: sequence})


def digest(*rows: tuple[int, int, int, int], full: bool = True, generation: int = 1, now: int = 0) -> bytes:
    """Rows (cell, sequence, count, hash)."""
    packed = np.array([(c, 0, s, n, h) for c, s, n, h in rows], frames.DIGEST_ROW)
    return frames.digest_bytes(full, 1, generation, now, packed)


def kinds(effects: list[rx.Effect]) -> list[Any]:
    return [type(e) for e in effects]


def ticked(receiver: rx.CellReceiver, start_ms: float, for_ms: float) -> list[rx.Effect]:
    """All effects of ticking every 250 ms up to and including the end; channels' own questions left out."""
    steps = [*np.arange(start_ms, start_ms + for_ms, 250), start_ms + for_ms]
    effects = [e for now in steps for e in receiver.tick(float(now))]
    return [e for e in effects if not isinstance(e, rx.AskSnapshot)]


def wanting(*, hashes: bool = False) -> rx.CellReceiver:
    receiver = rx.CellReceiver(compare_hashes=hashes)
    receiver.publisher_up(1, 1, 0.0)
    assert receiver.want([5], 0.0) == [rx.Subscribe(1, 5)]
    return receiver


def live(sequence: int = 10, *, hashes: bool = False) -> rx.CellReceiver:
    receiver = wanting(hashes=hashes)
    assert receiver.digest(digest((5, sequence, 1, 0)), 1.0) == [rx.AskSnapshot(1, 5)]
    assert kinds(receiver.snapshot(1, 5, 1, sequence, frame(sequence), 2.0)) == [rx.Apply]
    return receiver


def test_buffered_frames_up_to_the_snapshot_are_dropped_and_newer_ones_follow_it() -> None:
    receiver = wanting()
    for sequence in (9, 10, 11, 12):
        assert receiver.frame(frame(sequence), 1.0) == []
    assert receiver.digest(digest((5, 11, 1, 0)), 1.0) == [rx.AskSnapshot(1, 5)]
    got = receiver.snapshot(1, 5, 1, 10, frame(10), 2.0)
    assert [(frames.read_head(e.body).sequence, e.snapshot) for e in got if isinstance(e, rx.Apply)] == [
        (10, True),
        (11, False),
        (12, False),
    ]


def test_an_empty_cell_is_joined_by_its_answer_row_without_a_snapshot() -> None:
    receiver = wanting()
    assert receiver.digest(digest((5, 7, 0, 0), full=False), 1.0) == []
    assert receiver.joined(5)
    assert kinds(receiver.frame(frame(8), 2.0)) == [rx.Apply]


def test_a_publisher_that_says_nothing_is_asked_twice_then_subscribed_anew() -> None:
    receiver = wanting()
    assert receiver.tick(JOIN_RETRY_MS - 1) == []
    assert receiver.tick(JOIN_RETRY_MS) == [rx.AskSnapshot(1, 5)]
    assert receiver.tick(2 * JOIN_RETRY_MS) == [rx.AskSnapshot(1, 5)]
    assert receiver.tick(3 * JOIN_RETRY_MS) == [rx.Unsubscribe(1, 5), rx.Subscribe(1, 5)]


def test_a_silent_publisher_does_not_delay_another() -> None:
    receiver = wanting()
    assert receiver.publisher_up(2, 1, 0.0) == [rx.Subscribe(2, 5)]
    receiver.digest(digest((5, 3, 1, 0)), 1.0)
    assert kinds(receiver.snapshot(1, 5, 1, 3, frame(3), 2.0)) == [rx.Apply]
    assert not receiver.joined(5)


def test_a_join_buffer_is_bounded_and_overflow_asks_for_the_snapshot() -> None:
    receiver = wanting()
    for sequence in range(1, JOIN_BUFFER_FRAMES + 1):
        assert receiver.frame(frame(sequence), 1.0) == []
    assert receiver.frame(frame(JOIN_BUFFER_FRAMES + 1), 1.0) == [rx.AskSnapshot(1, 5)]
    assert receiver.statistics.overflows == 1


def test_a_row_ahead_is_repaired_after_a_while_and_the_second_time_subscribed_anew() -> None:
    receiver = live(10)
    assert receiver.digest(digest((5, 12, 1, 0)), 100.0) == []
    assert receiver.tick(100.0 + REPAIR_AFTER_MS - 1) == []
    assert receiver.tick(100.0 + REPAIR_AFTER_MS) == [rx.AskRepair(1, 5, 10)]
    assert kinds(receiver.repaired(1, 5, 1, [frame(11), frame(12)], 360.0)) == [rx.Apply, rx.Apply]
    receiver.digest(digest((5, 13, 1, 0)), 400.0)
    assert receiver.tick(400.0 + REPAIR_AFTER_MS) == [rx.Unsubscribe(1, 5), rx.Subscribe(1, 5)]


def test_a_frame_through_the_subscription_proves_it_and_clears_the_strike() -> None:
    receiver = live(10)
    receiver.digest(digest((5, 11, 1, 0)), 100.0)
    receiver.tick(100.0 + REPAIR_AFTER_MS)
    receiver.repaired(1, 5, 1, [frame(11)], 360.0)
    receiver.frame(frame(12), 370.0)
    receiver.digest(digest((5, 13, 1, 0)), 400.0)
    assert receiver.tick(400.0 + REPAIR_AFTER_MS) == [rx.AskRepair(1, 5, 12)]


def test_an_unrepairable_gap_takes_a_snapshot() -> None:
    receiver = live(10)
    assert receiver.frame(frame(12), 100.0) == []
    receiver.tick(100.0 + REPAIR_AFTER_MS)
    assert receiver.repaired(1, 5, 1, [], 360.0) == [rx.AskSnapshot(1, 5)]
    assert kinds(receiver.snapshot(1, 5, 1, 11, frame(11), 362.0)) == [rx.Apply, rx.Apply]


def test_hashes_unequal_twice_at_equal_sequence_take_a_snapshot_without_stopping_delivery() -> None:
    receiver = live(10, hashes=True)
    assert receiver.digest(digest((5, 10, 1, 77)), 250.0, lambda p, c: (1, 1)) == []
    assert receiver.digest(digest((5, 10, 1, 77)), 500.0, lambda p, c: (1, 1)) == [rx.AskSnapshot(1, 5)]
    assert kinds(receiver.frame(frame(11), 501.0)) == [rx.Apply]
    again = receiver.snapshot(1, 5, 1, 10, frame(10), 502.0)
    assert [frames.read_head(e.body).sequence for e in again if isinstance(e, rx.Apply)] == [10, 11]


def test_a_late_snapshot_below_what_was_delivered_does_not_step_back() -> None:
    receiver = live(10, hashes=True)
    receiver.frame(frame(11), 3.0)
    assert receiver.snapshot(1, 5, 1, 10, frame(10), 4.0) == []  # a doubled answer
    for now in (250.0, 500.0):
        receiver.digest(digest((5, 11, 1, 77)), now, lambda p, c: (1, 1))
    assert receiver.snapshot(1, 5, 1, 10, frame(10), 501.0) == []  # frame 11 is no longer at hand
    assert kinds(receiver.snapshot(1, 5, 1, 11, frame(11), 502.0)) == [rx.Apply]


def test_hashes_are_not_compared_at_another_sequence_nor_by_gateways() -> None:
    ahead = live(10, hashes=True)
    for now in (250.0, 260.0, 270.0):
        assert ahead.digest(digest((5, 11, 1, 77)), now, lambda p, c: (1, 1)) == []
    gateway = live(10)
    for now in (250.0, 500.0, 750.0):
        assert gateway.digest(digest((5, 10, 1, 77)), now, lambda p, c: (1, 1)) == []


def test_a_cell_absent_from_two_full_digests_is_empty_but_not_from_answers_or_overtaken_ones() -> None:
    receiver = live(10)
    for now in (10.0, 20.0, 30.0):
        assert receiver.digest(digest((6, 1, 0, 0), full=False), now) == []
    assert receiver.digest(digest(now=10), 250.0) == []
    assert kinds(receiver.frame(frame(11, now=900), 260.0)) == [rx.Apply]
    assert receiver.digest(digest(now=700), 270.0) == []
    assert receiver.digest(digest(now=800), 280.0) == []
    assert receiver.digest(digest(now=1_000), 500.0) == []
    assert receiver.digest(digest(now=1_250), 750.0) == [rx.Forget(1, 5)]
    assert kinds(receiver.frame(frame(12, now=1_300), 800.0)) == [rx.Apply]


def test_missing_digests_age_reconnect_and_hide_the_whole_publisher_and_it_joins_anew() -> None:
    receiver = live(10)
    assert receiver.staleness_ms(1, 751.0) == 750.0
    assert ticked(receiver, 1.0, PUBLISHER_RECONNECT_MS) == [rx.Reconnect(1)]
    later = ticked(receiver, 1.0 + PUBLISHER_RECONNECT_MS, PUBLISHER_HIDE_MS - PUBLISHER_RECONNECT_MS)
    assert later == [rx.Hide(1), rx.Forget(1, 5)]
    assert receiver.digest(digest((5, 11, 1, 0)), 9_000.0) == [rx.AskSnapshot(1, 5)]
    assert receiver.staleness_ms(1, 9_000.0) == 0.0


def test_what_is_shown_stays_as_old_as_the_last_digest_when_its_publisher_starts_anew() -> None:
    receiver = live(10)
    assert receiver.publisher_up(1, 2, 801.0) == [rx.Subscribe(1, 5)]
    assert receiver.staleness_ms(1, 801.0) == 800.0, "known to be back, but nothing new was heard"
    assert ticked(receiver, 801.0, PUBLISHER_RECONNECT_MS - 1)[-1:] != [rx.Reconnect(1)], "silence counts anew"
    receiver.digest(digest((5, 1, 0, 0), generation=2), 900.0)
    assert receiver.staleness_ms(1, 900.0) == 0.0


def test_after_a_pause_of_its_own_it_reads_what_waited_before_it_judges_silence() -> None:
    receiver = live(10)
    receiver.tick(10.0)
    assert receiver.tick(20_000.0) == []
    receiver.digest(digest((5, 10, 1, 0)), 20_001.0)
    assert ticked(receiver, 20_001.0, PUBLISHER_RECONNECT_MS - 1) == []


def test_a_dead_generation_is_dropped_and_a_new_one_joined() -> None:
    receiver = live(10)
    receiver.publisher_dead(1, 1)
    assert receiver.frame(frame(11), 50.0) == []
    assert receiver.snapshot(1, 5, 1, 12, frame(12), 50.0) == []
    assert receiver.publisher_up(1, 1, 60.0) == []
    assert receiver.statistics.dropped_dead == 2
    assert receiver.digest(digest((5, 1, 0, 0), generation=2), 70.0) == [rx.Subscribe(1, 5), rx.Forget(1, 5)]
    assert receiver.frame(frame(11), 80.0) == []


def test_a_dead_publishers_entities_are_hidden_after_five_seconds() -> None:
    receiver = live(10)
    receiver.publisher_dead(1, 1)
    assert ticked(receiver, 1.0, PUBLISHER_HIDE_MS - 1) == []
    assert receiver.tick(1.0 + PUBLISHER_HIDE_MS) == [rx.Hide(1), rx.Forget(1, 5)]


def test_a_channel_is_left_only_after_its_hysteresis() -> None:
    receiver = live(10)
    receiver.want([], 100.0)
    assert receiver.tick(100.0 + CELL_LEAVE_MS - 1) == []
    receiver.want([5], 100.0 + CELL_LEAVE_MS - 1)
    assert receiver.tick(200.0 + CELL_LEAVE_MS) == []
    receiver.want([], 2_200.0)
    assert receiver.tick(2_200.0 + CELL_LEAVE_MS)[:2] == [rx.Unsubscribe(1, 5), rx.Forget(1, 5)]


def test_bytes_that_are_no_frame_are_refused() -> None:
    receiver = live(10)
    for call in (receiver.frame, receiver.digest):
        with pytest.raises(frames.BadFrame):
            call(b"\x00" * 40, 1.0)


# -- the publisher ---------------------------------------------------------------------------------------------------
def test_a_sequence_counts_changes_nobody_heard_so_that_a_lost_subscription_shows() -> None:
    publisher = CellPublisher(1, 1)
    assert publisher.advance(np.array([5, 6])).tolist() == [1, 1]
    assert publisher.statistics.suppressed == 2
    publisher.subscription(5, True)
    publisher.advance(np.array([5]))
    publisher.sent(5, b"two", 0.0)
    assert publisher.frames_after(5, 1, 10.0) == [b"two"]
    assert publisher.frames_after(5, 0, 10.0) == []  # the first was never built
    assert publisher.frames_after(5, 1, 1.0 + REPAIR_RING_MS) == []  # too old


def test_listeners_are_counted_and_out_of_range_topics_ignored() -> None:
    publisher = CellPublisher(1, 1)
    for on in (True, True, False):
        publisher.subscription(5, on)
    publisher.subscription(60_000, True)
    assert publisher.listened(5)
    publisher.subscription(5, False)
    publisher.subscription(5, False)
    assert not publisher.listened(5)
