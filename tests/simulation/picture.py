"""What a client has been shown, kept as docs/protocol/04 says a client should: what is compared in the end."""

from dataclasses import dataclass, field

import numpy as np

from world import frames, grid
from world.limits import HIDE_AFTER_LEAVE_MS, PUBLISHER_HIDE_MS

Shown = tuple[int, int, float, float, tuple[tuple[int, int, bytes], ...]]  # epoch, version, x, y, groups


@dataclass(slots=True)
class Seen:
    epoch: int = 0
    version: int = -1
    x: float = 0.0
    y: float = 0.0
    publisher: int = 0
    subcell: int = -1
    groups: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)  # group -> (epoch, version, fields)
    hide_s: float | None = None
    handed: bool = False

    def shown(self) -> Shown:
        groups = tuple((g, v, body) for g, (_epoch, v, body) in sorted(self.groups.items()))
        return self.epoch, self.version, self.x, self.y, groups


class Picture:
    """Times are loop seconds."""

    def __init__(self) -> None:
        self.entities: dict[int, Seen] = {}
        self.sight: set[int] = set()

    def clear(self) -> None:
        self.entities.clear()
        self.sight.clear()

    def take(self, payload: bytes, now_s: float) -> frames.Slice | None:
        """A binary message; the slice, if it was one."""
        if payload[0] == frames.SIGHT:
            self._sight(*frames.read_sight(payload))
            return None
        if payload[0] not in (frames.SLICE, frames.SNAPSHOT):
            return None
        piece = frames.read_slice(payload)
        subcell = grid.subcell_of_place(piece.head.cell, piece.head.place_or_count)
        self._motion(piece, subcell)
        self._properties(piece)
        self._ends(piece, subcell, now_s)
        if piece.head.kind == frames.SNAPSHOT:
            self._replace(piece, subcell)
        return piece

    def _sight(self, entered: list[int], left: list[int]) -> None:
        gone = set(left)
        self.sight = (self.sight - gone) | set(entered)
        for entity in [e for e, seen in self.entities.items() if seen.subcell in gone]:
            del self.entities[entity]

    def _motion(self, piece: frames.Slice, subcell: int) -> None:
        for entity, epoch, version, x, y, _vx, _vy, _input, _flags in piece.motion.tolist():
            seen = self.entities.setdefault(entity, Seen())
            if (epoch, version) > (seen.epoch, seen.version):
                seen.epoch, seen.version, seen.x, seen.y = epoch, version, x, y
                seen.publisher, seen.subcell, seen.hide_s, seen.handed = piece.head.publisher, subcell, None, False

    def _properties(self, piece: frames.Slice) -> None:
        for row in piece.properties:
            seen = self.entities.get(row.entity)
            held = seen.groups.get(row.group) if seen is not None else None
            if seen is not None and (held is None or (row.epoch, row.version) > held[:2]):
                seen.groups[row.group] = (row.epoch, row.version, row.fields)

    def _ends(self, piece: frames.Slice, subcell: int, now_s: float) -> None:
        for entity, epoch, version, following in piece.leaves.tolist():
            seen = self.entities.get(entity)
            if seen is None or seen.subcell != subcell or (seen.epoch, seen.version) > (epoch, version):
                continue
            if following == frames.DESPAWNED or following not in self.sight:
                del self.entities[entity]
            else:
                seen.hide_s = now_s + HIDE_AFTER_LEAVE_MS / 1_000
        for entity, epoch, _publisher in piece.handed.tolist():
            seen = self.entities.get(entity)
            if seen is not None and seen.epoch < epoch:
                seen.handed, seen.hide_s = True, now_s + PUBLISHER_HIDE_MS / 1_000

    def _replace(self, piece: frames.Slice, subcell: int) -> None:
        named = set(np.unique(piece.motion["entity"]).tolist())
        for entity, seen in list(self.entities.items()):
            here = seen.subcell == subcell and seen.publisher == piece.head.publisher
            if here and entity not in named and not seen.handed:
                del self.entities[entity]

    def shown(self, now_s: float) -> dict[int, Shown]:
        for entity in [e for e, s in self.entities.items() if s.hide_s is not None and s.hide_s <= now_s]:
            del self.entities[entity]
        return {entity: seen.shown() for entity, seen in self.entities.items()}
