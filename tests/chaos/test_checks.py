"""The judges are worth something only if they can say no: each forged history is one thing that must never pass."""

from typing import Any

import msgspec
import pytest

from tests.chaos import checks
from tests.chaos.dealings import dealings
from tests.chaos.figures import NEVER, figures, strikes
from tests.chaos.history import NEMESIS, NEWCOMERS, STORE, Entry
from tests.chaos.rows import Bound, none
from tests.chaos.run import missed
from tests.support.percentiles import percentile
from world.ids import avatar_unit
from world.limits import FORMAT
from world.message_values import Change, Hold
from world.transaction_document import ABORTED, COMMITTED, PENDING, Intent
from world.unit_document import Data, UnitDocument

AVATAR = 1 << 48 | 7
WOOD = {"wood": 1}
PLACE = {
    "server": "gs1",
    "epoch": 1,
    "stream": 5,
    "event": 0,
    "last_input": 0,
    "x": 0.0,
    "y": 0.0,
    "items": {},
    "waited_ms": 0,
}


class Story:
    """Entries of one player, one every tenth of a second."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.t = 0.0
        self.add("ok", "guest", 0, {"avatar": AVATAR})
        self.add("invoke", "connect", 0, {"resumes": False})
        self.add("note", "ready", 0, {"session": 3, "connection": 1, "gateway": "gw1", "avatar": AVATAR})
        self.attached()

    def add(self, kind: str, op: str, n: int = 0, value: Any = None, who: int = 0) -> "Story":
        self.t += 0.1
        self.entries.append(Entry(self.t, who, kind, op, n, value))
        return self

    def attached(self, **other: Any) -> "Story":
        return self.add("note", "attached", 0, PLACE | other)

    def gathered(self, n: int) -> "Story":
        return self.add("invoke", "gather", n, {"item": "wood"}).add("ok", "gather", n, WOOD)

    def event(self, n: int, stream: int = 5) -> "Story":
        return self.add("note", "event", n, {"s": stream, "items": WOOD})

    def resumed(self, connection: int = 2, session: int = 3, code: int = 1006) -> "Story":
        self.add("note", "closed", 0, {"code": code, "left": False})
        self.add("invoke", "connect", 0, {"resumes": True})
        return self.add(
            "note", "ready", 0, {"session": session, "connection": connection, "gateway": "gw2", "avatar": AVATAR}
        )


def documents(wood: int, given: int | None = None) -> dict[str, bytes]:
    """A store in which the player has so much wood, all of it given by one region."""
    items = {"wood": wood}
    avatar = Data(entities={str(AVATAR): {"name": "Ana", "items": items}}, gained=items)
    region = Data(given={"wood": wood if given is None else given})
    units = {
        avatar_unit(AVATAR): UnitDocument(avatar, format=FORMAT),
        "region:0,0": UnitDocument(region, format=FORMAT),
    }
    return {key: msgspec.json.encode(unit) for key, unit in units.items()}


def judge(story: Story, wood: int, given: int | None = None) -> str:
    return "; ".join(checks.check(story.entries, documents(wood, given)))


# -- items -------------------------------------------------------------------------------------------------------------
def test_a_good_history_is_good() -> None:
    story = Story().gathered(1).event(1).gathered(2).event(2).resumed().attached(event=2, items=None).event(3)
    story.add("invoke", "gather", 3, {"item": "wood"}).add("fail", "gather", 3, {"code": "depleted"})
    story.add("invoke", "gather", 4, {"item": "wood"})  # never answered: either is right
    assert judge(story, 2) == judge(story, 3) == ""


@pytest.mark.parametrize("wood", [1, 3])
def test_an_acknowledged_item_lost_or_doubled_is_seen(wood: int) -> None:
    assert f"has {wood} wood" in judge(Story().gathered(1).gathered(2), wood)


def test_a_refused_gathering_that_gave_something_is_seen() -> None:
    story = Story().add("invoke", "gather", 1, {"item": "wood"})
    assert "has 1 wood" in judge(story.add("fail", "gather", 1, {"code": "depleted"}), 1)


def test_an_unanswered_gathering_may_have_given() -> None:
    story = Story().add("invoke", "gather", 1, {"item": "wood"})
    assert judge(story.add("fail", "gather", 1, {"code": "store_unavailable"}), 1) == ""
    assert judge(Story().add("invoke", "gather", 1, {"item": "wood"}).add("unknown", "gather", 1), 1) == ""


def test_items_from_nowhere_are_seen() -> None:
    assert "is not gained" in judge(Story().gathered(1), 1, given=0)


def test_a_missing_document_is_seen() -> None:
    assert any("has no document" in sentence for sentence in checks.check(Story().gathered(1).entries, {}))


def test_a_resync_or_an_answer_that_forgot_is_seen() -> None:
    assert "a resync" in judge(Story().gathered(1).attached(stream=6), 1)
    story = Story().gathered(1).add("invoke", "inventory", 2).add("ok", "inventory", 2, {})
    assert "an answer" in judge(story, 1)
    overtaken = Story().add("invoke", "inventory", 1).gathered(2).add("ok", "inventory", 1, {})
    assert judge(overtaken, 1) == ""


# -- trades ----------------------------------------------------------------------------------------------------------
def test_who_trades_is_judged_with_all_who_do() -> None:
    story = Story().gathered(1).gathered(2).add("invoke", "trade_confirm", 3).add("ok", "trade_confirm", 3)
    assert judge(story, 2) == ""
    assert "those who trade have 1 wood" in judge(story, 1)
    assert "those who trade have 3 wood" in judge(story, 3)


def test_a_trade_half_done_is_seen() -> None:
    unit = avatar_unit(AVATAR)
    part = [Change(AVATAR, {"wood": 1}, {})]
    stored = UnitDocument(Data(), format=FORMAT)

    def found(intent: Intent, **fields: Any) -> str:
        documents = {
            unit: msgspec.json.encode(msgspec.structs.replace(stored, **fields)),
            "tx:1.1.1.0": intent.encode("w"),
        }
        return "; ".join(checks.trades([], documents))

    committed = Intent(COMMITTED, {unit: part})
    assert "knows nothing of it" in found(committed)
    assert found(committed, done={"1.1.1.0": 1}) == found(committed, pending={"1.1.1.0": Hold(part)}) == ""
    assert "has applied it" in found(Intent(ABORTED, {unit: part}), done={"1.1.1.0": 1})


def test_items_of_a_trade_that_only_one_side_applied_are_missed() -> None:
    """What one gave and the other never got, with no intent left to tell it."""
    other = AVATAR + 1
    given = Data({str(AVATAR): {"name": "Ana", "items": {}}}, gained={"wood": 1}, given={"wood": 1})
    stored = documents(1) | {
        avatar_unit(AVATAR): msgspec.json.encode(UnitDocument(given, format=FORMAT)),
        avatar_unit(other): msgspec.json.encode(UnitDocument(Data({str(other): {"name": "Bo"}}), format=FORMAT)),
    }
    story = Story().gathered(1).add("invoke", "trade_confirm", 2).add("ok", "trade_confirm", 2)
    found = "; ".join(checks.check(story.entries, stored))
    assert "is not gained" in found
    assert "those who trade have 0 wood: acknowledged 1" in found


def test_what_is_held_for_long_is_seen() -> None:
    def told(kind: str, what: str, least_s: float, most_s: float) -> list[str]:
        return checks.trades([Entry(1.0, STORE, "note", "held", 0, [kind, "avatar:1", what, least_s, most_s])], {})

    for kind, what in (("locked", "1.1.1.0"), ("intent", PENDING), ("transfer", "8")):
        assert told(kind, what, 20.0, 29.0) == []
        assert told(kind, what, 27.0, 31.0) == [f"{kind} avatar:1 {what}: for 27 to 31 s, not 30"]
        assert told(kind, what, 21.0, 31.0) == [], "pictures this far apart do not show it"
        assert told(kind, what, 31.0, 61.0) == [f"{kind} avatar:1 {what}: for 31 to 61 s, not 30"]
    assert told("intent", COMMITTED, 27.0, 31.0) == [], "it locks nothing"


def test_what_waits_for_a_store_that_is_away_is_not_held_meanwhile() -> None:
    def told(kind: str, most_s: float) -> list[str]:
        strike = [
            Entry(at, NEMESIS, what, kind, 0, {"target": "st1"}) for at, what in ((100.0, "invoke"), (130.0, "ok"))
        ]
        note = Entry(140.0, STORE, "note", "held", 0, ["transfer", "avatar:1", "8", most_s, most_s])
        return checks.trades([*strike, note], {})

    assert told("store-dead", 59.0) == [], "30 of them there was no store"
    assert "for 61 to 61 s" in told("store-dead", 61.0)[0]
    assert "for 31 to 31 s" in told("kill-gameserver", 31.0)[0]


def test_what_is_left_when_nobody_plays_any_more_is_seen() -> None:
    unit = msgspec.json.encode(UnitDocument(Data(), pending={"1.1.1.0": Hold([])}, format=FORMAT))
    settled = [Entry(1.0, STORE, "note", "settled", 0, [30.0])]
    for documents, left in (
        ({"avatar:1": unit}, "locked avatar:1 1.1.1.0"),
        ({"tx:1.1.1.0": Intent(PENDING).encode("w")}, "intent 1.1.1.0 pending"),
        ({"tx:1.1.1.0": Intent(COMMITTED).encode("w")}, "intent 1.1.1.0 committed"),
    ):
        assert checks.trades(settled, documents) == [f"{left} is left, though nobody played for 30 s"]
        assert checks.trades([], documents) == [], "while they play it may be there"
    assert checks.trades(settled, {"tx:1.1.1.0": Intent(ABORTED).encode("w")}) == []


def test_a_trade_told_to_one_as_done_and_to_the_other_as_not_is_seen() -> None:
    def told(*others: list[str]) -> list[str]:
        story = Story()
        for who, value in enumerate((["t1", "committed", ""], *others)):
            story.add("note", "trade", 0, value, who)
        return checks.trades(story.entries, {})

    assert told(["t1", "committed", ""], ["t2", "closed", "cancelled"]) == []
    assert told(["t1", "closed", "lost"]) == [], "that says nothing"
    assert told(["t1", "closed", "cancelled"]) == ["trade t1 was told to be committed, and closed: cancelled"]


def test_what_changed_hands_is_counted() -> None:
    story = Story().gathered(1).add("invoke", "gather", 2, {"item": "wood"}).add("note", "storm", 0, None, NEMESIS)
    for value in (["t1", "open", ""], ["t1", "committed", ""], ["t1", "closed", "lost"], ["t2", "closed", "left"]):
        story.add("note", "trade", 0, value)
    story.add("invoke", "kill-store", 0, {"target": "st1"}, NEMESIS)
    for least_s, most_s in ((0.0, 2.0), (3.0, 5.0)):
        story.add("note", "held", 0, ["locked", "avatar:1", "t", least_s, most_s], STORE)
    story.add("note", "settled", 0, [2.5], STORE)
    found = dealings(story.entries, documents(1) | {"tx:1.1.1.0": Intent(ABORTED).encode("w")})
    assert (found["strikes"], found["gathers"]) == (1, {"invoke": 2, "ok": 1})
    assert found["acknowledged"] == found["given"] == found["carried"] == WOOD
    assert (found["trades"], found["aborted_intents"], found["left"]) == ({"committed": 1, "left": 1}, 1, [])
    assert found["settled_s"] == 2.5
    assert found["held"]["locked"]["most_s"] == {"n": 2, "p50": 2.0, "p99": 5.0, "max": 5.0}


# -- results, events, sessions, inputs ---------------------------------------------------------------------------------
def test_a_second_result_is_seen() -> None:
    assert "second result of command 1" in judge(Story().gathered(1).add("ok", "gather", 1, {}), 1)


def test_events_lost_doubled_or_of_another_stream_are_seen() -> None:
    assert "event 2 of stream 5 came after 0" in judge(Story().event(2), 0)
    assert "event 1 of stream 5 came again" in judge(Story().event(1).event(1), 0)
    assert "an event of stream 6 in 5" in judge(Story().event(1, stream=6), 0)
    assert "event 1 of stream 5 came again" in judge(
        Story().event(1).resumed().attached(event=1, items=None).event(1), 0
    )


def test_a_resume_that_skips_or_starts_anew_silently_is_seen() -> None:
    assert "goes on after 3, not 1" in judge(Story().event(1).resumed().attached(event=3, items=None), 0)
    assert "without resync" in judge(Story().event(1).attached(stream=9, items=None, epoch=2, server="gs2"), 0)
    assert judge(Story().event(1).attached(stream=9, event=4, epoch=2, server="gs2").event(5, stream=9), 0) == ""


def test_a_session_that_changes_is_seen() -> None:
    assert "session 3 became 4" in judge(Story().resumed(session=4, connection=1).attached(), 0)
    assert judge(Story().resumed(session=4, connection=1, code=4008).attached(), 0) == ""
    assert "connection 1 after 1" in judge(Story().resumed(connection=1).attached(), 0)


def test_an_input_taken_back_within_an_epoch_is_seen() -> None:
    back = [7, 0, 0.0, 0.0, 0]
    story = Story().add("note", "own", 1, [9, 0, 0.0, 0.0, 0])
    assert judge(story.add("note", "own", 2, back), 0) == ""
    assert "input 6 echoed after 7" in judge(story.add("note", "own", 2, [6, *back[1:]]), 0)


# -- owners ------------------------------------------------------------------------------------------------------------
def test_two_owners_of_one_epoch_are_seen() -> None:
    assert "at epoch 1" in judge(Story().attached(server="gs2"), 0)
    assert judge(Story().attached(server="gs2", epoch=2), 0) == ""
    for op, one, other in (
        ("region", [0, 0, 4, "gs1", 1], [0, 0, 4, "gs2", 1]),
        ("region", [0, 0, 4, "gs1", 1], [0, 0, 4, "gs1", 2]),
        ("head", ["region:0,0", "gs1", 1, 4, 8], ["region:0,0", "gs2", 1, 4, 9]),
    ):
        story = Story().add("note", op, 0, one, who=STORE).add("note", op, 0, other, who=STORE)
        assert "region:0,0 at epoch 4" in judge(story, 0)


def test_a_late_write_that_was_taken_is_seen() -> None:
    story = Story().add("note", "head", 0, ["region:0,0", "gs2", 1, 5, 9], who=STORE)
    assert "back to (4, 10)" in judge(story.add("note", "head", 0, ["region:0,0", "gs1", 1, 4, 10], who=STORE), 0)


# -- figures -----------------------------------------------------------------------------------------------------------
def struck(kind: str, target: str) -> Story:
    story = Story().add("note", "own", 1, [1, 50, 0.0, 0.0, 0])
    story.add("invoke", kind, 0, {"target": target}, NEMESIS).add("ok", kind, 0, {"target": target}, NEMESIS)
    return story


def served(story: Story) -> list[Entry]:
    """One command answered, and the end."""
    story.add("invoke", "inventory", 1).add("ok", "inventory", 1, {})
    return story.add("note", "end", 0, None, NEMESIS).entries


def test_times_are_from_the_strike_to_the_next_answer() -> None:
    story = struck("kill-gameserver", "gs1").attached(epoch=2, server="gs2", x=1.2)
    found = figures(served(story))["kill-gameserver"]
    assert found.samples["acts_s"] == [pytest.approx(0.4)]
    assert found.samples["rollback_ms"] == [pytest.approx(200)]
    assert found.counts["closed 1006"] == 0
    story = struck("kill-gateway", "gw1").resumed().attached(items=None)
    found = figures(served(story))["kill-gateway"]
    assert found.samples["usable_s"] == [pytest.approx(0.7)]
    assert found.counts["closed 1006"] == 1


def test_a_hand_offs_pause_is_what_the_oldest_input_waited() -> None:
    story = struck("drain-gameserver", "gs1").attached(epoch=2, server="gs2", items=None, waited_ms=70)
    story.resumed().attached(epoch=2, server="gs2", items=None, waited_ms=900)  # a gateway's matter
    story.add("note", "own", 2, [2, 140, 0.0, 0.0, 0])
    found = figures(story.attached(epoch=3, server="gs1", waited_ms=3_000).entries)["drain-gameserver"]
    assert found.samples["pause_ms"] == [70], "the last one was a loss"
    assert found.samples["seen_ms"] == [90]


def test_who_is_back_after_the_next_strike_only_was_away_until_then() -> None:
    story = struck("kill-gateway", "gw1").resumed().add("invoke", "kill-login", 0, {"target": "lg1"}, NEMESIS)
    story.add("ok", "kill-login", 0, {"target": "lg1"}, NEMESIS).attached(items=None)
    assert figures(served(story))["kill-gateway"].samples["away_s"] == [pytest.approx(0.5)]


def test_who_is_never_served_again_counts_as_never() -> None:
    found = figures(struck("kill-gameserver", "gs1").entries)
    assert found["kill-gameserver"].samples["acts_s"] == [NEVER]
    assert missed(Bound("kill-gameserver", "acts_s", 4.0), found)


def test_a_bound_holds_or_says_what_was_measured() -> None:
    story = struck("kill-gateway", "gw1").resumed()
    found = figures(story.entries)
    assert missed(none("kill-gateway", "closed"), found) == "kill-gateway: closed 1 times, not 0"
    assert missed(none("kill-gateway", "failed"), found) == ""
    assert "was not measured" in missed(Bound("kill-gateway", "login_s", 1.0), found)
    assert "did not happen" in missed(Bound("deploy", "login_s", 1.0), found)


def test_newcomers_and_failures_are_counted() -> None:
    story = struck("kill-login", "lg1")
    who = NEWCOMERS
    story.add("invoke", "guest", 0, None, who).add("fail", "guest", 0, {"kind": "http_503"}, who)
    story.add("invoke", "inventory", 1).add("fail", "inventory", 1, {"code": "unreachable"})
    story.t += 60
    found = figures(story.add("note", "end", 0, None, NEMESIS).entries)["kill-login"]
    assert found.counts["login failed: http_503"] == 1
    assert found.counts["failed unreachable"] == 1
    assert found.samples["heal_s"] == [pytest.approx(0.4)]


def test_in_a_storm_windows_reach_to_the_next_strike_of_the_kind() -> None:
    def windows(storm: bool) -> list[tuple[str, list[float]]]:
        story = Story()
        story.entries, story.t = [], 0.0
        if storm:
            story.add("note", "storm", 0, None, NEMESIS)
        story.t = 1.0
        for kind, what in (("invoke", "a"), ("invoke", "b"), ("ok", "a"), ("ok", "b"), ("invoke", "a")):
            story.add(kind, what, 0, {"target": "x"}, NEMESIS)
        story.add("note", "end", 0, None, NEMESIS).add("note", "own", 0)
        return [(s.kind, [round(t - 1, 1) for t in (s.at_s, s.over_s, s.until_s)]) for s in strikes(story.entries)]

    assert windows(storm=True) == [("a", [0.1, 0.3, 0.5]), ("b", [0.2, 0.4, 0.6]), ("a", [0.5, 0.5, 0.6])]
    assert [times[2] for _, times in windows(storm=False)] == [0.2, 0.5, 0.6]


def test_a_command_that_the_next_fault_cut_off_says_nothing_of_the_one_before() -> None:
    story = struck("drain-gameserver", "gs1")
    story.t += 8
    story.add("invoke", "inventory", 1).add("invoke", "partition", 0, {"target": "gs1 gs2"}, NEMESIS)
    story.t += 7
    story.add("fail", "inventory", 1, {"code": "unreachable"}).add("ok", "partition", 0, {"target": ""}, NEMESIS)
    found = figures(served(story))
    assert found["drain-gameserver"].samples["heal_s"] == [0.0]
    assert found["drain-gameserver"].counts["failed unreachable"] == 0
    assert found["partition"].samples["heal_s"] == [0.0]
    assert found["partition"].counts["failed unreachable"] == 1


def test_a_command_that_hung_before_the_next_fault_is_the_former_ones() -> None:
    story = struck("partition", "gs1 gs2").add("invoke", "inventory", 1)
    story.t += 8
    story.add("invoke", "kill-login", 0, {"target": "lg1"}, NEMESIS)
    story.add("fail", "inventory", 1, {"code": "unreachable"})
    found = figures(served(story.add("ok", "kill-login", 0, {"target": "lg1"}, NEMESIS)))
    assert found["partition"].samples["heal_s"] == [pytest.approx(8.3)]
    assert found["partition"].counts["failed unreachable"] == 1
    assert found["kill-login"].counts["failed unreachable"] == 0


def test_percentiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, at) for at in (50, 99, 100)] == [50, 99, 100]
    assert percentile([3.0], 99) == 3.0
