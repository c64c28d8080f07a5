"""Numbered events of one avatar, (stream, n): forwarded once and in order, gaps noticed."""

from collections import deque
from typing import NamedTuple

from world.limits import EARLY_EVENTS_MESSAGES
from world.messages import Attached, Events


class Taken(NamedTuple):
    forward: list[tuple[int, bytes]]  # (n, JSON), in order
    missing: bool  # events after ``EventStream.seen`` exist that did not come


class EventStream:
    """Follows the stream of the owner the session is attached to."""

    def __init__(self, stream: int = 0, seen: int = 0) -> None:
        self.stream = stream
        self.seen = seen  # the last one forwarded
        self.duplicates = 0
        self._early: deque[Events] = deque(maxlen=EARLY_EVENTS_MESSAGES)

    def attached(self, answer: Attached) -> list[tuple[int, bytes]]:
        """Take over what the owner says; the events to forward now."""
        if answer.resync is not None or answer.stream != self.stream:
            self.stream, self.seen = answer.stream, answer.next_event - 1
        forward = self.take(Events(answer.avatar, 0, 0, answer.epoch, answer.stream, list(answer.events))).forward
        early, self._early = self._early, deque(maxlen=EARLY_EVENTS_MESSAGES)
        for message in early:
            if message.epoch >= answer.epoch:
                forward += self.take(message).forward
        return forward

    def early(self, message: Events) -> None:
        """A message that came before its ``attached``; of too many the oldest is dropped, and asked for as a gap."""
        self._early.append(message)

    def take(self, message: Events) -> Taken:
        """Those not seen yet, up to the first gap."""
        forward: list[tuple[int, bytes]] = []
        if message.stream != self.stream:
            return Taken(forward, False)
        for n, body in message.items:
            if n <= self.seen:
                self.duplicates += 1
            elif n == self.seen + 1:
                self.seen = n
                forward.append((n, body))
            else:
                return Taken(forward, True)
        return Taken(forward, False)
