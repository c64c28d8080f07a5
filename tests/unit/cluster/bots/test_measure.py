"""The sums of a run: percentiles, additions over workers, and which inputs count."""

from collections import Counter

from cluster.bots.fleet import Run
from cluster.bots.measure import BUCKETS, Inputs, Tally, percentiles
from cluster.bots.report import document
from world.limits import BOT_INPUTS_PENDING, BOT_OTHERS_IN_SIGHT, BOT_SHOWN_M, BOT_UNSEEN_MS, SIGHT_M


def test_percentiles_are_upper_ends_of_buckets() -> None:
    latency = Counter(dict.fromkeys(range(100), 1))
    assert percentiles(latency, (50, 95, 99, 100)) == [50.0, 95.0, 99.0, 100.0]
    assert percentiles(Counter({7: 1}), (50, 99)) == [8.0, 8.0]
    assert percentiles(Counter(), (50,)) == [None]


def test_the_slowest_land_in_the_last_bucket() -> None:
    tally = Tally()
    tally.took(1e9)
    assert tally.latency == {BUCKETS - 1: 1}


def test_tallies_survive_json_and_add_up() -> None:
    one, other = Tally(logins=2, login_s=3.0), Tally(logins=1, login_s=5.0)
    one.took(10)
    other.took(10)
    other.errors["http"] += 1
    one.add(Tally.from_json(other.to_json()))
    assert (one.logins, one.login_s, one.latency, one.errors) == (3, 5.0, {10: 2}, {"http": 1})


def test_an_input_counts_when_the_first_observer_sees_it_or_a_later_one() -> None:
    tally = Tally()
    inputs = Inputs(tally)
    inputs.sent(1, 10, 1_000.0, watched=True)
    inputs.sent(1, 11, 1_050.0, watched=True)
    inputs.seen(1, 9, 1_060.0)
    assert not tally.latency
    inputs.seen(1, 11, 1_100.0)
    inputs.seen(1, 11, 1_200.0)  # another observer, later
    assert tally.latency == {100: 1, 50: 1}


def test_an_input_made_out_of_sight_is_not_waited_for() -> None:
    tally = Tally()
    inputs = Inputs(tally)
    inputs.sent(1, 10, 1_000.0, watched=True)
    inputs.sent(1, 11, 1_200.0, watched=False)
    inputs.seen(1, 11, 4_000.0)
    assert not tally.latency


def test_an_input_nobody_saw_counts_with_the_longest_time() -> None:
    tally = Tally()
    inputs = Inputs(tally)
    inputs.sent(1, 10, 0.0, watched=True)
    inputs.sent(1, 11, BOT_UNSEEN_MS + 1.0, watched=True)
    assert (tally.unseen, tally.latency) == (1, {BOT_UNSEEN_MS: 1})


def test_inputs_on_their_way_are_bounded() -> None:
    tally = Tally()
    inputs = Inputs(tally)
    for n in range(BOT_INPUTS_PENDING + 3):
        inputs.sent(1, n, 0.0, watched=True)
    assert tally.unseen == 3


def test_bots_spread_until_each_sees_about_ten_others() -> None:
    run = Run("", 500, 1, False, 10, 8, 1)
    within_sight = run.count * (BOT_SHOWN_M / run.spread_m) ** 2
    assert abs(within_sight - 1 - BOT_OTHERS_IN_SIGHT) < 0.01
    assert Run("", 500, 1, True, 10, 8, 1).spread_m < SIGHT_M / 2


def test_the_document_has_what_programs_read() -> None:
    tally = Tally(logins=10, login_s=2.0, inputs=600, updates=900, observer_s=30.0, bytes=6_000_000, client_s=120.0)
    tally.took(99.5)
    tally.errors["closed_1006"] = 2
    report = document(Run("", 10, 60, False, 5, 8, 1), tally, 60.0)
    assert report["latency_ms"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0}
    assert report["errors"] == {"closed_1006": 2}
    assert report["logins_per_s"] == 5.0
    assert report["inputs_per_s"] == 10.0
    assert report["updates_per_s_per_client"] == 30.0
    assert report["bytes_per_client_per_minute"] == 3_000_000
