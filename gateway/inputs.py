"""Moves on their way from a client to its avatar's owner: checked, numbered, kept a while for resending.

A row of the client's message (``CLIENT_MOVE``, 28 bytes) is, byte for byte, the tail of the row that game servers read
(``MOVE_ROW``): forwarding is putting (avatar, session, connection, epoch) before it.
"""

import struct
from collections import deque
from math import isfinite

from world.frames import CLIENT_MOVE, CLIENT_MOVES, MOVE_ROW
from world.limits import INPUT_RESEND_WINDOW_MS, INPUT_ROWS_KEPT

_ROW = struct.Struct("<IQffff")  # CLIENT_MOVE
_HEAD = struct.Struct("<QQII")  # the first four columns of MOVE_ROW
_MOST_ROWS = 16

assert _ROW.size == CLIENT_MOVE.itemsize
assert _HEAD.size + _ROW.size == MOVE_ROW.itemsize


class BadMoves(ValueError):
    """Bytes that are no move message."""


def read_rows(data: bytes) -> list[tuple[int, bytes]]:
    """[(input number, row)]. Raises BadMoves, also for values that are not finite."""
    if len(data) < 4 or data[0] != CLIENT_MOVES:
        raise BadMoves("no message of a known type")
    if not 1 <= data[1] <= _MOST_ROWS or data[2] or data[3] or len(data) != 4 + data[1] * _ROW.size:
        raise BadMoves("a move message of a wrong length")
    rows, at = [], 4
    for number, _time, x, y, vx, vy in _ROW.iter_unpack(memoryview(data)[4:]):
        if not isfinite(x + y + vx + vy):
            raise BadMoves("a move that is not finite")
        rows.append((number, data[at : at + _ROW.size]))
        at += _ROW.size
    return rows


class Inputs:
    """One client's moves: those of the last INPUT_RESEND_WINDOW_MS are kept, for an owner that has not seen them."""

    def __init__(self) -> None:
        self.last = 0  # the highest input number taken
        self._kept: deque[tuple[float, int, bytes]] = deque(maxlen=INPUT_ROWS_KEPT)

    def take(self, data: bytes, now_ms: float) -> list[bytes]:
        """The new rows of a message; numbers seen before are left out. Raises BadMoves."""
        fresh = []
        for number, row in read_rows(data):
            if number > self.last:
                self.last = number
                self._kept.append((now_ms, number, row))
                fresh.append(row)
        return fresh

    def after(self, number: int, now_ms: float) -> list[bytes]:
        """Kept rows above ``number`` that are young enough to be worth applying."""
        oldest_ms = now_ms - INPUT_RESEND_WINDOW_MS
        return [row for at_ms, n, row in self._kept if n > number and at_ms >= oldest_ms]


def move_rows(avatar: int, session: int, connection: int, epoch: int, rows: list[bytes]) -> bytes:
    """MOVE_ROW[n] as bytes."""
    head = _HEAD.pack(avatar, session, connection, epoch)
    return b"".join([part for row in rows for part in (head, row)])
