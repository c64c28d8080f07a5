"""Commands of one client: kept until their result, sent again with the same number whatever happens to the owner."""

from typing import NamedTuple

from gateway.client_messages import Command
from gateway.effects import CallCommand
from world.limits import CLIENT_COMMANDS_IN_FLIGHT
from world.messages import ClientCommand

NEVER = float("inf")


class Sender(NamedTuple):
    """Whose commands these are, in the terms of ``ClientCommand``."""

    avatar: int
    session: int
    connection: int


class Pending:
    """One command without result."""

    __slots__ = ("attempt", "in_flight", "message", "retry_at_ms")

    def __init__(self, message: ClientCommand) -> None:
        self.message = message
        self.attempt = 0
        self.in_flight = False
        self.retry_at_ms = NEVER  # when it is sent again, unless a new owner comes first


class Commands:
    """Those in flight, by number; at most CLIENT_COMMANDS_IN_FLIGHT."""

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._pending

    def same(self, command: Command) -> bool:
        """Whether the one that waits under this number asks for the same."""
        held = self._pending[command.n].message
        return (held.op, held.args) == (command.op, command.args)

    def full(self) -> bool:
        return len(self._pending) >= CLIENT_COMMANDS_IN_FLIGHT

    def add(self, command: Command, sender: Sender) -> None:
        self._pending[command.n] = Pending(
            ClientCommand(
                sender.avatar, sender.session, sender.connection, command.n, command.floor, command.op, command.args
            )
        )

    def send(self, server: str, number: int) -> CallCommand:
        pending = self._pending[number]
        pending.attempt += 1
        pending.in_flight = True
        pending.retry_at_ms = NEVER
        return CallCommand(server, pending.message, pending.attempt)

    def send_all(self, server: str) -> list[CallCommand]:
        """To a new owner: everything without result, in order."""
        return [self.send(server, number) for number in sorted(self._pending)]

    def due(self, server: str, now_ms: float) -> list[CallCommand]:
        return [self.send(server, n) for n, p in sorted(self._pending.items()) if p.retry_at_ms <= now_ms]

    def done(self, number: int) -> bool:
        """The result came, by whichever attempt. False: it had come before."""
        return self._pending.pop(number, None) is not None

    def current(self, number: int, attempt: int) -> bool:
        """Whether this answer belongs to the newest attempt of a command that still waits."""
        pending = self._pending.get(number)
        return pending is not None and pending.attempt == attempt

    def retry_at(self, number: int, at_ms: float) -> None:
        pending = self._pending[number]
        pending.in_flight = False
        pending.retry_at_ms = at_ms

    def next_ms(self) -> float:
        return min((p.retry_at_ms for p in self._pending.values()), default=NEVER)
