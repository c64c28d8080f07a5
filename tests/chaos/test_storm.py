"""Storms, and what the judges read, without a cluster."""

import random
import threading
import time
from collections import deque
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from runtime.store.api import StoreOpenError
from runtime.store.opening import Credentials
from runtime.store.sqlite import SqliteStore
from tests.chaos import snapshot
from tests.chaos.backing import MOCK, SQLITE, fitting
from tests.chaos.faults import FAULTS
from tests.chaos.history import NEMESIS, Log, read
from tests.chaos.rows import ON_COUCHBASE, ROWS
from tests.chaos.snapshot import SqliteSnapshots, StoreSnapshots, Unreadable
from tests.chaos.stage import Stage
from tests.chaos.storm import Storm, blow
from tests.chaos.watch import Heads, Watch
from tests.support.aio import run
from world.limits import FORMAT
from world.message_values import Hold
from world.unit_document import Data, UnitDocument

QUICK_S = 0.02
KINDS = ("kill-login", "kill-broker")


def stage(folder: Path) -> Stage:
    return Stage(None, Log(folder / "nemesis.jsonl"), random.Random(1), restarts=True)  # type: ignore[arg-type]


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What strikes, and when, instead of the faults themselves."""
    struck: list[tuple[str, float]] = []

    def strike(kind: str, _stage: Stage) -> None:
        struck.append((kind, time.monotonic()))

    for kind in KINDS:
        monkeypatch.setitem(FAULTS, kind, partial(strike, kind))
    return struck


def test_one_clock_strikes_each_kind_once_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    struck = recorded(monkeypatch)
    blow(Storm(KINDS, 20 * QUICK_S, (QUICK_S, 2 * QUICK_S), seed=1), stage(tmp_path), lambda: None)
    assert 4 <= len(struck) <= 20
    assert all(later - earlier >= QUICK_S for (_, earlier), (_, later) in pairwise(struck))
    kinds = [kind for kind, _ in struck]
    assert all(set(kinds[n : n + 2]) == set(KINDS) for n in range(0, len(kinds) - 1, 2))


def test_each_kind_strikes_on_its_own_clock_until_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck = recorded(monkeypatch)
    blow(Storm(KINDS, 20 * QUICK_S, (QUICK_S, 2 * QUICK_S), seed=1, each=True), stage(tmp_path), lambda: None)
    for kind in KINDS:
        times = [at_s for name, at_s in struck if name == kind]
        assert 3 <= len(times) <= 20
        assert all(later - earlier >= QUICK_S for earlier, later in pairwise(times))


def test_nodes_are_struck_beside_the_kills() -> None:
    storm = Storm((*KINDS, *ON_COUCHBASE), 60, (5, 15), seed=1)
    assert storm.clocks() == [KINDS, ON_COUCHBASE]
    assert Storm(KINDS, 60, (5, 15), seed=1).clocks() == [KINDS]
    assert len(replace(storm, each=True).clocks()) == len(storm.faults)


def test_a_seed_strikes_again_what_it_struck() -> None:
    def first(seed: int) -> list[tuple[float, str]]:
        return list(islice(Storm(KINDS, 60, (5, 15), seed).strikes(KINDS, random.Random(seed)), 10))

    assert first(1) == first(1) != first(2)
    assert all(5 <= after_s <= 15 for after_s, _ in first(1))


def test_a_fault_that_fails_ends_the_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_stage: Stage) -> None:
        raise AssertionError("gs1 is not back")

    recorded(monkeypatch)
    monkeypatch.setitem(FAULTS, "kill-login", fails)
    began_s = time.monotonic()
    with pytest.raises(AssertionError, match="gs1 is not back"):
        blow(Storm(KINDS, 60, (QUICK_S, QUICK_S), seed=1, each=True), stage(tmp_path), lambda: None)
    assert time.monotonic() - began_s < 5


def test_the_history_says_that_kinds_struck_at_once(tmp_path: Path) -> None:
    stage_ = stage(tmp_path)
    for each in (False, True):
        blow(Storm(KINDS, 0.0, (9.0, 9.0), seed=1, each=each), stage_, lambda: None)
    stage_._log.close()
    assert [(entry.who, entry.op) for entry in read(tmp_path)] == [(NEMESIS, "storm")]


def test_each_store_has_the_faults_that_it_can_have() -> None:
    trading = ROWS["trading"].faults
    assert set(trading) - set(fitting(trading, SQLITE)) == set(ON_COUCHBASE)
    assert set(trading) - set(fitting(trading, MOCK)) == {"kill-store"}
    assert fitting(ROWS["fill-disk"].faults, MOCK) == ()


def test_pictures_are_the_same_by_file_and_by_adapter(tmp_path: Path) -> None:
    database = tmp_path / "world.sqlite"
    wanted = {f"{kind}:{n}": b'{"n":%d}' % n for kind in ("avatar", "region", "tx") for n in range(3)}

    async def fill(**others: Any) -> None:
        store = SqliteStore(database)
        for key, value in (wanted | others).items():
            await store.insert(key, value)
        await store.close()

    run(fill(**{"srv:gs1": b"{}"}))
    for snapshots in (SqliteSnapshots(database), StoreSnapshots(f"sqlite://{database}", Credentials("", ""))):
        assert snapshots.read() == wanted
        snapshots.close()


def test_a_store_that_is_away_is_unreadable_until_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreadable):
        SqliteSnapshots(tmp_path / "none.sqlite").read()
    snapshots = StoreSnapshots(f"sqlite://{tmp_path}/world.sqlite", Credentials("", ""))
    with monkeypatch.context() as away:
        away.setattr(snapshot, "open_store", AsyncMock(side_effect=StoreOpenError("nobody listens")))
        with pytest.raises(Unreadable):
            snapshots.read()
    assert snapshots.read() == {}
    snapshots.close()


def test_a_watch_that_went_blind_is_told_at_the_end(tmp_path: Path) -> None:
    class Blind(Watch):
        def watch(self) -> None:
            raise KeyError("servers")

    blind = Blind(Log(tmp_path / "blind.jsonl"))
    blind.start()
    with pytest.raises(AssertionError, match="went blind"):
        blind.stop()


def test_heads_and_holds_are_written_down_as_they_change(tmp_path: Path) -> None:
    locked = UnitDocument(Data(), owner="gs1", epoch=1, version=1, pending={"1.1.1.0": Hold([])}, format=FORMAT)
    pictures = deque([{"avatar:1": msgspec.json.encode(locked)}] * 2)
    over = threading.Event()

    class Two:
        def read(self) -> dict[str, bytes]:
            if not pictures:
                over.set()
                raise Unreadable
            return pictures.popleft()

        def close(self) -> None: ...

    heads = Heads(Two, Log(tmp_path / "heads.jsonl"), QUICK_S)
    heads.start()
    assert over.wait(5)
    heads.stop()
    head, hold = read(tmp_path)
    assert (head.op, head.value) == ("head", ["avatar:1", "gs1", 0, 1, 1])
    assert (hold.op, hold.value[:3]) == ("held", ["locked", "avatar:1", "1.1.1.0"])
