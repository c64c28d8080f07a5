"""Golden vectors of the binary protocol: ``python -m tests.support.golden_vectors`` writes docs/protocol/vectors.json.

The Python and the JavaScript tests read that one file, so that neither side can drift from the documented layout.
All floats are exactly representable in 32 bits, so that decoded values compare equal.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from world import frames

PATH = Path(__file__).parents[2] / "docs" / "protocol" / "vectors.json"
Json = dict[str, Any]

ANA, BEN, TREE = (1 << 48) + 7, (1 << 48) + 8, (2 << 48) | (15 << 40) | (16 << 32) | 3
WORLD_MS = 1_700_000_123_456


def _motion(*rows: tuple[Any, ...]) -> bytes:
    return frames.motion_block(np.array(list(rows), frames.MOTION))


def _walkers() -> bytes:
    return _motion(
        (ANA, 3, 41, 4100.5, 4097.25, 6.0, -1.5, 17, 0),
        (BEN, 1, 2, 4127.75, 4096.0, 0.0, 0.0, 4_294_967_295, frames.FLAG_CORRECTED),
    )


def _trees() -> bytes:
    return frames.property_block(
        [
            frames.Property(TREE, 2, 5, 0, b"[6]"),
            frames.Property(ANA, 3, 9, 0, '["Ána","☘ 🌲"]'.encode()),
            frames.Property(ANA, 3, 1, 1, b"[]"),
        ]
    )


def _said() -> bytes:
    body = '{"kind":"say","name":"Ána","text":"hi ✋"}'.encode()
    return frames.event_block([frames.AreaEvent(ANA, 3, 12, body)])


def _left() -> bytes:
    rows = [(BEN, 1, 3, 32_897), (TREE, 2, 0, frames.DESPAWNED)]
    return frames.leave_block(np.array(rows, frames.LEAVE))


def _handed() -> bytes:
    return frames.handed_block(np.array([(ANA, 4, 2)], frames.HANDED))


def _unknown() -> bytes:
    return frames.BLOCK.pack(200, 0, 3, 5) + b"later"


def _slice(kind: int, *blocks: bytes) -> bytes:
    return frames.slice_bytes(kind, 5, 2080, 1, 4, 99, WORLD_MS, blocks)


def encoded() -> dict[str, bytes]:
    """Name -> message bytes, made by the encoders of world/frames.py."""
    delta = _slice(frames.SLICE, _walkers(), _trees(), _left(), _said(), _handed())
    return {
        "slice with every block": delta,
        "slice with motion only": _slice(frames.SLICE, _walkers()),
        "slice with an unknown block to skip": _slice(frames.SLICE, _unknown(), _walkers()),
        "snapshot": _slice(frames.SNAPSHOT, _walkers(), _trees()),
        "snapshot of an empty sub-cell": _slice(frames.SNAPSHOT),
        "sight": frames.sight_bytes([32_896, 32_897, 65_535], [0]),
        "sight that only leaves": frames.sight_bytes([], [256, 257]),
        "client moves": frames.client_moves(
            [(17, WORLD_MS, 4100.5, 4097.25, 6.0, -1.5), (18, WORLD_MS + 100, 4101.0, 4097.0, 0.0, 0.0)]
        ),
        "digest": frames.digest_bytes(
            True, 1, 4, WORLD_MS, np.array([(2080, 0, 99, 2, 0xFFFF_FFFF_0000_0001)], frames.DIGEST_ROW)
        ),
        "cell frame": frames.frame_bytes(2080, 1, 4, 99, WORLD_MS, [delta, _slice(frames.SLICE, _said())]),
    }


def damaged() -> dict[str, bytes]:
    """Bytes that every reader must refuse."""
    whole = encoded()
    delta, sight = whole["slice with every block"], whole["sight"]
    return {
        "empty": b"",
        "slice cut in its head": delta[:20],
        "slice cut in a block's head": delta[: frames.HEAD.size + 3],
        "slice cut in its last block": delta[:-1],
        "motion block whose count is a lie": _slice(frames.SLICE, frames.BLOCK.pack(1, 0, 2, 40) + bytes(40)),
        "property that runs past its block": _slice(
            frames.SLICE, frames.BLOCK.pack(2, 0, 1, 20) + frames.PROPERTY_HEAD.pack(TREE, 2, 5, 0, 0, 9)
        ),
        "sight cut": sight[:-1],
    }


def _records(rows: Any) -> list[Json]:
    return [dict(zip(rows.dtype.names, row, strict=True)) for row in rows.tolist()]


def _head(head: frames.Head) -> Json:
    return head._asdict()


def _decode_slice(data: bytes) -> Json:
    piece = frames.read_slice(data)
    return {
        "head": _head(piece.head),
        "motion": _records(piece.motion),
        "properties": [{**p._asdict(), "fields": json.loads(p.fields)} for p in piece.properties],
        "leaves": _records(piece.leaves),
        "events": [{**e._asdict(), "body": json.loads(e.body)} for e in piece.events],
        "handed": _records(piece.handed),
    }


def _decode_sight(data: bytes) -> Json:
    entered, left = frames.read_sight(data)
    return {"entered": entered, "left": left}


def _decode_moves(data: bytes) -> Json:
    return {"moves": _records(frames.read_client_moves(data))}


def _decode_digest(data: bytes) -> Json:
    digest = frames.read_digest(data)
    rows = [{**row, "hash": str(row["hash"])} for row in _records(digest.rows)]  # 64 bits are no JSON number
    return {**digest._asdict(), "rows": rows}


def _decode_frame(data: bytes) -> Json:
    head, slices = frames.split_frame(data)
    return {"head": _head(head), "slices": [[place, piece.hex()] for place, piece in slices]}


DECODERS: dict[int, tuple[str, Callable[[bytes], Json]]] = {
    frames.SLICE: ("slice", _decode_slice),
    frames.SNAPSHOT: ("slice", _decode_slice),
    frames.SIGHT: ("sight", _decode_sight),
    frames.CLIENT_MOVES: ("client_moves", _decode_moves),
    frames.DIGEST: ("digest", _decode_digest),
    frames.FRAME: ("frame", _decode_frame),
}


def vectors() -> Json:
    """The whole document."""
    good = []
    for name, data in encoded().items():
        kind, decode = DECODERS[data[0]]
        good.append({"name": name, "kind": kind, "hex": data.hex(), "decoded": decode(data)})
    bad = [{"name": name, "hex": data.hex()} for name, data in damaged().items()]
    return {"protocol": 1, "vectors": good, "refused": bad}


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
