"""A bot that writes down what it asks and hears: gathers, asks for its inventory, talks, and never stands still."""

import asyncio
import math
from collections import deque
from typing import Any

from cluster.bots.bot import Bot, Worker
from cluster.bots.client import Client, ClientError, Json, Outcome
from tests.chaos.history import Log
from world.frames import FLAG_CORRECTED, Records
from world.limits import BOT_COMMAND_S, BOT_INPUTS_PENDING, BOT_MOVE_MS

PROBE_EVERY_S = 2.5
PROBE_AFTER_SILENCE_S = 0.6  # inputs without an echo for this long: ask at once whether commands are served
_SWAY = 0.12  # rad: each input turns a little, so that its echo is due at once
_JITTER_M_PER_S = 0.5


class RecordedClient(Client):
    """Every operation into the log. ``items``: entity kind → the item that gathering it gives."""

    def __init__(self, log: Log, who: int, items: dict[int, str], *args: Any, **more: Any) -> None:
        super().__init__(*args, on_message=self._heard, **more)
        self._log = log
        self._who = who
        self._items = items
        self._ops: dict[int, str] = {}  # commands without a result
        self.pending: deque[tuple[int, float]] = deque(maxlen=BOT_INPUTS_PENDING)  # inputs without an echo, sent at

    async def guest(self) -> None:
        self._log.add(self._who, "invoke", "guest")
        try:
            await super().guest()
        except ClientError as error:
            self._log.add(self._who, "fail", "guest", value={"kind": error.kind})
            raise
        self._log.add(self._who, "ok", "guest", value={"avatar": self.avatar})

    async def connect(self, *, resume: bool | None = None) -> None:
        self._log.add(self._who, "invoke", "connect", value={"resumes": bool(self.resume_token)})
        try:
            await super().connect(resume=resume)
        except ClientError as error:
            self._log.add(self._who, "fail", "connect", value={"kind": error.kind})
            raise
        self._log.add(self._who, "ok", "connect", value={"session": self.session})

    def begin(self, op: str, **args: Any) -> "asyncio.Future[Outcome]":
        value = {"item": self._items[args["target"] >> 48]} if op == "gather" else None
        self._ops[self.number + 1] = op
        self._log.add(self._who, "invoke", op, self.number + 1, value)
        return super().begin(op, **args)

    @property
    def waits(self) -> bool:
        """A command is without result."""
        return bool(self._ops)

    def _forget_session(self) -> None:
        for number, op in self._ops.items():
            self._log.add(self._who, "unknown", op, number)
        self._ops.clear()
        super()._forget_session()

    def closed(self, code: int, reason: str) -> None:
        self._log.add(self._who, "note", "closed", value={"code": code, "left": self._asked_to_leave})
        super().closed(code, reason)

    def _heard(self, message: Json) -> None:
        kind = message["t"]
        if kind == "result":
            self._result(message)
        elif kind == "event":
            event = message["e"]
            items = event.get("items") if event.get("kind") == "inventory" else None
            self._log.add(self._who, "note", "event", message["n"], {"s": message["s"], "items": items})
            if event.get("kind") == "trade":
                self._log.add(self._who, "note", "trade", value=[event["trade"], event["state"], event["reason"]])
        elif kind == "ready":
            kept = {name: message[name] for name in ("session", "connection", "gateway", "avatar")}
            self._log.add(self._who, "note", "ready", value=kept)
        elif kind == "attached":
            kept = {name: message[name] for name in ("server", "epoch", "stream", "event", "last_input", "x", "y")}
            resync = message.get("resync")
            kept["items"] = None if resync is None else resync.get("inventory", {})
            kept["waited_ms"] = self._waited_ms(message["last_input"])
            self._log.add(self._who, "note", "attached", value=kept)
        elif kind in ("hello", "detached", "reconnect", "error"):
            self._log.add(self._who, "note", kind, value={k: v for k, v in message.items() if k != "t"})

    def _waited_ms(self, last_input: int) -> int:
        """How long the oldest input has waited that the owner, who answers now, has not applied yet."""
        now_s = asyncio.get_running_loop().time()
        return round(next(((now_s - sent_s) * 1_000 for number, sent_s in self.pending if number > last_input), 0))

    def _result(self, message: Json) -> None:
        number = message["n"]
        op = self._ops.pop(number, "?")
        if message["ok"] and op.startswith("trade_"):
            self._log.add(self._who, "ok", op, number, message.get("value", {}))
        elif message["ok"]:
            self._log.add(self._who, "ok", op, number, message.get("value", {}).get("items"))
        else:
            self._log.add(self._who, "fail", op, number, {"code": message.get("code", "")})


class ChaosBot(Bot):
    """``live`` is its whole life, as a bot's is."""

    def __init__(self, worker: Worker, index: int, log: Log, items: dict[int, str]) -> None:
        self._log = log
        self._items = items
        self._who = index
        super().__init__(worker, index, observes=False)
        self._probe: asyncio.Future[Outcome] | None = None
        self._probe_due_s = 0.0
        self._attaches = 0
        self._sway = 1.0
        self._newest = (0, 0)  # (epoch, version) of my motion as I saw it last

    def _new_client(self, gateways: list[str]) -> RecordedClient:
        self._recorded = RecordedClient(
            self._log,
            self._who,
            self._items,
            self._worker.http,
            gateways,
            on_binary=self._slice,
            on_event=self._told,
            rng=self._rng,
        )
        return self._recorded

    async def _reconnect(self) -> None:
        self._recorded.pending.clear()
        await super()._reconnect()

    def _act(self, now_s: float) -> None:
        super()._act(now_s)
        self._recorded.pending.append((self.client.input, now_s))
        silent_s = now_s - self._recorded.pending[0][1]
        if self.client.attaches != self._attaches:  # served again, perhaps by another: ask at once
            self._attaches, self._probe_due_s = self.client.attaches, 0.0
        if self._probe is not None and (self._probe.done() or now_s > self._probe_due_s + BOT_COMMAND_S):
            self._probe = None
        if self._probe is None and (now_s >= self._probe_due_s or silent_s > PROBE_AFTER_SILENCE_S):
            self._probe = self.client.begin("inventory")
            self._probe_due_s = now_s + PROBE_EVERY_S * self._rng.uniform(0.5, 1.5)

    def _steer(self) -> tuple[float, float]:
        self._sway = -self._sway
        vx, vy = super()._steer()
        turned = self._turned(vx, vy)
        ahead_s = 2 * BOT_MOVE_MS / 1_000
        clear = self._worker.land.clear(self.x, self.y, self.x + turned[0] * ahead_s, self.y + turned[1] * ahead_s)
        return turned if clear else (vx, vy)

    def _turned(self, vx: float, vy: float) -> tuple[float, float]:
        if math.hypot(vx, vy) < _JITTER_M_PER_S:
            return self._sway * _JITTER_M_PER_S, 0.0
        turn = self._sway * _SWAY
        return vx * math.cos(turn) - vy * math.sin(turn), vx * math.sin(turn) + vy * math.cos(turn)

    def _check_own(self, rows: Records) -> None:
        """Log each echo: [last input, how long the oldest input it answers waited, ms, x, y, corrected]. A gateway
        that was joined just now repeats what it kept: only what is newer counts."""
        mine = rows[rows["entity"] == self.client.avatar]
        newest = max(((int(row["epoch"]), int(row["version"])) for row in mine), default=self._newest)
        if newest <= self._newest:
            return
        self._newest = newest
        super()._check_own(rows)
        last, waited_ms = int(mine["last_input"][-1]), 0.0
        now_s = asyncio.get_running_loop().time()
        while self._recorded.pending and self._recorded.pending[0][0] <= last:
            waited_ms = max(waited_ms, (now_s - self._recorded.pending.popleft()[1]) * 1_000)
        corrected = int(mine["flags"][-1]) & FLAG_CORRECTED
        place = [round(float(mine["x"][-1]), 2), round(float(mine["y"][-1]), 2)]
        self._log.add(self._who, "note", "own", int(mine["epoch"][-1]), [last, round(waited_ms), *place, corrected])
