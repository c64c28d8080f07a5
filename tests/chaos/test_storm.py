"""Storms, and what the judges read, without a cluster."""

import random
import threading
import time
from collections import deque
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest

from runtime.store.api import StoreOpenError
from runtime.store.opening import Credentials
from runtime.store.sqlite import SqliteStore
from tests.chaos import snapshot
from tests.chaos import storm as storms
from tests.chaos.backing import MOCK, SQLITE, fitting
from tests.chaos.faults import FAULTS
from tests.chaos.history import NEMESIS, Log, read
from tests.chaos.rows import ON_COUCHBASE, ROWS
from tests.chaos.snapshot import SqliteSnapshots, StoreSnapshots, Unreadable
from tests.chaos.stage import Stage
from tests.chaos.watch import Heads, Watch
from tests.support.aio import run
from world.limits import FORMAT
from world.message_values import Hold
from world.unit_document import Data, UnitDocument

QUICK_S = 0.02


def stage(folder: Path) -> Stage:
    return Stage(None, Log(folder / "nemesis.jsonl"), random.Random(1), restarts=True)  # type: ignore[arg-type]


def test_each_kind_strikes_on_its_own_clock_until_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck: list[tuple[str, float]] = []

    def strike(kind: str, _stage: Stage) -> None:
        struck.append((kind, time.monotonic()))

    kinds = ("kill-login", "kill-broker")
    for kind in kinds:
        monkeypatch.setitem(FAULTS, kind, partial(strike, kind))
    storms.storm(stage(tmp_path), kinds, (QUICK_S, 2 * QUICK_S), 20 * QUICK_S, seed=1, say=lambda: None)
    for kind in kinds:
        times = [at_s for name, at_s in struck if name == kind]
        assert 3 <= len(times) <= 21
        assert all(later - earlier >= QUICK_S for earlier, later in pairwise(times))


def test_a_fault_that_fails_ends_the_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_stage: Stage) -> None:
        raise AssertionError("gs1 is not back")

    monkeypatch.setitem(FAULTS, "kill-login", fails)
    monkeypatch.setitem(FAULTS, "kill-broker", lambda _stage: None)
    began_s = time.monotonic()
    with pytest.raises(AssertionError, match="gs1 is not back"):
        storms.storm(stage(tmp_path), ("kill-login", "kill-broker"), (QUICK_S, QUICK_S), 60, seed=1, say=lambda: None)
    assert time.monotonic() - began_s < 5


def test_the_history_says_that_it_was_a_storm(tmp_path: Path) -> None:
    stage_ = stage(tmp_path)
    storms.storm(stage_, ("kill-login",), (9.0, 9.0), 0.0, seed=1, say=lambda: None)
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
