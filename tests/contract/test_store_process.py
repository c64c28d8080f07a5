"""The store as its own process over real sockets: killed, restarted, stopped, and refused."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.store.api import Ambiguous, StoreError, Unavailable
from runtime.store.client import StoreClient
from runtime.store.link import StoreLink
from tests.support.aio import run
from tests.support.mesh import ZmqBackend, run_zmq, until

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.cluster


def launch(data: Path, join: str = "") -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PROJECTK_DATA": str(data), "PROJECTK_JOIN": join}
    command = [sys.executable, "-m", "cluster.role", "store"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@contextmanager
def store_process(data: Path, join: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    with launch(data, join) as process:
        try:
            yield process
        finally:
            process.kill()


async def ready(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    document: dict[str, Any] = json.loads(line)
    assert document["ready"]
    return document


async def write_until_failure(store: StoreClient, key: str, acknowledged: dict[str, int]) -> StoreError:
    cas = await store.insert(key, b"0")
    acknowledged[key] = 0
    while True:
        try:
            cas = await store.replace(key, b"%d" % (acknowledged[key] + 1), cas)
        except StoreError as error:
            return error
        acknowledged[key] += 1


def test_killed_in_the_middle_of_writes_and_started_again(tmp_path: Path) -> None:
    """What was in flight is Ambiguous (or was never sent), everything acknowledged is there, and the same client
    goes on with the new generation."""

    async def scenario(backend: ZmqBackend) -> None:
        mesh = await backend.mesh("gameserver", "gs1", 1)
        link = StoreLink(mesh)
        store = StoreClient(link, at_close=link.close)
        acknowledged: dict[str, int] = {}
        with store_process(tmp_path, mesh.me.command) as process:
            await ready(process)
            await until(lambda: bool(mesh.book.members("store")))
            writers = [asyncio.ensure_future(write_until_failure(store, f"a:{n}", acknowledged)) for n in range(16)]
            await until(lambda: sum(acknowledged.values()) > 500)
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.1)  # what it had answered has come
            assert store.unanswered_writes == 16, "so all are on their way"
            process.kill()
        with store_process(tmp_path, mesh.me.command) as process:
            await ready(process)
            await until(lambda: mesh.book.members("store")[0].generation == 2)
            failures = await asyncio.gather(*writers)
            assert link.statistics.broken == 1
            assert {type(error) for error in failures} <= {Ambiguous, Unavailable}
            assert any(isinstance(error, Ambiguous) for error in failures)
            for key, n in acknowledged.items():
                document = await store.get(key)
                assert int(document.value) in (n, n + 1), "acknowledged, or the one in flight on top of it"
                await store.replace(key, b"after", document.cas)
            assert link.statistics.opened == 2
            await store.close()

    run_zmq(scenario)


def test_terminated_it_stops_cleanly_and_leaves_no_log_behind(tmp_path: Path) -> None:
    async def scenario(backend: ZmqBackend) -> None:
        mesh = await backend.mesh("gameserver", "gs1", 1)
        with store_process(tmp_path, mesh.me.command) as process:
            addresses = (await ready(process))["addresses"]
            assert {"command", "metrics", "store"} <= set(addresses)
            await until(lambda: bool(mesh.book.members("store")))
            await StoreClient(mesh).insert("a:1", b"")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 10) == 0
        assert not (tmp_path / "store" / "world.sqlite-wal").exists()
        with pytest.raises((Unavailable, Ambiguous)):
            await StoreClient(mesh).insert("a:2", b"")

    run_zmq(scenario)


def refusal(data: Path) -> str:
    with store_process(data) as process:
        _, said = process.communicate(timeout=20)
        assert process.returncode == 2
        return said.decode().splitlines()[-1]


def test_a_corrupt_database_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    path = tmp_path / "store" / "world.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"\xa5" * 10_000)
    said = refusal(tmp_path)
    assert said.startswith(f"projectk: The store {path} is damaged")
    assert path.read_bytes() == b"\xa5" * 10_000


def test_an_unusable_data_folder_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    assert "cannot be written" in refusal(tmp_path / "data")


def test_a_second_store_on_the_same_data_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    async def body() -> None:
        with store_process(tmp_path) as first:
            await ready(first)
            assert "already in use by another process" in await asyncio.to_thread(refusal, tmp_path)
            assert first.poll() is None

    run(body())
