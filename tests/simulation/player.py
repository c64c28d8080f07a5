"""A player: the bots' own protocol client over a simulated socket, and what it does with its days."""

import asyncio
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import httpx
import orjson

from cluster.bots.client import Client, ClientError, Json, Outcome
from cluster.bots.haggler import Haggler
from cluster.bots.wire import Socket
from runtime.mesh.api import MeshError
from tests.simulation.continuity import Attachments, Record, Rollback
from tests.simulation.picture import Picture
from tests.simulation.watch import Command
from tests.simulation.wire import SimSocket
from world.frames import FLAG_CORRECTED
from world.ids import avatar_unit
from world.limits import (
    BOT_MOVE_MS,
    HTTP_LOGIN_MS,
    MOVE_BUDGET_MS,
    MOVE_SLACK_M,
    REACH_M,
    TRADE_REACH_M,
    WALK_SPEED_M_PER_S,
)
from world.messages import Granted, LoginGuest
from world.motion import BUDGET_M, PACE_M_PER_MS
from world.results import command_key
from world.transaction_document import transaction_id

if TYPE_CHECKING:
    from tests.simulation.cluster import SimCluster

# What an owner lets one have walked at once when held-up inputs come: a full bucket, and on from a claim that lies
# as far back as is believed.
HELD_M = BUDGET_M + MOVE_SLACK_M + PACE_M_PER_MS * MOVE_BUDGET_MS


class OwnMotion(NamedTuple):
    """What the world says of a player's own avatar."""

    epoch: int
    version: int
    last_input: int
    x: float
    y: float
    at_s: float  # world time

    def may_become(self, later: "OwnMotion") -> bool:
        """Whether one can have walked from here to there."""
        gap_m = math.hypot(later.x - self.x, later.y - self.y)
        return gap_m <= PACE_M_PER_MS * 1_000 * (later.at_s - self.at_s) + HELD_M


@dataclass(slots=True)
class Told:
    """One command, from its sending to its result."""

    number: int
    op: str
    target: int
    sent_s: float
    session: int
    result: Outcome | None = None


class SimClient(Client):
    """``cluster.bots.client.Client`` with no HTTP and no TCP under it."""

    def __init__(self, cluster: "SimCluster", player: "Player", rng: random.Random, gateways: list[str]) -> None:
        super().__init__(
            cast(httpx.AsyncClient, None), gateways, on_binary=self.saw, on_event=player.haggler.told, rng=rng
        )
        self._cluster = cluster
        self._player = player
        self._sim_rng = rng
        self.link: SimSocket | None = None

    async def _post(self, path: str, body: Json) -> Json:
        """What ``gateway.http`` does: asks any login."""
        assert path == "/v1/auth/guest"
        gateway = self._cluster.gateway(self.gateways[0])
        if gateway is None:
            raise ClientError("http", "connection refused")
        asked = gateway.mesh.call_any("login", LoginGuest(), deadline_ms=HTTP_LOGIN_MS)
        try:
            async with asyncio.timeout(HTTP_LOGIN_MS / 1_000 + 1):  # a gateway killed meanwhile never answers
                granted = await self._cluster.inside(self.gateways[0].removeprefix("sim://"), asked)
        except MeshError as error:
            raise ClientError("http_503", error.code) from error
        except TimeoutError as error:
            raise ClientError("http", "no answer") from error
        assert isinstance(granted, Granted)
        return {
            "access_token": granted.access_token,
            "refresh_token": granted.refresh_token,
            "avatar": granted.avatar,
            "name": granted.name,
        }

    async def _open(self, url: str) -> None:
        await asyncio.sleep(self._sim_rng.uniform(0.001, 0.02))
        gateway = self._cluster.gateway(url)
        if gateway is None:
            raise ConnectionRefusedError(url)
        if self._player.client is self:
            self._player.picture.clear()
            self._player.attachments.connected()
        self.link = link = await self._cluster.accept(url, gateway, self, self._sim_rng.getrandbits(32))
        self.opening(cast(Socket, link))

    def saw(self, payload: bytes) -> None:
        if self._player.client is self:
            self._player.saw(payload)

    def text(self, payload: bytes) -> None:
        if self._player.client is self:
            self._player.heard(payload)
        super().text(payload)

    def closed(self, code: int, reason: str) -> None:
        if self.link is not None:
            self._cluster.sockets.pop(self.link.serial, None)
        self._player.lost(code, reason, self._in_session and self._attached is not None and self._attached.done())
        super().closed(code, reason)

    def succeed(self, old: "SimClient") -> None:
        """Be the same account as that one."""
        self.access_token, self.refresh_token = old.access_token, old.refresh_token
        self.avatar, self.name, self.x, self.y = old.avatar, old.name, old.x, old.y


@dataclass
class Player:
    """``live`` is its whole life; what it was told and shown is judged by ``checks``."""

    cluster: "SimCluster"
    index: int
    rng: random.Random
    places: list[tuple[int, float, float]]  # (entity, x, y) of what grows around, where one may go
    told: list[Told] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)  # with which connections ended that had once been attached
    picture: Picture = field(default_factory=Picture)
    goal: tuple[int, float, float] | None = None
    calm: bool = False  # no new deeds; stand still
    corrections: int = 0

    def __post_init__(self) -> None:
        urls = [f"sim://{name}" for name in self.cluster.gateway_names]
        shift = self.index % len(urls)
        self._trade_rng = random.Random(f"trade {self.index} {self.cluster.plan.seed}")
        self.haggler = Haggler(self._trade_rng)
        self.client = SimClient(self.cluster, self, self.rng, urls[shift:] + urls[:shift])
        self.entered = asyncio.Event()
        self.session = 0
        self.attachments = Attachments(lambda epoch: (self._unit, epoch) in self.cluster.watch.handed)
        self._rollback = Rollback()
        self.rollback_ms = 0.0  # the longest
        self.replaced: list[SimClient] = []  # what it was before the same account came in elsewhere
        self._own: OwnMotion | None = None
        self._before: OwnMotion | None = None  # the record before it
        self._moved_s = 0.0
        self._velocity = (0.0, 0.0)
        self._applied = 0  # the last input that my own record in the world names
        self._stood = 0  # the first input that claimed to stand here

    @property
    def name(self) -> str:
        return f"player{self.index}"

    @property
    def waiting(self) -> list[Told]:
        """An older session's outcome stays unknown."""
        return [t for t in self.told if t.result is None and t.session == self.client.session]

    @property
    def stands(self) -> bool:
        """A claim to stand here was applied, and my record in the world says so."""
        return 0 < self._stood <= self._applied

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.name}: {text}")
        self.cluster.trace.note(self.name, f"PROBLEM {text}")

    # -- what it hears ------------------------------------------------------------------------------------------------
    def heard(self, payload: bytes) -> None:
        self.cluster.trace.note(self.name, payload)
        if payload.startswith(b'{"t":"attached"'):
            self._stood = 0  # what was applied may have been rolled back: claim anew
            message = orjson.loads(payload)
            self._own = None if message["resync"] is not None else self._own
            for broken in self.attachments.attached(message["epoch"], message["resync"] is not None):
                self.problem(broken)
            self._taken(message["epoch"], message["last_input"])
        if payload.startswith(b'{"t":"detached"'):
            self.attachments.detached(orjson.loads(payload)["reason"])
        if payload.startswith(b'{"t":"event"'):
            client, message = self.client, orjson.loads(payload)
            if message["s"] != client.stream:
                self.problem(f"event {message['n']} of stream {message['s']}, attached to stream {client.stream}")
            elif message["n"] > client.event + 1:
                self.problem(f"event {message['n']} after {client.event} of stream {client.stream}")

    def saw(self, payload: bytes) -> None:
        self.cluster.trace.mix(payload)
        piece = self.picture.take(payload, asyncio.get_running_loop().time())
        if piece is None or not len(piece.motion):
            return
        for row in piece.motion[piece.motion["entity"] == self.client.avatar].tolist():
            self._unbroken(OwnMotion(row[1], row[2], row[7], row[3], row[4], piece.head.world_ms / 1_000))
            self._applied = row[7]
            if row[8] & FLAG_CORRECTED:
                self.corrections += 1
                self.client.x, self.client.y = row[3], row[4]
                self._velocity, self._stood = (0.0, 0.0), 0

    def _unbroken(self, now: OwnMotion) -> None:
        """From one of my records to the next, of the same owner or of the one that it gave me to: no input that was
        applied is unapplied, and I was nowhere that one cannot walk to. Without inputs an owner goes on straight
        ahead: a guess, so what the record before it allows is right too."""
        last = self._own
        if last is not None and now[:2] <= last[:2]:
            return
        self._rollback.seen(Record(now.epoch, now.last_input, now.at_s * 1_000))
        before, self._before = self._before, last
        self._own = now if self.entered.is_set() else None
        handed = (avatar_unit(self.client.avatar), now.epoch) in self.cluster.watch.handed
        if last is None or not (now.epoch == last.epoch or (now.epoch == last.epoch + 1 and handed)):
            return
        if now.last_input < last.last_input:
            self.problem(f"input {last.last_input} was applied, and then only {now.last_input}: {last} {now}")
        if not last.may_become(now) and not (before is not None and before.may_become(now)):
            self.problem(f"nobody walks from {last}, or {before}, to {now}")

    def _taken(self, epoch: int, last_input: int) -> None:
        """By another owner: how much of what its predecessor had told is lost; a figure so far, not judged. Not looked
        at: who released it (it is saved, its inputs are not), stood still, was cut off or could not write."""
        server, _generation = self.cluster.watch.owners.get((self._unit, epoch - 1), ("", 0))
        if not server or self.cluster.hindered(server):
            return
        lost_ms = self._rollback.taken(epoch, last_input)
        self.rollback_ms = max(self.rollback_ms, lost_ms)

    @property
    def _unit(self) -> str:
        return avatar_unit(self.client.avatar)

    def lost(self, code: int, reason: str, attached: bool) -> None:
        if attached:
            self.codes.append(code)
        self.cluster.trace.note(self.name, f"connection ended: {code} {reason}")

    # -- its life -----------------------------------------------------------------------------------------------------
    async def live(self) -> None:
        """For ever."""
        await self._enter()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._walk())
            group.create_task(self._act())
            if self.cluster.plan.trades:
                group.create_task(self._trade())
            group.create_task(self._stay_connected())

    async def _enter(self) -> None:
        while True:
            try:
                if not self.client.access_token:
                    await self.client.guest()
                await self.client.connect()
                break
            except ClientError as error:
                self.cluster.trace.note(self.name, f"not in yet: {error}")
                await asyncio.sleep(self.rng.uniform(0.2, 0.6))
        self.session = self.client.session
        self.entered.set()

    async def replace(self) -> None:
        """The same account enters with a second client, which goes on; the first one is to be sent away for good."""
        old = self.client
        if not self.entered.is_set() or old.lost.is_set() or self.calm:
            return
        self.entered.clear()
        new = SimClient(self.cluster, self, self.rng, old.gateways[::-1])
        new.succeed(old)
        self.replaced.append(old)
        self.client, self._stood, self._own = new, 0, None
        self._rollback.forget()
        self.haggler.forget()
        await self._enter()

    async def _stay_connected(self) -> None:
        """What the web client and the bots do; an end that forbids reconnecting is a session lost."""
        pause_s = 0.1
        while True:
            await self.entered.wait()
            client = self.client
            await client.lost.wait()
            if client is not self.client:
                continue
            if not client.may_reconnect or client.close_code in (4001, 4008):
                self.problem(f"the session ended: {client.close_code} {client.close_reason}")
                await asyncio.Event().wait()
            await asyncio.sleep(pause_s * self.rng.uniform(0.5, 1.0))
            try:
                await client.connect()
                pause_s = 0.1
            except ClientError as error:
                pause_s = min(pause_s * 2, 2.0)
                self.cluster.trace.note(self.name, f"no reconnect: {error}")
            if client.session != self.session and not client.lost.is_set():
                self.problem(f"session {self.session} became {client.session}")
                self.session = client.session

    async def _walk(self) -> None:
        """Five claims a second: straight to the goal, else standing; in calm until a claim to stand was applied."""
        loop = asyncio.get_running_loop()
        self._moved_s = loop.time()
        while True:
            await asyncio.sleep(BOT_MOVE_MS / 1_000 * self.rng.uniform(0.9, 1.1))
            client, now = self.client, loop.time()
            if self.calm and self.stands:
                continue
            x = client.x + self._velocity[0] * (now - self._moved_s)
            y = client.y + self._velocity[1] * (now - self._moved_s)
            self._moved_s = now
            self._velocity = self._steer(x, y)
            number = client.move(x, y, *self._velocity)
            if self._velocity != (0.0, 0.0) or not self.calm:
                self._stood = 0
            elif not self._stood:
                self._stood = number

    def _steer(self, x: float, y: float) -> tuple[float, float]:
        if self.goal is None or self.calm:
            return 0.0, 0.0
        gap = math.hypot(self.goal[1] - x, self.goal[2] - y)
        if gap < REACH_M * 0.6:
            return 0.0, 0.0
        speed = min(WALK_SPEED_M_PER_S, gap / (BOT_MOVE_MS / 1_000))
        return (self.goal[1] - x) / gap * speed, (self.goal[2] - y) / gap * speed

    async def _act(self) -> None:
        """One deed after the other, with a second command in flight now and then."""
        self.goal = self.rng.choice(self._nearest(3))
        while True:
            await asyncio.sleep(self.rng.uniform(0.02, 0.4))
            if self.calm or not self.entered.is_set():
                continue
            deed = self.rng.random()
            if deed < 0.08:
                self._command("say", text=f"here is {self.name}")
            elif deed < 0.12:
                self._command("inventory")
            elif deed < 0.16:
                self._command("look", target=self.rng.choice(self.places)[0])
            elif deed < 0.22:
                self.goal = self.rng.choice(self.places if self.rng.random() < 0.4 else self._nearest(5))
            else:
                await self._gather()

    async def _trade(self) -> None:
        """What the haggler wishes, with whoever is near; with something to give it walks up to another."""
        while True:
            await asyncio.sleep(self._trade_rng.uniform(0.1, 0.3))
            client = self.client
            if self.calm or not self.entered.is_set() or client.lost.is_set():
                continue
            others = {p.client.avatar: p.client for p in self.cluster.players if p is not self and p.entered.is_set()}
            gaps = {avatar: math.hypot(o.x - client.x, o.y - client.y) for avatar, o in others.items()}
            if self.haggler.partner in others:
                self.goal = None
            elif gaps and any(client.inventory.values()) and self._trade_rng.random() < 0.6:
                nearest = others[min(gaps, key=lambda avatar: gaps[avatar])]
                self.goal = 0, nearest.x, nearest.y
            near = [avatar for avatar, gap in gaps.items() if gap < TRADE_REACH_M]
            wish = self.haggler.wish(client.inventory, near)
            if wish is not None:
                self.haggler.waiting = True
                self._command(wish.op, **wish.args).add_done_callback(self._haggled)

    def _haggled(self, result: "asyncio.Future[Outcome]") -> None:
        self.haggler.waiting = False

    async def _gather(self) -> None:
        """From what is at hand; now and then without waiting for the result, or from what is far."""
        near = self._nearest(3)
        reachable = [p for p in near if math.hypot(p[1] - self.client.x, p[2] - self.client.y) < REACH_M * 0.9]
        if not reachable and self.rng.random() < 0.8:
            return
        result = self._command("gather", target=(reachable or near)[0][0])
        if self.rng.random() < 0.7:
            await asyncio.wait([result], timeout=3.0)
        last = self.told[-1].result
        if last is not None and last.code == "depleted":
            self.goal = self.rng.choice(self._nearest(6)[1:])

    def _nearest(self, count: int) -> list[tuple[int, float, float]]:
        client = self.client
        return sorted(self.places, key=lambda p: math.hypot(p[1] - client.x, p[2] - client.y))[:count]

    def _command(self, op: str, **args: Any) -> "asyncio.Future[Outcome]":
        future = self.client.begin(op, **args)
        now = asyncio.get_running_loop().time()
        told = Told(self.client.number, op, int(args.get("target", 0)), now, self.session)
        self.told.append(told)
        self.cluster.trace.note(self.name, f"command {told.number} {op} {args}")

        def ended(done: "asyncio.Future[Outcome]") -> None:
            if done.cancelled():
                return
            if told.session != self.session:
                return
            if done.exception() is not None:
                self.problem(f"command {told.number}: {done.exception()}")
            else:
                told.result = done.result()
                self._acknowledged(told, told.result)

        future.add_done_callback(ended)
        return future

    def _acknowledged(self, told: Told, result: Outcome) -> None:
        """Invariant 3, as the player meets it: what is acknowledged is in the store by then, given and received."""
        command = Command(avatar_unit(self.client.avatar), told.session, told.number)
        watch = self.cluster.watch
        if result.value.get("committed") and transaction_id(command_key(*command)) not in watch.trades.committed:
            self.problem(f"command {told.number} was acknowledged before its transaction was committed")
        if told.op == "gather" and result.ok and not (command in watch.caused and command in watch.saved):
            self.problem(f"command {told.number} was acknowledged before it was committed")
