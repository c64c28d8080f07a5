"""Stand-ins for the gateway's neighbours: a mesh whose peers are functions, a book, a hand-driven clock."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime import tokens
from runtime.mesh.api import MeshError, Sender, Unreachable
from world.ids import NodeId
from world.messages import Attach, Attached, Member, Message, Ok, OpenSession, PublicKeys, SessionOpened, SigningKeys

AVATAR = (1 << 48) + 7
SERVER = "gs1"


class ManualClock:
    def __init__(self) -> None:
        self.now_ms = 1_000.0

    def monotonic_ms(self) -> float:
        return self.now_ms

    def world_ms(self) -> int:
        return int(self.now_ms) + 1_700_000_000_000


class StubBook:
    def __init__(self, *members: Member) -> None:
        self.all = list(members)
        self.changed: list[Callable[[], None]] = []
        self.died: list[Callable[[NodeId, int], None]] = []
        self.silent: set[str] = set()

    def members(self, role: str | None = None) -> list[Member]:
        return [m for m in self.all if role in (None, m.role)]

    def get(self, node: NodeId) -> Member | None:
        return next((m for m in self.all if m.id == node), None)

    def suspected(self, node: NodeId) -> bool:
        return node in self.silent

    def highest_generation(self, node: NodeId) -> int:
        return max((m.generation for m in self.all if m.id == node), default=0)

    def declare_dead(self, node: NodeId, generation: int) -> None: ...

    def is_dead(self, node: NodeId, generation: int) -> bool:
        return False

    def silent_ms(self, node: NodeId) -> float:
        return 2_000.0 if node in self.silent else 100.0

    def round_trip_ms(self, node: NodeId) -> float:
        return 0.0

    def on_change(self, callback: Callable[[], None]) -> None:
        self.changed.append(callback)

    def on_dead(self, callback: Callable[[NodeId, int], None]) -> None:
        self.died.append(callback)

    def on_self_dead(self, callback: Callable[[int], None]) -> None: ...


Answer = Message | MeshError
M = TypeVar("M", bound=Message)


class StubMesh:
    """``answers[type]``: a function of the message. What nobody answers is Unreachable. Everything is recorded."""

    def __init__(self, *members: Member) -> None:
        self.book = StubBook(*(members or ready_members()))
        self.answers: dict[type[Message], Callable[[Any], Answer]] = {}
        self.asked: dict[type[Message], asyncio.Future[Message]] = {}  # what a test answers when it likes
        self.sent: list[tuple[str, Message]] = []
        self.handlers: dict[type[Message], Callable[[Sender, Any], Any]] = {}
        self.calls: dict[type[Message], int] = defaultdict(int)

    @property
    def me(self) -> Member:
        return Member("gateway", "gw1", 1, "tcp://127.0.0.1:1")

    def serve(self, kind: type[M], handler: Callable[[Sender, M], Message | None | Awaitable[Message | None]]) -> None:
        self.handlers[kind] = handler

    def ask(self, node: NodeId, message: Message, *, deadline_ms: float = 0) -> "asyncio.Future[Message]":
        return self.asked.get(type(message)) or asyncio.ensure_future(self.call(node, message, deadline_ms=deadline_ms))

    async def call(self, node: NodeId, message: Message, *, deadline_ms: float = 0) -> Message:
        self.sent.append((node, message))
        self.calls[type(message)] += 1
        answer = self.answers.get(type(message), lambda _m: Unreachable())(message)
        if isinstance(answer, MeshError):
            raise answer
        return answer

    async def call_any(self, role: str, message: Message, *, deadline_ms: float = 0) -> Message:
        return await self.call(NodeId(role), message, deadline_ms=deadline_ms)

    def send(self, node: NodeId, message: Message) -> bool:
        self.sent.append((node, message))
        return True

    def told(self, kind: type[Message]) -> list[Any]:
        return [message for _node, message in self.sent if type(message) is kind]

    def publish(self, topic: bytes, body: bytes) -> bool:
        return False

    def listeners(self, topic: bytes) -> int:
        return 0

    def on_subscription(self, callback: Callable[[bytes, bool], None]) -> None: ...
    def subscribe(self, publisher: NodeId, topic: bytes) -> None: ...
    def unsubscribe(self, publisher: NodeId, topic: bytes) -> None: ...
    def reconnect(self, publisher: NodeId) -> None: ...
    def on_frame(self, callback: Callable[[NodeId, bytes, bytes], None]) -> None: ...
    def update_me(self, **changes: Any) -> None: ...
    def on_late(self, callback: Callable[[float], None]) -> None: ...
    def on_pause(self, callback: Callable[[float], None]) -> None: ...
    def hold(self, allow_roles: frozenset[str] = frozenset()) -> None: ...
    def release(self) -> None: ...
    def rise(self, generation: int) -> None: ...


def ready_members() -> list[Member]:
    return [
        Member("gameserver", SERVER, 3, "tcp://127.0.0.1:2", status="ready"),
        Member("login", "lg1", 1, "tcp://127.0.0.1:3", status="ready"),
        Member("gateway", "gw1", 1, "tcp://127.0.0.1:1", http="http://127.0.0.1:8080", status="ready"),
    ]


def attached(**changes: Any) -> Attached:
    fields: dict[str, Any] = {
        "avatar": AVATAR,
        "server": SERVER,
        "generation": 3,
        "epoch": 5,
        "stream": 9,
        "next_event": 1,
        "last_input": 0,
        "x": 4096.0,
        "y": 4096.0,
        "world_ms": 1,
        "radius": 50.0,
        "resync": {"name": "Ana", "inventory": {}},
    }
    return Attached(**(fields | changes))


PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KID = "k1"


def token(purpose: str, now_s: float, *, lives_s: int = 900, session: int = 0, avatar: int = AVATAR) -> str:
    claims = tokens.Claims("1", avatar, "Ana", purpose, int(now_s), int(now_s) + lives_s, session)
    return tokens.sign(PRIVATE, KID, claims)


def with_login(mesh: StubMesh, world_s: Callable[[], float]) -> StubMesh:
    """Logins that know one key and open sessions 100, 101, …; a game server that takes everybody."""
    sessions = iter(range(100, 10_000))
    mesh.answers[SigningKeys] = lambda _m: PublicKeys({KID: tokens.public_text(PRIVATE.public_key())})

    def open_session(message: OpenSession) -> Message:
        number = next(sessions)
        return SessionOpened(number, token("resume", world_s(), session=number, avatar=message.avatar), SERVER)

    def attach(message: Attach) -> Message:
        return attached(avatar=message.avatar)

    mesh.answers[OpenSession] = open_session
    mesh.answers[Attach] = attach
    return mesh


def seeded() -> random.Random:
    return random.Random(1)


OK = Ok()
