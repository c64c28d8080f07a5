"""The pure halves of calling: ``CallTable`` at the origin, ``ReplyMemory`` at the server. Time is handed in as ms.

A call has a number, unique in its origin's (node, generation). The origin sends it again every RPC_RETRY_MS; every
message to a peer carries ``floor``: all calls <= floor to that peer are settled (answered or given up). The server
runs a number once, answers repetitions from memory, and refuses what lies at or below the floor: a late copy of a
settled call is never run again, however long it was under way.
"""

import heapq
from dataclasses import dataclass, field

from world.limits import CALLS_IN_FLIGHT, REPLY_MEMORY_CALLS, RPC_RETRY_MS


@dataclass(slots=True)
class Call:
    """One call in flight. ``sent``: at least one attempt was handed to the transport."""

    number: int
    node: str
    generation: int  # the target's when the call began
    body: bytes
    deadline_ms: float
    sent: bool = False
    attempts: int = 0


class TableFull(Exception):
    """CALLS_IN_FLIGHT calls wait already."""


class CallTable:
    """Calls of this process, by number; who waits for the answer is the shell's business."""

    def __init__(self, first_number: int = 1) -> None:
        self._next = first_number
        self._calls: dict[int, Call] = {}
        self._by_node: dict[str, dict[int, Call]] = {}  # in order of numbers
        self._due: list[tuple[float, int]] = []  # heap of (time to act, number); answered ones are skipped

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, node: str, generation: int, body: bytes, now_ms: float, deadline_ms: float) -> Call:
        """Raises TableFull."""
        if len(self._calls) >= CALLS_IN_FLIGHT:
            raise TableFull
        call = Call(self._next, node, generation, body, deadline_ms)
        self._next += 1
        self._calls[call.number] = call
        self._by_node.setdefault(node, {})[call.number] = call
        heapq.heappush(self._due, (min(now_ms + RPC_RETRY_MS, deadline_ms), call.number))
        return call

    def floor(self, node: str) -> int:
        """Every call to this node numbered <= floor is settled."""
        waiting = self._by_node.get(node)
        return next(iter(waiting)) - 1 if waiting else self._next - 1

    def settle(self, number: int) -> Call | None:
        """Answered or given up: take it out. None where nobody waits for that number."""
        call = self._calls.pop(number, None)
        if call is not None:
            waiting = self._by_node[call.node]
            del waiting[number]
            if not waiting:
                del self._by_node[call.node]
        return call

    def get(self, number: int) -> Call | None:
        return self._calls.get(number)

    def waiting_for(self, node: str) -> list[Call]:
        return list(self._by_node.get(node, {}).values())

    def next_due_ms(self) -> float | None:
        """When ``due`` has to be asked next. None while nothing waits."""
        while self._due and self._due[0][1] not in self._calls:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due(self, now_ms: float) -> tuple[list[Call], list[Call]]:
        """(calls to send again, calls past their deadline). The latter are still in the table."""
        again, expired = [], []
        while self._due and self._due[0][0] <= now_ms:
            _, number = heapq.heappop(self._due)
            call = self._calls.get(number)
            if call is None:
                continue
            if call.deadline_ms <= now_ms:
                expired.append(call)
                continue
            again.append(call)
            heapq.heappush(self._due, (min(now_ms + RPC_RETRY_MS, call.deadline_ms), number))
        return again, expired


NEW, RUNNING, SETTLED = "new", "running", "settled"


@dataclass(slots=True)
class _Origin:
    generation: int
    floor: int = 0
    replies: dict[int, tuple[bytes | None, float]] = field(default_factory=dict)  # number: (reply, forget at ms)


class ReplyMemory:
    """What this process has answered, or is answering, per origin."""

    def __init__(self) -> None:
        self._origins: dict[str, _Origin] = {}
        self.overflows = 0  # replies forgotten before their time, because REPLY_MEMORY_CALLS were kept

    def __len__(self) -> int:
        return sum(len(o.replies) for o in self._origins.values())

    def heard_floor(self, node: str, generation: int, floor: int, now_ms: float) -> None:
        """Any message of an origin carries its floor: forget the replies it no longer needs."""
        origin = self._origins.get(node)
        if origin is None or origin.generation != generation:
            return
        if floor > origin.floor:
            origin.floor = floor
        replies = origin.replies
        while replies:
            number = next(iter(replies))
            if number > origin.floor and replies[number][1] > now_ms:
                break
            del replies[number]

    def arrived(self, node: str, generation: int, number: int, forget_ms: float) -> str | bytes:
        """NEW: run it now (from here on it is RUNNING). RUNNING, SETTLED: do nothing. Bytes: the reply, send it again.
        ``forget_ms``: when the origin has given up for certain."""
        origin = self._origins.get(node)
        if origin is None or origin.generation != generation:
            origin = self._origins[node] = _Origin(generation)
        if number <= origin.floor:
            return SETTLED
        kept = origin.replies.get(number)
        if kept is not None:
            return RUNNING if kept[0] is None else kept[0]
        if len(origin.replies) >= REPLY_MEMORY_CALLS:
            self.overflows += 1
            oldest = next(iter(origin.replies))
            del origin.replies[oldest]
            origin.floor = max(origin.floor, oldest)  # refused from now on, rather than run twice
        origin.replies[number] = (None, forget_ms)
        return NEW

    def answered(self, node: str, generation: int, number: int, reply: bytes) -> None:
        origin = self._origins.get(node)
        if origin is not None and origin.generation == generation and number in origin.replies:
            origin.replies[number] = (reply, origin.replies[number][1])

    def withdraw(self, node: str, generation: int, number: int) -> None:
        """It could not be run after all: a repetition may try again."""
        origin = self._origins.get(node)
        if origin is not None and origin.generation == generation:
            origin.replies.pop(number, None)

    def forget(self, node: str, generation: int) -> None:
        """The origin is gone for good, unless a newer generation of it is there."""
        origin = self._origins.get(node)
        if origin is not None and origin.generation <= generation:
            del self._origins[node]

    @property
    def origins(self) -> int:
        return len(self._origins)
