"""Avatars in the world on this server: who is attached to each, its numbered events, and when it goes.

An avatar's *unit* may be held without the avatar being present (taken for a delivery while its player is away).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from gameserver.events import EventRing
from gameserver.units import Owned
from runtime.mesh.api import Mesh, Refused
from runtime.service import Service
from world.ids import NodeId
from world.limits import EVENT_RING_EVENTS
from world.messages import Detach, Events, EventsMissed, EventsSeen, HandedAvatar, Json
from world.unit import AttachNumber

STREAMS_PER_EPOCH_BITS = 16  # a stream's number: the epoch, and which ring of this epoch


@dataclass(slots=True, eq=False)
class Presence:
    """One avatar in the world. ``gateway_generation`` 0: nobody is attached. ``alone_since_ms``: when its gateway was
    last known to be there."""

    avatar: int
    owned: Owned
    ring: EventRing
    number: AttachNumber
    gateway_generation: int
    alone_since_ms: float
    leaving: bool = False  # by the player's wish: no linger
    told: Json = field(default_factory=dict)  # what the last inventory event said
    on_attached: Callable[[], None] | None = None  # told once, when its client has followed it here
    closed: Detach | None = None  # its client's close, come while it was being handed off
    held: deque[Json] = field(default_factory=lambda: deque(maxlen=EVENT_RING_EVENTS))  # come after it was offered

    @property
    def attached(self) -> bool:
        return self.gateway_generation > 0

    @property
    def gateway(self) -> NodeId:
        return NodeId(self.number.gateway)


class Presences:
    """All avatars present, and the numbered events that go to their players."""

    def __init__(self, service: Service, mesh: Mesh, may_speak: Callable[[], bool]) -> None:
        self._clock = service.clock
        self._mesh = mesh
        self._may_speak = may_speak
        self._present: dict[int, Presence] = {}

    def get(self, avatar: int) -> Presence | None:
        return self._present.get(avatar)

    def __iter__(self) -> Iterator[Presence]:
        return iter(list(self._present.values()))

    def __len__(self) -> int:
        return len(self._present)

    def appear(self, avatar: int, owned: Owned, number: AttachNumber, gateway_generation: int) -> Presence:
        """A new stream: nothing of an earlier one is known here."""
        owned.rings += 1
        ring = EventRing(owned.unit.epoch << STREAMS_PER_EPOCH_BITS | owned.rings)
        now = self._clock.monotonic_ms()
        presence = Presence(avatar, owned, ring, number, gateway_generation, now, told=inventory_of(owned, avatar))
        self._present[avatar] = presence
        return presence

    def arrive(self, avatar: int, owned: Owned, handed: HandedAvatar) -> Presence:
        """Handed over by its last owner: the same client, the same stream."""
        now = self._clock.monotonic_ms()
        ring = EventRing.arrived(handed.stream, handed.next_event, handed.events, now)
        number = AttachNumber(handed.session, handed.connection, handed.gateway)
        alone_since_ms = now - handed.alone_ms
        presence = Presence(
            avatar, owned, ring, number, handed.gateway_generation, alone_since_ms, told=dict(handed.told)
        )
        self._present[avatar] = presence
        return presence

    def vanish(self, avatar: int) -> Presence | None:
        return self._present.pop(avatar, None)

    # -- events ------------------------------------------------------------------------------------------------------
    def tell(self, avatar: int, event: Json) -> None:
        """An event for one player: numbered, kept until confirmed, sent if somebody is attached."""
        presence = self._present.get(avatar)
        if presence is None:
            return
        if presence.owned.offered:  # the stream is on its way to another server, which would give the number again
            presence.held.append(event)
            return
        body = orjson.dumps(event)
        n = presence.ring.add(body, self._clock.monotonic_ms())
        if presence.attached and self._may_speak():
            self._mesh.send(presence.gateway, _events(presence, [(n, body)]))

    def resume(self, presence: Presence) -> None:
        """It was not taken after all: what it was not told meanwhile."""
        while presence.held and not presence.owned.offered:
            self.tell(presence.avatar, presence.held.popleft())

    def tell_inventory(self, owned: Owned, avatar: int) -> None:
        """After a commit: the player hears of an inventory that changed."""
        presence = self._present.get(avatar)
        if presence is None:
            return
        items = inventory_of(owned, avatar)
        if items != presence.told:
            presence.told = items
            self.tell(avatar, {"kind": "inventory", "items": items})

    def seen(self, _: Any, message: EventsSeen) -> None:
        presence = self._present.get(message.avatar)
        if presence is not None and presence.ring.stream == message.stream:
            presence.ring.seen(message.n)

    def missed(self, _: Any, message: EventsMissed) -> Events:
        """Raises Refused ``resync``: the ring does not hold them (any more)."""
        presence = self._present.get(message.avatar)
        if presence is None or presence.ring.stream != message.stream or presence.number.session != message.session:
            raise Refused("resync")
        events = presence.ring.after(message.n)
        if events is None:
            raise Refused("resync")
        return _events(presence, events)


def _events(presence: Presence, items: list[tuple[int, bytes]]) -> Events:
    number = presence.number
    epoch = presence.owned.unit.epoch
    return Events(presence.avatar, number.session, number.connection, epoch, presence.ring.stream, items)


def inventory_of(owned: Owned, avatar: int) -> Json:
    """The committed items."""
    return dict(owned.unit.view(avatar).values["items"])
