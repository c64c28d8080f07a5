"""The SQLite file: opened, checked, locked against a second store, and given its next generation.

    documents(key, value, cas)   one row per document
    counters(key, value)         atomic counters, a key space of their own
    meta(name, value)            ``generation``: raised at each opening; ``cas``: none above was given away

Nothing is written before the file has been recognised and checked: a file that is not ours, or is damaged, is left
exactly as it was found, its write-ahead log included.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from runtime.store.api import StoreOpenError
from world import limits

APPLICATION_ID = 0x504B5354  # "PKST", in the file's header
SCHEMA = 1  # in the header's user_version

_SCHEMA_SQL = """
CREATE TABLE documents(key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, cas INTEGER NOT NULL) STRICT;
CREATE TABLE counters(key TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE meta(name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('generation', 0), ('cas', 0);
"""
_PROGRESS_STEPS = 10_000  # virtual machine steps of SQLite between two looks at the clock


@dataclass(slots=True)
class Opened:
    """``writer`` and ``reader`` are connections for one thread each; ``lock`` is held until ``close``."""

    path: Path
    writer: apsw.Connection
    reader: apsw.Connection
    lock: int
    generation: int
    last_cas: int

    def unlock(self) -> None:
        os.close(self.lock)


def open_database(path: Path, vfs: str | None = None) -> Opened:
    """Create or open the file. Raises StoreOpenError."""
    lock = _lock(path)
    try:
        return _open_locked(path, vfs, lock)
    except apsw.Error as error:
        os.close(lock)
        raise StoreOpenError(_explain(path, error)) from error
    except BaseException:
        os.close(lock)
        raise


def _open_locked(path: Path, vfs: str | None, lock: int) -> Opened:
    writer = _connect(path, vfs)
    try:
        generation, last_cas = _start(writer)
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    except BaseException:
        writer.close(True)
        raise
    reader.set_busy_timeout(limits.STORE_BUSY_MS)
    return Opened(path, writer, reader, lock, generation, last_cas)


def _lock(path: Path) -> int:
    """An exclusive lock on a file beside the database, which the system releases however this process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreOpenError(f"The store's folder {path.parent} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StoreOpenError(f"The store {path} is already in use by another process.") from error
    return lock


def _connect(path: Path, vfs: str | None) -> apsw.Connection:
    """A connection to a file that is new, or ours and sound; closed again where it is neither."""
    connection = apsw.Connection(str(path), vfs=vfs)
    try:
        connection.set_busy_timeout(limits.STORE_BUSY_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        _recognise(path, connection)
        _check(path, connection)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except BaseException:
        connection.close(True)
        raise
    return connection


def _recognise(path: Path, connection: apsw.Connection) -> None:
    application, schema = connection.pragma("application_id"), connection.pragma("user_version")
    if application == 0 and schema == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchall():
        return  # a new file
    if application != APPLICATION_ID:
        raise StoreOpenError(f"{path} is a database of some other program; it was left as it is.")
    if schema != SCHEMA:
        raise StoreOpenError(f"The store {path} has format {schema}, this version reads format {SCHEMA}.")


def _check(path: Path, connection: apsw.Connection) -> None:
    """Look for corruption for up to STORE_CHECK_MS: a large file is checked in part. Raises StoreOpenError."""
    until = time.monotonic() + limits.STORE_CHECK_MS / 1_000
    connection.set_progress_handler(lambda: time.monotonic() > until, _PROGRESS_STEPS)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
    except apsw.InterruptError:
        return
    finally:
        connection.set_progress_handler(None)
    if found != [("ok",)]:
        raise StoreOpenError(_corrupt(path, str(found[0][0]).splitlines()[-1]))


def _start(connection: apsw.Connection) -> tuple[int, int]:
    """Set the file's modes, create the tables where there are none, take the next generation and skip tokens that a
    crash may have given away without a trace. Returns (generation, last token)."""
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("fullfsync", True)  # macOS: fsync alone does not reach the disk
    connection.pragma("checkpoint_fullfsync", True)
    connection.pragma("trusted_schema", False)
    connection.transaction_mode = "IMMEDIATE"
    connection.wal_autocheckpoint(0)  # the writer does it between groups, after the answers
    with connection:
        if connection.pragma("user_version") == 0:
            connection.execute(_SCHEMA_SQL)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA)
        connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")
        connection.execute("UPDATE meta SET value = value + ? WHERE name = 'cas'", (limits.STORE_CAS_SKIP,))
        rows: list[Any] = connection.execute("SELECT name, value FROM meta").fetchall()
    meta: dict[str, int] = dict(rows)
    return meta["generation"], meta["cas"]


def _corrupt(path: Path, detail: str) -> str:
    return f"The store {path} is damaged ({detail}); it was left as it is: restore a backup or move it away."


def _explain(path: Path, error: apsw.Error) -> str:
    if isinstance(error, apsw.NotADBError | apsw.CorruptError | apsw.FormatError):
        return _corrupt(path, str(error).removeprefix("SQLITE_"))
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return f"The store {path} is locked by another process."
    if isinstance(error, apsw.FullError):
        return f"The disk under {path} is full."
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        return f"The store {path} cannot be opened for writing: {error}."
    return f"The store {path} cannot be opened: {error}."
