"""Trades being negotiated: the shell around ``world.bargain``.

The inviter's owner keeps the bargain. Each of the two avatars has a *seat* at its own owner: what its player was told
last. Deeds go from there to the keeper and come back with the state; the other one is told. Every TRADE_BEAT_MS each
seat asks for the state anew, which repairs what was lost on the way, tells the keeper where the avatar stands, and
tells both that the other's server is there: after TRADE_SILENT_MS without, it is over (``lost``). A hand-off takes
seat and bargain along.

Two who invite each other mean one trade. Whose invitation has come first is accepted by the other's. Where they cross,
that of the lower avatar stands; the other is withdrawn, and its command accepts instead::

    A: invites B ──BargainTold{T of A}──╲ ╱──> B's owner: A is lower: withdraws T of B, accepts T of A
    B: invites A ──BargainTold{T of B}──╱ ╲──> A's owner: refuses, MET and T of A: B's owner accepts that
"""

from collections.abc import Callable

import msgspec

from gameserver.documents import sleep_ms
from gameserver.invoking import Routing, serve_unit
from gameserver.ownership import Ownership
from gameserver.presence import Presence, Presences
from gameserver.trading import Trading
from gameserver.units import Fenced, Owned, UnitTable
from runtime.mesh.api import Sender
from runtime.service import Service
from world.bargain import Bargain, Phase, Side, closed, inviter_of
from world.fence import EpochFence
from world.ids import avatar_of, avatar_unit
from world.limits import TRADE_BEAT_MS, TRADE_CALL_MS, TRADE_COMMIT_MS, TRADE_SILENT_MS
from world.messages import Actor, Bargained, BargainTold, Busy, DoBargain, Json, Message, Ok
from world.results import Refusal

OVER = frozenset({Phase.COMMITTED.value, Phase.CLOSED.value})
MET = "trade_met"  # an invitation has crossed one of the invited, which stands; the detail names it
UNDECIDED = frozenset({"moved", "settled"})  # not for the run that hears it to say how the commit ended


class Seat(msgspec.Struct):
    """One of my avatars in a trade. ``heard_ms``: own clock, of the keeper's last answer. ``instead``: of the trade
    that its own command would have begun."""

    avatar: int
    trade: str
    inviter: int
    serial: int
    view: Json
    heard_ms: float = 0.0
    instead: str = ""

    @property
    def is_over(self) -> bool:
        return self.view["state"] in OVER


class Talks:
    """``actor(avatar)``: the facts I vouch for; raises Refusal ``moved``."""

    def __init__(
        self,
        service: Service,
        table: UnitTable,
        ownership: Ownership,
        routing: Routing,
        fence: EpochFence,
        presences: Presences,
        trading: Trading,
        actor: Callable[[int], Actor],
    ) -> None:
        self._service = service
        self._clock = service.clock
        self._log = service.log
        self._table = table
        self._ownership = ownership
        self._routing = routing
        self._fence = fence
        self._presences = presences
        self._trading = trading
        self._actor = actor
        self._kept: dict[str, Bargain] = {}  # of avatars of mine that invited
        self._seats: dict[int, Seat] = {}
        self._asking: set[int] = set()  # avatars whose seat asks just now
        self._resolving: set[str] = set()  # transactions looked up

    @property
    def open(self) -> int:
        """Seats in trades that are not over."""
        return sum(not seat.is_over for seat in self._seats.values())

    # -- what rules ask ------------------------------------------------------------------------------------------------
    async def act(self, avatar: int, trade: str, act: str, args: Json, key: str) -> Json:
        """A deed of an avatar of mine; its answer. Raises Refusal."""
        if act == "invite":
            return await self._invite(avatar, trade, args)
        answer = await self._ask(avatar, trade, act, args, key)
        self._show(avatar, trade, answer.serial, answer.view)
        return answer.value

    def tell_end(self, avatar: int, trade: str, code: str, commit: str) -> None:
        """How the commit that this avatar's command ran has ended, "" for well. Not waited for."""
        if code in UNDECIDED:
            return
        seat = self._seats.get(avatar)
        if not code and seat is not None and seat.trade == trade and not seat.is_over:
            self._show(avatar, trade, seat.serial + 1, seat.view | {"state": Phase.COMMITTED.value})
        self._service.spawn(self._say(avatar, trade, "end", {"code": code, "commit": commit}), f"end {trade}")

    async def _say(self, avatar: int, trade: str, act: str, args: Json, key: str = "") -> None:
        try:
            await self.act(avatar, trade, act, args, key)
        except Refusal as refusal:
            self._log.info("trade not told", trade=trade, act=act, code=refusal.code)

    async def _ask(self, avatar: int, trade: str, act: str, args: Json, key: str) -> Bargained:
        actor, unit = self._actor(avatar), avatar_unit(inviter_of(trade))

        def ask(to_epoch: int) -> DoBargain:
            return DoBargain(trade, unit, to_epoch, avatar, actor.epoch, act, key, args, actor.x, actor.y)

        async def here(owned: Owned) -> Bargained:
            return self._do(ask(owned.unit.epoch))

        answer = await self._routing.reach(unit, here, ask, TRADE_CALL_MS, take=False)
        assert isinstance(answer, Bargained), answer
        return answer

    async def _invite(self, avatar: int, trade: str, args: Json) -> Json:
        """{"trade": T}: the one begun, or that of the other's invitation. Raises Refusal ``trade_busy``,
        ``trade_closed`` (that invitation is over), ``no_such_target``, ``unreachable``."""
        if trade in self._kept:
            return {"trade": trade}
        met = self._invited_by(args["target"], avatar, trade) or await self._begin(avatar, trade, args)
        if met:
            await self._accept_instead(avatar, trade, met)
        return {"trade": met or trade}

    def _invited_by(self, other: int, avatar: int, trade: str) -> str:
        """The trade to which the other has invited this avatar, or which it has instead of this one; "" for none."""
        seat = self._seats.get(avatar)
        if seat is None or seat.is_over or seat.inviter != other:
            return ""
        return seat.trade if seat.instead == trade or seat.view["state"] == Phase.INVITED.value else ""

    async def _begin(self, avatar: int, trade: str, args: Json) -> str:
        """Invite; the other's trade where the invitations have crossed and that one stands, else "". Raises Refusal."""
        self._must_be_free(avatar)
        actor, now = self._actor(avatar), self._clock.monotonic_ms()
        inviter = Side(avatar, actor.name, actor.x, actor.y, now)
        partner = Side(args["target"], args["name"], args["x"], args["y"], now)
        bargain = self._kept[trade] = Bargain(trade, inviter, partner, now)
        seat = self._seats[avatar] = Seat(avatar, trade, avatar, 0, bargain.view(avatar), now)
        try:
            await self._tell_partner(bargain)
        except BaseException as problem:  # the partner, if reached, will ask, and learn that there is no such trade
            self._kept.pop(trade, None)
            met = self._invited_by(args["target"], avatar, trade)
            if self._seats.get(avatar) is seat:
                del self._seats[avatar]
            if isinstance(problem, Refusal) and (problem.code == MET or met):
                return met or problem.detail
            raise
        self._show(avatar, trade, bargain.serial, bargain.view(avatar))
        met = self._invited_by(args["target"], avatar, trade)
        if not met and trade not in self._kept:
            raise Refusal("trade_closed", "it is over already")
        return met

    async def _accept_instead(self, avatar: int, trade: str, met: str) -> None:
        """The command that would have begun a trade accepts the other's. Raises Refusal."""
        seat = self._seats.get(avatar)
        if seat is None or seat.trade != met:  # its keeper has named it before it told of it
            self._must_be_free(avatar)
            view = closed(met, "") | {"state": Phase.INVITED.value}
            seat = self._seats[avatar] = Seat(avatar, met, inviter_of(met), 0, view, self._clock.monotonic_ms())
        seat.instead = trade
        try:
            await self.act(avatar, met, "accept", {}, _accepting(avatar))
        except Refusal as refusal:
            if refusal.code == "trade_closed" and seat.serial == 0 and self._seats.get(avatar) is seat:
                del self._seats[avatar]  # its player has never heard of it
            raise

    def _must_be_free(self, avatar: int, trade: str = "") -> None:
        seat = self._seats.get(avatar)
        if seat is not None and not seat.is_over and seat.trade != trade:
            raise Refusal("trade_busy", "one trade at a time")

    # -- the keeper ----------------------------------------------------------------------------------------------------
    async def serve_deed(self, _: Sender, message: DoBargain) -> Message:
        """From another server. Raises Refused."""
        if not self._fence.admit(avatar_unit(message.avatar), message.epoch):
            return Busy(message.unit)

        async def here(owned: Owned) -> Bargained:
            return self._do(message)

        return await serve_unit(self._table, self._ownership, message.unit, message.to_epoch, here)

    def _do(self, message: DoBargain) -> Bargained:
        """Raises Refusal."""
        bargain, avatar, now = self._kept.get(message.trade), message.avatar, self._clock.monotonic_ms()
        if bargain is None:
            raise Refusal("trade_closed", "there is no such trade")
        if message.act != "leave":
            bargain.hear(avatar, message.x, message.y, now)
        value: Json = {}
        if message.act != "ask":
            before = bargain.serial
            value = bargain.act(avatar, message.act, message.args, message.key, now)
            if bargain.serial > before:
                self._changed(bargain, by=avatar)
        return Bargained(value, bargain.serial, bargain.view(avatar))

    def _changed(self, bargain: Bargain, by: int = 0) -> None:
        """Tell who does not learn it from an answer."""
        avatar = bargain.inviter.avatar
        self._show(avatar, bargain.trade, bargain.serial, bargain.view(avatar))
        if by != bargain.partner.avatar:
            self._service.spawn(self._tell_quietly(bargain), f"tell of {bargain.trade}")

    async def _tell_quietly(self, bargain: Bargain) -> None:
        """Lost, it is asked for; where the partner's server knows nothing of the trade, it is lost indeed."""
        try:
            await self._tell_partner(bargain)
        except Refusal as refusal:
            if refusal.code == "trade_closed" and bargain.phase in (Phase.INVITED, Phase.OPEN):
                self._end(bargain, "lost")

    async def _tell_partner(self, bargain: Bargain) -> None:
        """Raises Refusal."""
        trade, inviter, partner = bargain.trade, bargain.inviter.avatar, bargain.partner.avatar
        unit, serial, view = avatar_unit(partner), bargain.serial, bargain.view(partner)

        def ask(to_epoch: int) -> BargainTold:
            return BargainTold(trade, unit, to_epoch, partner, inviter, serial, view)

        async def here(owned: Owned) -> Ok:
            return self._told(ask(owned.unit.epoch))

        await self._routing.reach(unit, here, ask, TRADE_CALL_MS, take=False)

    def _end(self, bargain: Bargain, reason: str) -> None:
        bargain.close(reason)
        self._ended(bargain)

    def _ended(self, bargain: Bargain) -> None:
        bargain.serial += 1
        bargain.acted_ms = self._clock.monotonic_ms()
        self._changed(bargain)

    # -- the seats -----------------------------------------------------------------------------------------------------
    async def serve_told(self, _: Sender, message: BargainTold) -> Message:
        """From another server. Raises Refused."""

        async def here(owned: Owned) -> Ok:
            return self._told(message)

        return await serve_unit(self._table, self._ownership, message.unit, message.to_epoch, here)

    def _told(self, message: BargainTold) -> Ok:
        """Raises Refusal."""
        avatar, trade, now = message.avatar, message.trade, self._clock.monotonic_ms()
        if self._presences.get(avatar) is None:
            raise Refusal("no_such_target", f"{avatar} is not in the world")
        invited = message.view["state"] == Phase.INVITED.value
        if invited:
            self._cross(message)
            self._must_be_free(avatar, trade)
        seat = self._seats.get(avatar)
        if seat is None or seat.trade != trade:
            if invited:
                self._seats[avatar] = Seat(avatar, trade, message.inviter, 0, message.view, now)
            elif message.view["state"] not in OVER:
                raise Refusal("trade_closed", "it is not known here")
            elif seat is None:  # its last owner knew of it
                self._presences.tell(avatar, message.view)
        self._show(avatar, trade, message.serial, message.view)
        return Ok()

    def _cross(self, message: BargainTold) -> None:
        """The invited has itself invited who invites it. Raises Refusal MET where its own invitation stands."""
        avatar, seat = message.avatar, self._seats.get(message.avatar)
        mine = self._kept.get(seat.trade) if seat is not None else None
        if seat is None or mine is None or mine.phase is not Phase.INVITED or mine.inviter.avatar != avatar:
            return
        if mine.partner.avatar != message.inviter:
            return
        if avatar < message.inviter:
            raise Refusal(MET, mine.trade)
        del self._kept[mine.trade]
        if seat.serial:  # told already, so its command is answered, and the inviter's server has forgotten it
            self._show(avatar, mine.trade, seat.serial + 1, self._lost(seat))
        seat = Seat(avatar, message.trade, message.inviter, message.serial, message.view, instead=mine.trade)
        seat.heard_ms, self._seats[avatar] = self._clock.monotonic_ms(), seat
        self._service.spawn(
            self._say(avatar, message.trade, "accept", {}, _accepting(avatar)), f"accept {message.trade}"
        )

    def _show(self, avatar: int, trade: str, serial: int, view: Json) -> None:
        """To its player, if it is news."""
        seat = self._seats.get(avatar)
        if seat is None or seat.trade != trade or seat.is_over:
            return
        seat.heard_ms = self._clock.monotonic_ms()
        if serial > seat.serial:
            seat.serial, seat.view = serial, view
            self._presences.tell(avatar, view)

    def attached(self, presence: Presence, anew: bool) -> None:
        """Its client is here, perhaps loaded anew in the middle of a trade: it is told the state again. ``anew``: it
        was in the world before, and missed events that are gone: also that nothing it believes to be open is."""
        seat = self._seats.get(presence.avatar)
        if anew or (seat is not None and not seat.is_over):
            view = seat.view if seat is not None else closed("", "lost")
            self._presences.tell(presence.avatar, view)

    # -- the beat ------------------------------------------------------------------------------------------------------
    async def keep(self) -> None:
        """For ever."""
        while True:
            await sleep_ms(TRADE_BEAT_MS)
            self.beat()

    def beat(self) -> None:
        """Every seat asks; every bargain is looked at; what is long over is forgotten."""
        now = self._clock.monotonic_ms()
        for seat in list(self._seats.values()):
            if seat.is_over:
                if now - seat.heard_ms > TRADE_SILENT_MS:
                    del self._seats[seat.avatar]
            elif seat.avatar not in self._asking:
                self._asking.add(seat.avatar)
                self._service.spawn(self._poll(seat), f"ask for {seat.trade}")
        for bargain in list(self._kept.values()):
            if bargain.is_over:
                if now - bargain.acted_ms > 2 * TRADE_SILENT_MS:
                    del self._kept[bargain.trade]
            elif bargain.look(now):
                bargain.acted_ms = now
                self._changed(bargain)
            elif bargain.commit and now - bargain.acted_ms > TRADE_COMMIT_MS and bargain.commit not in self._resolving:
                self._resolving.add(bargain.commit)
                self._service.spawn(self._resolve(bargain, bargain.commit), f"resolve {bargain.commit}")

    async def _poll(self, seat: Seat) -> None:
        try:
            await self.act(seat.avatar, seat.trade, "ask", {}, "")
        except Refusal as refusal:
            silent_ms = self._clock.monotonic_ms() - seat.heard_ms
            if refusal.code == "trade_closed" or (refusal.code != "moved" and silent_ms > TRADE_SILENT_MS):
                self._show(seat.avatar, seat.trade, seat.serial + 1, self._lost(seat))
        finally:
            self._asking.discard(seat.avatar)

    def _lost(self, seat: Seat) -> Json:
        return seat.view | {
            "state": Phase.CLOSED.value,
            "reason": "lost",
            "i_confirmed": False,
            "they_confirmed": False,
        }

    async def _resolve(self, bargain: Bargain, commit: str) -> None:
        """Nobody has said how it ended: the inviter's unit knows."""
        owned = self._table.get(avatar_unit(bargain.inviter.avatar))
        try:
            if owned is None:
                return
            committed = await self._trading.outcome(owned, commit)
            if bargain.commit == commit:
                bargain.ended("" if committed else "lost")
                self._ended(bargain)
        except Fenced:
            return
        finally:
            self._resolving.discard(commit)

    # -- coming and going ----------------------------------------------------------------------------------------------
    def carry(self, avatar: int) -> Json:
        """What goes along when it is handed off."""
        seat = self._seats.get(avatar)
        bargain = self._kept.get(seat.trade) if seat is not None and seat.inviter == avatar else None
        found = {"seat": seat, "bargain": bargain}
        return {name: msgspec.to_builtins(value) for name, value in found.items() if value is not None}

    def arrive(self, avatar: int, carried: Json) -> None:
        """It was handed over, with this. Times begin anew."""
        now = self._clock.monotonic_ms()
        if "seat" in carried:
            seat = self._seats[avatar] = msgspec.convert(carried["seat"], Seat)
            seat.heard_ms = now
        if "bargain" in carried:
            bargain = msgspec.convert(carried["bargain"], Bargain)
            bargain.acted_ms = bargain.inviter.heard_ms = bargain.partner.heard_ms = now
            self._kept[bargain.trade] = bargain

    def dropped(self, owned: Owned, *, handed: bool) -> None:
        """The avatar is not mine any more; unless it was handed on, it has left the world."""
        seat = self._seats.pop(avatar_of(owned.key), None)
        if seat is None:
            return
        bargain = self._kept.pop(seat.trade, None) if seat.inviter == seat.avatar else None
        if handed or seat.is_over or self._service.stopping.is_set():
            return
        if bargain is not None:
            self._end(bargain, "left")
        elif seat.inviter != seat.avatar:
            self._service.spawn(self._leave(seat, owned.unit.epoch), f"leave {seat.trade}")

    async def _leave(self, seat: Seat, epoch: int) -> None:
        unit = avatar_unit(seat.inviter)

        def ask(to_epoch: int) -> DoBargain:
            return DoBargain(seat.trade, unit, to_epoch, seat.avatar, epoch, "leave", "", {}, 0.0, 0.0)

        async def here(owned: Owned) -> Bargained:
            return self._do(ask(owned.unit.epoch))

        try:
            await self._routing.reach(unit, here, ask, TRADE_CALL_MS, take=False)
        except Refusal as refusal:  # the keeper finds out by its silence
            self._log.info("trade not left", trade=seat.trade, code=refusal.code)


def _accepting(avatar: int) -> str:
    """The key of a deed that is done once, by whoever finds that invitations have met."""
    return f"{avatar}.met"
