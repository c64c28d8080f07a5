"""One bot: a guest who walks to its place, wanders around it, gathers and chats, and reconnects when dropped."""

import asyncio
import math
import random
from dataclasses import dataclass, field

import httpx
import numpy as np

from cluster.bots.client import Client, ClientError, Json, Outcome
from cluster.bots.land import Land, motions
from cluster.bots.measure import Inputs, Tally
from cluster.bots.trader import Trader
from world.frames import FLAG_CORRECTED, SLICE, SNAPSHOT, Records
from world.ids import AVATAR_KIND, KIND_SHIFT
from world.limits import (
    BOT_COMMAND_S,
    BOT_GATHER_EVERY_S,
    BOT_IN_SIGHT_MS,
    BOT_LEASH_M,
    BOT_MOVE_MS,
    BOT_RECONNECT_CAP_MS,
    BOT_RECONNECT_MS,
    BOT_SAY_EVERY_S,
    BOT_WATCHED_M,
    VELOCITY_CHANGE_M_PER_S,
)

_WORDS = ("hello", "nice trees here", "anyone seen berries?", "over here", "wood, wood, wood", "what a view")
_ARRIVED_M = 5.0
AT_ONCE = frozenset({1012})  # the gateway has spread its clients over time itself
CLUSTER_CODES = frozenset({"unreachable", "store_unavailable", "internal", "deadline", "busy", "moved"})


@dataclass(slots=True)
class Worker:
    """What the bots of one worker process share. ``measuring``: the warm-up is over."""

    http: httpx.AsyncClient
    gateways: list[str]
    land: Land
    tally: Tally
    inputs: Inputs
    rng: random.Random
    stopping: asyncio.Event
    observers: "list[Bot]"
    began_s: float  # loop time of the first login
    measuring: bool = False
    gather_every_s: float = BOT_GATHER_EVERY_S
    trade: float = 0.0  # share of the bots that trade
    traders: list[Trader] = field(default_factory=list)


class Bot:
    """``live`` is its whole life, in a task of its own."""

    def __init__(self, worker: Worker, index: int, observes: bool) -> None:
        self._worker = worker
        self._observes = observes
        self._rng = random.Random(worker.rng.getrandbits(64))
        self._trader: Trader | None = None
        if worker.trade and random.Random(index).random() < worker.trade:
            self._trader = Trader(worker.tally, worker.traders, self._rng)
            worker.traders.append(self._trader)
        shift = index % len(worker.gateways)
        gateways = worker.gateways[shift:] + worker.gateways[:shift]
        self.client = self._new_client(gateways)
        self._me = b""  # my avatar's id as it stands in slices
        self._place = (0.0, 0.0)
        self._route: list[tuple[float, float]] = []  # to its place, the next point last
        self.arrived = False
        self._heading = self._rng.uniform(0, math.tau)
        self._velocity = (0.0, 0.0)
        self._moved_s = 0.0
        self._node: tuple[int, float, float] | None = None  # what it walks to, to gather
        self._result: asyncio.Future[Outcome] | None = None  # of a gathering
        self._result_due_s = 0.0
        self._next_gather_s = 0.0
        self._next_say_s = 0.0
        self._others: dict[int, float] = {}  # avatars in sight → when last seen, s (observers only)
        self.x = 0.0
        self.y = 0.0

    def _new_client(self, gateways: list[str]) -> Client:
        """Its way into the cluster; a test that keeps a history puts a recording one here."""
        return Client(self._worker.http, gateways, on_binary=self._slice, on_event=self._told, rng=self._rng)

    def _told(self, event: Json) -> None:
        if self._trader is not None:
            self._trader.told(event)

    @property
    def connected(self) -> bool:
        return not self.client.lost.is_set()

    async def log_in(self) -> bool:
        """Become a guest and attach; False, and counted, where that failed."""
        client, tally = self.client, self._worker.tally
        try:
            await client.guest()
            await client.connect()
        except ClientError as error:
            tally.errors[error.kind] += 1
            return False
        tally.logins += 1
        tally.login_s = asyncio.get_running_loop().time() - self._worker.began_s
        self._me = client.avatar.to_bytes(8, "little")
        self.x, self.y = client.x, client.y
        self._route = self._worker.land.route(self._rng)
        self._place = self._route[0]
        now_s = asyncio.get_running_loop().time()
        self._moved_s = now_s
        self._next_gather_s = now_s + self._rng.uniform(0, self._worker.gather_every_s)
        self._next_say_s = now_s + self._rng.uniform(0, BOT_SAY_EVERY_S)
        if self._observes:
            self._worker.observers.append(self)
        if self._trader is not None:
            self._trader.entered(client, now_s)
        return True

    async def live(self) -> None:
        """Act until the worker stops, then leave."""
        while not self._worker.stopping.is_set() and not await self.log_in():
            await self._pause(BOT_RECONNECT_CAP_MS)
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._rng.uniform(0, BOT_MOVE_MS / 1_000)
        while not self._worker.stopping.is_set():
            due_s = max(due_s + BOT_MOVE_MS / 1_000, loop.time())
            await asyncio.sleep(due_s - loop.time())
            if self.client.lost.is_set():
                await self._reconnect()
            else:
                self._act(loop.time())
        await self.client.close()

    async def _reconnect(self) -> None:
        """After a lost connection: resume, or a new session where the close code says so; else this bot is out."""
        client, tally = self.client, self._worker.tally
        tally.errors[f"closed_{client.close_code}"] += 1
        backoff_ms, waits = BOT_RECONNECT_MS, client.close_code not in AT_ONCE
        while client.lost.is_set() and not self._worker.stopping.is_set():
            if not client.may_reconnect:
                await self._worker.stopping.wait()
                return
            if waits:
                await self._pause(self._rng.uniform(0.5, 1.0) * backoff_ms)
                backoff_ms = min(2 * backoff_ms, BOT_RECONNECT_CAP_MS)
            waits = True
            try:
                if not client.access_token:
                    await client.refresh()
                await client.connect()
            except ClientError as error:
                tally.errors[f"reconnect_{error.kind}"] += 1
        tally.reconnects += 1
        self.x, self.y = client.x, client.y

    async def _pause(self, pause_ms: float) -> None:
        try:
            async with asyncio.timeout(pause_ms / 1_000):
                await self._worker.stopping.wait()
        except TimeoutError:
            return

    # -- what it does, five times a second
    def _act(self, now_s: float) -> None:
        elapsed_s = now_s - self._moved_s
        self._moved_s = now_s
        self.x += self._velocity[0] * elapsed_s
        self.y += self._velocity[1] * elapsed_s
        self._choose(now_s)
        if self._trader is not None:
            self._trader.act(self.x, self.y, now_s)
        before, self._velocity = self._velocity, self._steer()
        number = self.client.move(self.x, self.y, *self._velocity)
        turned = math.hypot(self._velocity[0] - before[0], self._velocity[1] - before[1]) > VELOCITY_CHANGE_M_PER_S
        if self._worker.measuring:
            self._worker.tally.inputs += 1
        if self._worker.measuring and turned:
            self._worker.inputs.sent(self.client.avatar, number, now_s * 1_000, self._watched())
        if self._observes:
            self._count_others(now_s)

    def _watched(self) -> bool:
        return any(
            observer is not self
            and observer.connected
            and math.hypot(observer.x - self.x, observer.y - self.y) < BOT_WATCHED_M
            for observer in self._worker.observers
        )

    def _choose(self, now_s: float) -> None:
        """Finish a gathering, start one, or say something, when it is time."""
        if self._result is not None:
            self._finish_gathering(now_s)
        elif self._node is not None and self._near_node():
            self._result = self.client.begin("gather", target=self._node[0])
            self._result_due_s = now_s + BOT_COMMAND_S
        elif self._node is None and self.arrived and now_s >= self._next_gather_s:
            near = self._worker.land.nodes(self.x, self.y, 2 * BOT_LEASH_M)
            clear = (node for node in near[:8] if self._worker.land.clear(self.x, self.y, node[1], node[2]))
            self._node = next(clear, None)
            self._next_gather_s = now_s + self._worker.gather_every_s * self._rng.uniform(0.5, 1.5)
        if now_s >= self._next_say_s:
            self._next_say_s = now_s + BOT_SAY_EVERY_S * self._rng.uniform(0.5, 1.5)
            self._worker.tally.said += 1
            self.client.begin("say", text=self._rng.choice(_WORDS))

    def _finish_gathering(self, now_s: float) -> None:
        result, tally = self._result, self._worker.tally
        assert result is not None
        if result.done():
            error = result.exception()
            if isinstance(error, ClientError):
                tally.errors[error.kind] += 1
            elif result.result().ok:
                tally.gathered += sum(result.result().value.get("items", {}).values())
            else:
                self._refused(result.result().code)
        elif now_s > self._result_due_s:
            tally.errors["command_timeout"] += 1
        else:
            return
        self._result = self._node = None

    def _refused(self, code: str) -> None:
        """Rules may say no; the cluster may not."""
        assert self._node is not None
        if code in CLUSTER_CODES:
            self._worker.tally.errors[code] += 1
        else:
            self._worker.tally.refusals[code] += 1
            self._worker.land.forget(*self._node)

    def _near_node(self) -> bool:
        assert self._node is not None
        return math.hypot(self._node[1] - self.x, self._node[2] - self.y) < self._worker.land.reach_m - 1.0

    def _goal(self) -> tuple[float, float] | None:
        """Where it walks to; None: it wanders."""
        if self._node is not None:
            return self._node[1:]
        while self._route and math.hypot(self._route[-1][0] - self.x, self._route[-1][1] - self.y) < _ARRIVED_M:
            self._route.pop()
        self.arrived = not self._route
        if self._route:
            return self._route[-1]
        if self._trader is not None and self._trader.goal is not None:
            return self._trader.goal
        strayed = math.hypot(self._place[0] - self.x, self._place[1] - self.y) > BOT_LEASH_M
        return self._place if strayed else None

    def _steer(self) -> tuple[float, float]:
        """The next velocity: to the node, to its place, or anywhere near it; never into water."""
        if self._result is not None or (self._trader is not None and self._trader.stands):
            return 0.0, 0.0
        speed = self._worker.land.walk_m_per_s
        if (goal := self._goal()) is not None:
            self._heading = math.atan2(goal[1] - self.y, goal[0] - self.x)
            distance = math.hypot(goal[0] - self.x, goal[1] - self.y)
            speed = min(speed, distance / (BOT_MOVE_MS / 1_000))
        else:
            self._heading += self._rng.uniform(-math.pi / 2, math.pi / 2)
        for turn in (0.0, 0.7, -0.7, 1.5, -1.5, math.pi):
            vx, vy = speed * math.cos(self._heading + turn), speed * math.sin(self._heading + turn)
            ahead_s = 2 * BOT_MOVE_MS / 1_000
            if self._worker.land.clear(self.x, self.y, self.x + vx * ahead_s, self.y + vy * ahead_s):
                self._heading += turn
                return vx, vy
        return 0.0, 0.0

    # -- what it sees
    def _slice(self, piece: bytes) -> None:
        """Every bot reads its own record (was it corrected?) and learns where things grow; observers read all."""
        kind = piece[0]
        if kind not in (SLICE, SNAPSHOT) or not (self._observes or kind == SNAPSHOT or self._me in piece):
            return
        rows = motions(piece)
        if rows is None:
            return
        self._check_own(rows)
        if self._observes or kind == SNAPSHOT:
            self._worker.land.learn(rows)
        if self._observes:
            self._observe(rows, kind == SLICE)

    def _check_own(self, rows: Records) -> None:
        mine = rows[rows["entity"] == self.client.avatar]
        if len(mine) and int(mine["flags"][-1]) & FLAG_CORRECTED:
            self._worker.tally.corrections += 1
            self.x, self.y = float(mine["x"][-1]), float(mine["y"][-1])
            self._velocity = (0.0, 0.0)

    def _observe(self, rows: Records, live: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        avatars = rows[rows["entity"] >> np.uint64(KIND_SHIFT) == AVATAR_KIND]
        for entity, last_input in zip(avatars["entity"].tolist(), avatars["last_input"].tolist(), strict=True):
            if entity == self.client.avatar:
                continue
            self._others[entity] = now_s
            if live and self._worker.measuring:
                self._worker.inputs.seen(entity, last_input, now_s * 1_000)
        if live and self._worker.measuring:
            self._worker.tally.updates += len(avatars)

    def _count_others(self, now_s: float) -> None:
        recent = {
            avatar: seen_s for avatar, seen_s in self._others.items() if (now_s - seen_s) * 1_000 < BOT_IN_SIGHT_MS
        }
        self._others = recent
        if self._worker.measuring:
            self._worker.tally.in_sight += len(recent)
            self._worker.tally.in_sight_samples += 1
            self._worker.tally.observer_s += BOT_MOVE_MS / 1_000
