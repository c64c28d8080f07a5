"""The SQLite store against what happens to processes and disks: kill -9, a full disk, others on the file."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from runtime.store.api import Ambiguous, Durability, NotFound, StoreOpenError, Temporary, Unavailable
from runtime.store.sqlite import SqliteStore
from tests.support.aio import run
from world import limits

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@contextmanager
def writing_process(folder: Path, writers: int = 16) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "tests.support.store_writer", str(folder), str(writers)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def killed_after(folder: Path, lines: int) -> tuple[int, list[tuple[str, int, int, int]]]:
    """(generation, acknowledged writes) of a process killed in the middle of its work."""
    with writing_process(folder) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    assert all(line.endswith(b"\n") for line in said)
    rows = [line.decode().split() for line in said[1:]]
    return int(said[0].split()[1]), [(key, int(n), int(cas), int(level)) for key, n, cas, level in rows]


def test_kill_9_loses_no_acknowledged_write_and_no_token_returns(tmp_path: Path) -> None:
    tokens: list[int] = []
    acknowledged: dict[str, int] = {}
    generations = []
    for lines in (300, 1, 1_000):
        generation, writes = killed_after(tmp_path, lines)
        generations.append(generation)
        of_this_life = [cas for _, _, cas, _ in writes]
        assert not tokens or not of_this_life or min(of_this_life) > max(tokens), "a token came back after the kill"
        tokens += of_this_life
        acknowledged |= {key: n for key, n, _, level in writes if level != Durability.NONE}
    assert len(set(tokens)) == len(tokens)
    assert generations == [1, 2, 3]

    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite")
        assert store.generation == 4
        for key, n in acknowledged.items():
            assert int((await store.get(key)).value) >= n
        assert await store.insert("after:1", b"") > max(tokens)
        await store.close()

    run(body())


def test_tokens_reserved_in_blocks_stay_above_those_of_the_last_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a start would skip none: the file itself says how far they may have gone."""
    monkeypatch.setattr(limits, "STORE_CAS_SKIP", 0)
    monkeypatch.setattr(limits, "STORE_CAS_BLOCK", 4)

    async def life(name: str) -> list[int]:
        store = SqliteStore(tmp_path / "world.sqlite")
        tokens = [await store.insert(f"{name}:{n}", b"") for n in range(11)]
        await store.close()
        return tokens

    first, second = run(life("a")), run(life("b"))
    assert min(second) > max(first)


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with writing_process(tmp_path, writers=1) as process:
        assert process.stdout is not None
        process.stdout.readline()

        async def body() -> None:
            with pytest.raises(StoreOpenError, match=r"already in use by another process\.$"):
                SqliteStore(tmp_path / "world.sqlite")

        run(body())
        assert process.stdout.readline()
        assert process.poll() is None


@contextmanager
def stopped_reader(path: Path) -> Iterator[None]:
    """Another process, stopped in the middle of reading the file."""
    command = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            os.kill(reader.pid, signal.SIGSTOP)
            yield
        finally:
            reader.kill()


READER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
base.execute("BEGIN"); base.execute("SELECT count(*) FROM documents").fetchall()
print("reading", flush=True); sys.stdin.read()
"""


def test_a_stopped_reader_of_the_file_does_not_block(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "world.sqlite"
        store = SqliteStore(path)
        cas = await store.insert("a:1", b"x" * 4_000)
        with stopped_reader(path):
            async with asyncio.timeout(20):
                for _ in range(100):
                    cas = await store.replace("a:1", b"y" * 4_000, cas)
                assert (await store.get("a:1")).cas == cas
                await store.close()

    run(body())


def test_another_writer_on_the_file_makes_writes_temporary_not_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_BUSY_MS", 50)

    async def body() -> None:
        path = tmp_path / "world.sqlite"
        store = SqliteStore(path)
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Temporary):
            await store.insert("a:1", b"")
        with pytest.raises(NotFound):
            await store.get("a:1")
        other.execute("ROLLBACK")
        await store.insert("a:1", b"")
        other.close()
        await store.close()

    run(body())


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


@pytest.mark.root
@needs_root
def test_a_full_disk_refuses_the_whole_group_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    async def body(disk: Path) -> None:
        store = SqliteStore(disk / "world.sqlite")
        kept: dict[str, int | BaseException] = {}
        refused = 0
        for n in range(200):
            keys = [f"a:{n}.{m}" for m in range(8)]
            results = await asyncio.gather(*(store.insert(k, b"x" * 20_000) for k in keys), return_exceptions=True)
            if any(isinstance(result, Temporary) for result in results):
                assert all(isinstance(result, Temporary) for result in results), "a group stands or falls as a whole"
                refused += 1
                if refused == 3:
                    break
            else:
                kept |= dict(zip(keys, results, strict=True))
        assert refused == 3
        assert sorted(await store.list("a")) == sorted(kept)
        remount(disk, "size=64m")
        newest = await store.insert("a:later", b"x" * 20_000)
        assert newest > max(cas for cas in kept.values() if isinstance(cas, int))
        await store.close()
        store = SqliteStore(disk / "world.sqlite")
        assert sorted(await store.list("a")) == sorted([*kept, "a:later"])
        await store.close()

    with small_disk(tmp_path / "disk", "2m") as disk:
        run(body(disk))


@pytest.mark.root
@needs_root
def test_a_read_only_folder_is_one_clear_sentence(tmp_path: Path) -> None:
    async def body(disk: Path) -> None:
        with pytest.raises(StoreOpenError, match=r"folder .* cannot be written: Read-only file system\.$"):
            SqliteStore(disk / "world.sqlite")

    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        run(body(disk))


def refused_to_open(path: Path, match: str) -> None:
    """Opening fails with that sentence and changes no byte of the database or its log."""
    log = path.with_name(path.name + "-wal")
    before = path.read_bytes(), log.read_bytes() if log.exists() else b""

    async def body() -> None:
        with pytest.raises(StoreOpenError, match=match):
            SqliteStore(path)

    run(body())
    assert (path.read_bytes(), log.read_bytes() if log.exists() else b"") == before


def test_a_folder_that_is_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    async def body() -> None:
        with pytest.raises(StoreOpenError, match=r"cannot be written: (Not a directory|File exists)\.$"):
            SqliteStore(tmp_path / "file" / "world.sqlite")

    run(body())


@pytest.mark.parametrize("content", [b"no database", b"no database at all" * 1_000, os.urandom(8_192)])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "world.sqlite"
    path.write_bytes(content)
    refused_to_open(path, "is damaged")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "world.sqlite"
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE theirs(x)")
    base.commit()
    base.close()
    refused_to_open(path, "some other program")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 2")
    base.close()
    refused_to_open(path, "has format 2, this version reads format 1")


def filled(folder: Path) -> Path:
    async def body() -> None:
        store = SqliteStore(folder / "world.sqlite")
        await asyncio.gather(*(store.insert(f"a:{n}", b"x" * 500) for n in range(500)))
        await store.close()

    run(body())
    return folder / "world.sqlite"


def test_a_damaged_page_in_the_middle_is_found_at_start(tmp_path: Path) -> None:
    path = filled(tmp_path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4_096 * 4_096
    content[middle : middle + 4_096] = b"\xa5" * 4_096
    path.write_bytes(content)
    refused_to_open(path, "is damaged")


def test_a_damaged_file_keeps_its_log(tmp_path: Path) -> None:
    """The log may hold the only good copy of a page: refusing must not move it into the file."""
    path = filled(tmp_path)
    live, copy = tmp_path / "world.sqlite", tmp_path / "copy"
    copy.mkdir()

    async def body() -> None:
        store = SqliteStore(live)
        await store.insert("b:1", b"in the log only")
        for name in ("world.sqlite", "world.sqlite-wal"):
            shutil.copy(tmp_path / name, copy / name)
        await store.close()

    run(body())
    path = copy / "world.sqlite"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4_096 * 4_096
    content[middle : middle + 4_096] = b"\xa5" * 4_096
    path.write_bytes(content)
    assert (copy / "world.sqlite-wal").stat().st_size > 0
    refused_to_open(path, "is damaged")


# -- a file system under test ------------------------------------------------------------------------------------------
class Disk(apsw.VFS):
    """SQLite's own file system, which counts syncs of the log and fails to sync or write it on demand."""

    def __init__(self) -> None:
        self.syncs = 0
        self.failing = False
        self.writes_fail: type[apsw.Error] | None = None
        super().__init__("counted", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "DiskFile":  # noqa: N802
        return DiskFile(self, name, flags)


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk = disk
        self.log = flags[0] & apsw.SQLITE_OPEN_WAL
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.log and self.disk.failing:
            raise apsw.IOError("sync failed")
        super().xSync(flags)
        self.disk.syncs += bool(self.log)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        if self.log and self.disk.writes_fail is not None:
            raise self.disk.writes_fail("write failed")
        super().xWrite(data, offset)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    yield disk
    disk.unregister()


def test_nothing_is_acknowledged_before_the_log_is_synced(tmp_path: Path, disk: Disk) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        cas = await store.insert("a:1", b"")
        for n in range(20):
            before = disk.syncs
            cas = await store.replace("a:1", b"%d" % n, cas)
            assert disk.syncs > before
        await store.close()

    run(body())


def test_many_writes_at_once_share_a_sync(tmp_path: Path, disk: Disk) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        before = disk.syncs
        await asyncio.gather(*(store.insert(f"a:{n}", b"") for n in range(500)))
        assert disk.syncs - before <= 10
        await store.close()

    run(body())


def test_a_failed_sync_is_ambiguous_and_ends_the_store(tmp_path: Path, disk: Disk) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        cas = await store.insert("a:1", b"good")
        disk.failing = True
        results = await asyncio.gather(
            store.replace("a:1", b"?", cas), store.insert("a:2", b"?"), return_exceptions=True
        )
        assert [type(result) for result in results] == [Ambiguous, Ambiguous]
        with pytest.raises(apsw.IOError):
            async with asyncio.timeout(5):
                await store.failed()
        with pytest.raises(Unavailable):
            await store.insert("a:3", b"")
        await store.close()
        disk.failing = False
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        assert (await store.get("a:1")).value in (b"good", b"?")
        await store.close()

    run(body())


def test_a_token_acknowledged_without_its_commit_is_not_given_again(tmp_path: Path, disk: Disk) -> None:
    """Durability NONE tells the token before the commit; when that fails, who holds the token must not match."""

    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        disk.writes_fail = apsw.IOError
        lost = await store.insert("a:1", b"lost", durability=Durability.NONE)
        with pytest.raises(apsw.IOError):
            async with asyncio.timeout(5):
                await store.failed()
        await store.close()
        disk.writes_fail = None
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        with pytest.raises(NotFound):
            await store.get("a:1")
        assert await store.insert("a:1", b"another") > lost
        await store.close()

    run(body())


def test_a_rolled_back_group_gives_no_token_again(tmp_path: Path, disk: Disk) -> None:
    async def body() -> None:
        store = SqliteStore(tmp_path / "world.sqlite", vfs="counted")
        disk.writes_fail = apsw.FullError
        lost = await store.insert("a:1", b"lost", durability=Durability.NONE)
        with pytest.raises(Temporary):
            await store.insert("a:2", b"")
        with pytest.raises(NotFound):  # waits for the group that was rolled back
            await store.get("a:1")
        disk.writes_fail = None
        assert await store.insert("a:1", b"another") > lost
        assert store.statistics()["full"] >= 1
        await store.close()

    run(body())
