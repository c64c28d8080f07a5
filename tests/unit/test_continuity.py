"""The simulation's judges of changes of owner, shown what they must not let pass."""

from tests.simulation.continuity import Attachments, Record, Rollback


def told(judge: Attachments, epoch: int, resync: bool = False, moved: bool = True) -> list[str]:
    if moved:
        judge.detached("moved")
    return list(judge.attached(epoch, resync))


def playing(handed: bool = True) -> Attachments:
    judge = Attachments(lambda _epoch: handed)
    judge.connected()
    assert told(judge, 4, resync=True, moved=False) == []
    return judge


def test_a_hand_off_names_a_newer_owner_and_starts_nothing_anew() -> None:
    assert told(playing(), 5) == []
    assert told(playing(), 3) == ["attached to the owner at epoch 3 after that at 4"]
    assert told(playing(), 4) == ["detached as moved, and attached to the same owner at epoch 4 again"]
    assert told(playing(), 5, resync=True) == ["given to the owner at epoch 5 by a living one, and made to start anew"]


def test_a_death_or_another_socket_may_start_anew() -> None:
    assert told(playing(handed=False), 5, resync=True) == []
    judge = playing()
    judge.connected()
    assert told(judge, 5, resync=True, moved=False) == []


def test_rollback_is_from_the_first_input_lost_to_the_last_word() -> None:
    judge = Rollback()
    for n in range(1, 6):
        judge.seen(Record(1, n, 1_000.0 + 200 * n))
    assert judge.taken(2, 5) == 0.0
    assert judge.taken(2, 3) == 200.0
    assert judge.taken(2, 1) == 600.0
    assert judge.taken(1, 1) == 0.0, "the same owner"
