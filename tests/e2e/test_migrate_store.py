"""``projectk migrate-store`` as an operator runs it: killed on the way, said again, and refused a running world."""

import asyncio
import signal
import subprocess
from pathlib import Path

import apsw
import pytest

from runtime.store.format import KEY
from runtime.store.sqlite import SqliteStore
from tests.support.aio import run
from tests.support.cluster import COMMAND, START_S, environment, projectk
from tests.support.processes import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

DOCUMENTS = 20_000
VALUE = b'{"format":1,"data":{"entities":{}},"padding":"%s"}' % (b"x" * 900)


async def make_world(path: Path) -> None:
    store = SqliteStore(path)
    await store.insert(KEY, b'{"format":1,"world_seed":1}')
    for start in range(0, DOCUMENTS, 2_000):
        await asyncio.gather(*(store.insert(f"avatar:{n}", VALUE) for n in range(start, start + 2_000)))
    await store.counter("counter:session", initial=1_234)
    await store.close()


def rows(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = connection.execute(
            "SELECT key, value FROM documents UNION ALL SELECT key, value FROM counters"
        ).fetchall()
        return sorted(found)
    finally:
        connection.close()


def some_are_there(path: Path) -> bool:
    try:
        return path.exists() and len(rows(path)) > 1_000
    except apsw.Error:
        return False


def test_killed_and_said_again_it_copies_a_world_and_refuses_a_running_one(tmp_path: Path) -> None:
    source, target = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    words = ("migrate-store", f"sqlite://{source}", f"sqlite://{target}")
    run(make_world(source))
    with subprocess.Popen([*COMMAND, *words], env=environment(), stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: some_are_there(target) or process.poll() is not None, START_S, "some documents are copied")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was killed on the way"
    assert len(rows(target)) < len(rows(source))
    done = projectk(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Went on with an earlier run" in done.stdout
    assert f"{DOCUMENTS + 1:,} documents and 1 counters are equal" in done.stdout
    assert rows(target) == rows(source)
    run(refuses_what_runs(source, tmp_path, *words))


async def refuses_what_runs(source: Path, folder: Path, *words: str) -> None:
    store = SqliteStore(source)
    try:
        done = await asyncio.to_thread(projectk, *words, cwd=folder)
    finally:
        await store.close()
    assert done.returncode == 2
    assert "already in use by another process. Stop the world first." in done.stderr
