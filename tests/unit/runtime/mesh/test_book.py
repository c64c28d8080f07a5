"""The book's rules of merging, one test each."""

from runtime.mesh.book import Heard, MemberBook
from world.ids import NodeId
from world.limits import BOOK_MEMBERS, SUSPECT_AFTER_MS
from world.messages import Member

GS1 = NodeId("gs1")


class Fixture:
    def __init__(self) -> None:
        self.now = 0.0
        self.book = MemberBook(Member("gateway", "gw1", 3, "tcp://me", nonce=50), lambda: self.now)
        self.dead: list[tuple[str, int]] = []
        self.self_dead: list[int] = []
        self.spread: list[tuple[str, int]] = []
        self.changes = 0
        self.book.on_dead(lambda node, generation: self.dead.append((node, generation)))
        self.book.on_self_dead(self.self_dead.append)
        self.book.on_verdict = lambda node, generation: self.spread.append((node, generation))
        self.book.on_change(self._changed)

    def _changed(self) -> None:
        self.changes += 1


def gs1(generation: int, command: str = "tcp://a", status: str = "ready", nonce: int = 7) -> Member:
    return Member("gameserver", "gs1", generation, command, status=status, nonce=nonce)


def test_a_higher_generation_replaces_and_the_old_one_is_dead() -> None:
    f = Fixture()
    assert f.book.heard(gs1(1), direct=False) is Heard.NEW
    assert f.book.heard(gs1(2, "tcp://b"), direct=False) is Heard.NEW
    assert f.dead == [("gs1", 1)]
    assert f.spread == [], "everybody sees it for himself"
    assert f.book.is_dead(GS1, 1)
    assert f.book.heard(gs1(1), direct=True) is Heard.DEAD
    member = f.book.get(GS1)
    assert member is not None
    assert member.command == "tcp://b"


def test_only_the_members_own_word_changes_its_entry() -> None:
    f = Fixture()
    f.book.heard(gs1(1), direct=True)
    f.book.heard(gs1(1, status="draining"), direct=False)
    assert [m.status for m in f.book.members("gameserver")] == ["ready"]
    assert f.changes == 1
    f.book.heard(gs1(1, status="draining"), direct=True)
    assert [m.status for m in f.book.members("gameserver")] == ["draining"]
    assert f.changes == 2


def test_a_verdict_is_final_and_told_once() -> None:
    f = Fixture()
    f.book.heard(gs1(4), direct=True)
    f.book.declare_dead(GS1, 4)
    f.book.declare_dead(GS1, 4)
    f.book.merge([gs1(4), gs1(3)], [("gs1", 4), ("gs1", 2)])
    assert f.dead == f.spread == [("gs1", 4)]
    assert f.book.members("gameserver") == []
    assert f.book.get(GS1) is None
    assert f.book.highest_generation(GS1) == 4
    assert f.book.heard(gs1(5), direct=True) is Heard.NEW
    assert f.dead == [("gs1", 4)]


def test_a_goodbye_is_a_verdict() -> None:
    f = Fixture()
    f.book.heard(gs1(1), direct=True)
    f.book.heard(gs1(1, status="dead"), direct=True)
    assert f.dead == [("gs1", 1)]


def test_two_processes_of_one_id_and_generation_are_told_apart() -> None:
    f = Fixture()
    f.book.heard(gs1(1), direct=True)
    assert f.book.heard(gs1(1, "tcp://b", nonce=8), direct=True) is Heard.DEAD
    assert [m.command for m in f.book.members("gameserver")] == ["tcp://a"]


def test_who_speaks_of_me_at_a_higher_generation_ends_me() -> None:
    f = Fixture()
    f.book.merge([Member("gateway", "gw1", 3, "tcp://me", nonce=50)], [])
    assert f.self_dead == []
    f.book.merge([Member("gateway", "gw1", 5, "tcp://other", nonce=1)], [])
    f.book.merge([], [("gw1", 3)])
    assert f.self_dead == [5, 3]
    assert f.book.highest_generation(NodeId("gw1")) == 5


def test_silence_is_suspicion_and_my_own_pause_is_not() -> None:
    f = Fixture()
    assert f.book.suspected(GS1)
    f.book.heard(gs1(1), direct=True)
    f.now = SUSPECT_AFTER_MS
    assert not f.book.suspected(GS1)
    f.now += 1
    assert f.book.suspected(GS1)
    f.book.alive("gs1", 1)
    f.now += 10_000
    f.book.pardon(10_000)
    assert not f.book.suspected(GS1)


def test_the_silent_are_forgotten_but_not_their_generations() -> None:
    f = Fixture()
    f.book.heard(gs1(4), direct=True)
    f.now = 100_000
    f.book.forget_silent(60_000)
    assert f.book.get(GS1) is None
    assert f.book.is_dead(GS1, 3)
    assert f.dead == []
    assert f.book.heard(gs1(4), direct=False) is Heard.NEW


def test_the_book_is_bounded() -> None:
    f = Fixture()
    for n in range(BOOK_MEMBERS):
        f.book.heard(Member("login", f"lg{n}", 1, "tcp://x"), direct=False)
    assert f.book.heard(gs1(1), direct=True) is Heard.FULL
    assert len(f.book.members()) == BOOK_MEMBERS + 1


def test_who_speaks_no_version_of_mine_is_not_taken_in() -> None:
    f = Fixture()
    later = Member("gameserver", "gs1", 1, "tcp://a", protocol_min=2, protocol_max=3)
    assert f.book.heard(later, direct=True) is Heard.FOREIGN
    f.book.merge([later], [])
    assert f.book.get(GS1) is None
    assert f.book.foreign == later
    overlapping = Member("gameserver", "gs1", 1, "tcp://a", protocol_min=1, protocol_max=3)
    assert f.book.heard(overlapping, direct=True) is Heard.NEW


def test_a_healed_peer_is_not_thought_slow_for_long() -> None:
    f = Fixture()
    f.book.heard(gs1(1), direct=True)
    f.book.answered(GS1, 2.0)
    f.book.answered(GS1, 10.0)
    assert f.book.round_trip_ms(GS1) == 3.0, "one slow answer says little"
    for held_back_ms in range(10_000, 0, -500):
        f.book.answered(GS1, held_back_ms)
    assert f.book.round_trip_ms(GS1) <= 500
    f.book.answered(GS1, 2.0)
    assert f.book.round_trip_ms(GS1) == 2.0
